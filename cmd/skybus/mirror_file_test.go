package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skybus-io/skybus/mirror"
)

func TestMirrorFile(t *testing.T) {
	t.Parallel()
	got, err := parseMirror("f", []byte(`
name: shop
http: 0.0.0.0:7117
admin: "off"
tls: {cert: cert.pem, key: key.pem}
token_file: tokens
hosts: [app.example]
lanes: 16
key: path:2
methods: [POST, LINK]
ack: quorum
ack_rules:
  - {method: POST, path: /orders/, ack: all}
primary: a
answer_timeout: 3s
store_timeout: 4s
status_path: /s/
divergence: stop
trust_forwarded: true
encoded_slash: true
reads: {order: priority, max_lag: any, wait: 1s, timeout: 9s, cookie: c}
health: {path: /up, every: 5s, timeout: 1s, status: 200-299, body: ok, healthy: 2, unhealthy: 4}
ejection: {consecutive_failures: 3, base_time: 1s, max_time: 1m, max_percent: 50, interval: 2s}
retry: {timeout: 2s, tries: 3, max_age: 1h}
limits: {max_body: 1MiB, max_answer: 1KiB, max_writes: 9, max_write_bytes: 8MiB, max_header: 8KiB, max_fields: 50, max_target: 1KiB, window: 10, window_bytes: 2MiB, drain_requests: 2, history: 0}
sender: {commit: 10ms, lease: 3s, drain: 5s}
backends:
  - url: http://10.0.0.1:8080/
  - {name: b, url: https://b.example, priority: -1, active: false, maintenance: true}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &mirrorSetup{
		Config: mirror.Config{
			Name: "shop", Lanes: 16, Key: "path:2", WriteMethods: []string{"POST", "LINK"}, Ack: mirror.Quorum,
			AckRules: []mirror.AckRule{{Method: "POST", Path: "/orders/", Ack: mirror.All}}, Primary: "a", AnswerTimeout: 3 * time.Second,
			StoreTimeout: 4 * time.Second, StatusPath: "/s/", Divergence: mirror.Stop, TrustForwarded: true, EncodedSlash: true, Reads: mirror.ByPriority,
			MaxLag: -1, ReadWait: time.Second, ReadTimeout: 9 * time.Second, Cookie: "c",
			Health:     mirror.Health{Path: "/up", Every: 5 * time.Second, Timeout: time.Second, Status: "200-299", Body: "ok", Healthy: 2, Unhealthy: 4},
			Ejection:   mirror.Ejection{ConsecutiveFailures: 3, BaseEjectionTime: time.Second, MaxEjectionTime: time.Minute, MaxEjectionPercent: 50, Interval: 2 * time.Second},
			TryTimeout: 2 * time.Second, Tries: 3, MaxAge: time.Hour, MaxBody: 1 << 20, MaxAnswer: 1 << 10, MaxWrites: 9, MaxWriteBytes: 8 << 20,
			MaxHeader: 8 << 10, MaxFields: 50, MaxTarget: 1 << 10, Window: 10, WindowBytes: 2 << 20, DrainRequests: 2, History: -1,
			Commit: 10 * time.Millisecond, Lease: 3 * time.Second, Drain: 5 * time.Second,
		},
		HTTP: "0.0.0.0:7117", Admin: "off", TLSCert: "cert.pem", TLSKey: "key.pem", TokenFile: "tokens", Hosts: []string{"app.example"},
		Backends: []mirrorSeed{
			{Name: "10-0-0-1-8080", URL: "http://10.0.0.1:8080"},
			{Name: "b", URL: "https://b.example", Priority: new(-1), Active: new(false), Maintenance: new(true)},
		},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mirrorSeed{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A file of Spawn's, as spawnctl's own manual has it, with tabs.
const spawnFile = "{\n\t\"host\": \"0.0.0.0\",\n\t\"port\": 7117,\n\t\"api\": {\"host\": \"127.0.0.1\"},\n" +
	"\t\"query-mode\": {\"round-robin\": true, \"by-priority\": true},\n" +
	"\t\"health-check\": {\"seconds\": 5, \"url\": \"/up\", \"regexp\": \"o\\\\s?k\"},\n" +
	"\t\"nodes\": [\n\t\t{\"host\": \"a.example\", \"port\": 80, \"priority\": 1, \"active\": true},\n\t\t{\"host\": \"a.example\", \"port\": 81, \"maintenance\": true}\n\t],\n" +
	"\t\"auth\": {\"type\": \"LDAP\", \"expiration\": 30, \"host\": \"ldap\", \"port\": 389, \"settings\": {\"attributes\": [\"cn\"]}},\n\t\"testMode\": false\n}\n"

func TestSpawnFile(t *testing.T) {
	t.Parallel()
	got, err := parseMirror("f", []byte(spawnFile))
	if err != nil {
		t.Fatal(err)
	}
	want := &mirrorSetup{
		Config: mirror.Config{Reads: mirror.RoundRobin, Health: mirror.Health{Path: "/up", Every: 5 * time.Second, Body: `o\s?k`}},
		HTTP:   "0.0.0.0:7117", Admin: "127.0.0.1:7118",
		Backends: []mirrorSeed{
			{Name: "a-example-80", URL: "http://a.example:80", Priority: new(1), Active: new(true), idle: true},
			{Name: "a-example-81", URL: "http://a.example:81", Maintenance: new(true), idle: true},
		},
		Notes: []string{
			"line 11: auth is not used: /login gave out tokens that nothing asked for; --token-file names tokens that every request to the admin API needs",
			"health-check: a check also wants a status of 200 to 399, where Spawn looked at the body alone",
		},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mirrorSeed{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got, err = parseMirror("f", []byte(`{"nodes": [], "query-mode": {"round-robin": false}, "health-check": {"url": "/"}, "testMode": true}`))
	if err != nil || got.Health.Path != "" || len(got.Notes) > 0 || got.Reads != mirror.ByPriority || !got.Test || got.HTTP != "" {
		t.Errorf("%+v %v", got, err)
	}
}

func TestMirrorFileMistakes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, file, want string }{
		{"nothing", "", "f: it is empty: want a mirror"},
		{"a list", "- a\n", "f: line 1: want fields, one of them ack, ack_rules, admin,"},
		{"two documents", "name: a\n---\nname: b\n", "f: line 3: there is something after the mirror"},
		{"no YAML", "name: [\n", "f: line 1, column"},
		{"unknown", "name: a\nback-ends: []\n", "f: line 2: back-ends: unknown field: want ack,"},
		{"unknown of Spawn's", `{"nodes": [], "node": 1}`, "f: line 1: node: unknown field: want api, auth, health-check, host, nodes, port, query-mode, testMode"},
		{"unknown within", "reads:\n  lag: 1s\n", "f: line 2: reads.lag: unknown field: want cookie, max_lag, order, timeout, wait"},
		{"several", "lanes: x\nack_rules: 1\n", "f: 2 mistakes:\n  line 1: lanes: want a whole number\n  line 2: ack_rules: want a list of rules"},
		{"duration", "answer_timeout: 5\n", `f: line 1: answer_timeout: "5": want a duration such as 500ms or 10s`},
		{"size", "limits: {max_body: many}\n", `f: line 1: limits.max_body: "many": want a size such as`},
		{"boolean", "encoded_slash: maybe\n", "f: line 1: encoded_slash: want true or false"},
		{"lanes", "name: a\n\nlanes: 5000\n", "f: line 3: lanes: 5000, it must be 1 to 1024"},
		{"key", "key: color\n", `f: line 1: key: key "color": want path, path:N,`},
		{"ack", "ack: some\n", `f: line 1: ack: "some" is none of first`},
		{"order", "reads:\n  order: random\n", `f: line 2: reads.order: "random", it must be`},
		{"commit", "sender: {commit: 1s}\n", "f: line 1: sender.commit: 1s, it must be 1ms to 50ms"},
		{"health", "health:\n  body: \"(\"\n", "f: line 2: health.body: error parsing regexp"},
		{"status", "health: {status: 2xx}\n", `f: line 1: health.status: "2xx": want numbers from 100 to 599`},
		{"address", "http: localhost\n", `f: line 1: http "localhost": want host:port`},
		{"tls", "tls:\n  cert: a\n", "f: line 1: tls: cert and key go together"},
		{"url", "backends:\n  - url: http://a:1\n  - url: ftp://a\n", `f: line 3: backends[1]: url: "ftp://a": want http://host:port`},
		{"no url", "backends:\n  - name: a\n", "f: line 2: backends[0]: url:"},
		{"twice", "backends:\n  - url: http://a:1\n  - {name: a-1, url: http://b}\n", `f: line 3: backends[1]: "a-1" is there already, as backends[0]`},
		{"Spawn's port", `{"port": 70000}`, "f: line 1: port: 70000 is no port"},
		{"Spawn's node", "{\"nodes\": [\n{\"port\": 1}]}", "f: line 2: nodes[0]: want a host and a port of 1 to 65535"},
		{"Spawn's regexp", `{"health-check": {"regexp": "("}}`, "f: line 1: health-check.regexp: error parsing regexp"},
		{"both", "{\"nodes\": [],\n\"lanes\": 1}", "f: line 1: nodes: that is a field of Spawn's files; here it is backends"},
	} {
		_, err := parseMirror("f", []byte(tt.file))
		if err == nil || !strings.HasPrefix(message(err), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

func FuzzMirrorFile(f *testing.F) {
	f.Add([]byte("name: a\nbackends: [{url: \"http://a\"}]\n"))
	f.Add([]byte(spawnFile))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseMirror("f", data)
		if err != nil {
			return
		}
		if err := s.Validate(); err != nil {
			t.Errorf("%q: %v", data, err)
		}
		for _, b := range s.Backends {
			if err := b.apply(mirror.Backend{}).Validate(); err != nil {
				t.Errorf("%q: %v", data, err)
			}
		}
	})
}

func TestMirrorFileOfTheExample(t *testing.T) {
	t.Parallel()
	s, err := readMirrorFile("../../examples/mirror/mirror.yaml")
	if err != nil || s.Name != "todo" || len(s.Backends) != 3 {
		t.Errorf("%+v %v", s, err)
	}
}
