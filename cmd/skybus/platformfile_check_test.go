package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// checkFile is what `skybus config check` says of a file with that text: the mistakes, or nothing.
func checkFile(t *testing.T, text string, more ...string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "skybus.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := runs(t.Context(), &cli{}, append([]string{"config", "check", file}, more...)...)
	if code == exitOK {
		return nil
	}
	if code != exitUsage {
		t.Errorf("exit %d: %s", code, stderr)
	}
	text, _, _ = strings.Cut(stderr, "\nhint: ")
	lines := strings.Split(strings.TrimPrefix(text, "skybus: "+file+": "), "\n")
	if len(lines) > 1 {
		lines = lines[1:] // how many there are
	}
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return lines
}

// TestCheckTogether: all that does not go together in a file is told at once.
func TestCheckTogether(t *testing.T) {
	t.Setenv("NATS_URL", "")
	text := `http: 127.0.0.1:9000
http_listener: {inner: 127.0.0.1:9001}
admin: 127.0.0.1:3000
gateway:
  entries:
    a: {path: /a, call: x.y, listener: outer}
    b: {path: /b, call: x.y, listener: inner, auth: {scopes: [a:b]}}
    c: {path: /c, publish: orders.new}
    d: {path: "/d/{id}", events: {subject: "default.dev.svc.{path.id}"}}
    e: {path: /e, timer: {after: 1s, target: "nats://orders.late"}}
mirror:
  http: 0.0.0.0:9001
  backends: [{name: a, url: "http://127.0.0.1:1"}]
tcp:
  listeners:
    - {name: a, listen: "localhost:9000", target: {publish: default.dev.pub.a}}
    - {name: b, listen: ":7118", target: {stream: orders.lines}}
files:
  publish_prefixes: [rows]
  sources:
    - {name: a, dir: in, target: {publish: rows.a}}
    - {name: b, dir: in, target: {publish: default.dev.pub.b}}
`
	want := []string{
		`line 6: gateway.entries.a.listener: "outer" is no listener of http_listener (it defines inner): add it there, as in http_listener: {outer: 127.0.0.1:8090}, or name one that is there`,
		`line 7: gateway.entries.b.auth: asks for a credential, and the gateway takes none, so nobody could use the entry: set gateway.access (docs/gateway-auth.md) or access: FILE with keys, jwt or mtls, or leave auth out`,
		`line 8: gateway.entries.c.publish: subject "orders.new": only those below default.dev.pub. are allowed: allow another by publish_prefix, or change the subject`,
		`line 9: gateway.entries.d.events.subject: "default.dev.svc.{path.id}": only those below default.dev.pub. and default.dev.ev. are allowed: allow another by publish_prefix, or change the subject`,
		`line 10: gateway.entries.e.timer.target: subject "orders.late": timers publish below default.dev.pub. only: allow another by publish_prefix, or change the subject`,
		`line 17: tcp.listeners[1].target.stream: subject "orders.lines": only those below default.dev.pub. are allowed: allow another by tcp.publish_prefixes, or change the subject`,
		`line 22: files.sources[1].target.publish: subject "default.dev.pub.b": only those below rows. are allowed: allow another by files.publish_prefixes, or change the subject`,
		`line 3: admin: 127.0.0.1:3000 is where timers listens already, by default: give one of them another port`,
		`line 12: mirror.http: 0.0.0.0:9001 is where http_listener.inner (line 2) listens already: give one of them another port`,
		`line 16: tcp.listeners[0].listen: localhost:9000 is where http (line 1) listens already: give one of them another port`,
		`line 17: tcp.listeners[1].listen: :7118 is where mirror.admin (line 11) listens already: give one of them another port`,
	}
	if diff := cmp.Diff(want, checkFile(t, text)); diff != "" {
		t.Error(diff)
	}
	// Beside mistakes within the parts, too.
	if got := checkFile(t, "htpp: x\n"+text); len(got) != len(want)+1 {
		t.Errorf("with another mistake: %q", got)
	}
}

func TestCheckTogetherSound(t *testing.T) {
	t.Setenv("NATS_URL", "")
	for name, text := range map[string]string{
		"listener":            "http_listener: inner=127.0.0.1:8090\ngateway: {entries: {a: {path: /a, call: x.y, listener: inner}}}\n",
		"listeners in a list": "http_listener: [\"inner=127.0.0.1:8090\", \"b=127.0.0.1:8091\"]\ngateway: {entries: {a: {path: /a, call: x.y, listener: b}, c: {path: /c, call: x.y, listener: \"*\"}}}\n",
		"keys":                "gateway: {access: {keys: {}}, entries: {a: {path: /a, call: x.y, auth: {scopes: [b]}}}}\n",
		"a file elsewhere":    "access: not-here.yaml\ngateway: {entries: {a: {path: /a, call: x.y, auth: {scopes: [b]}}}}\n",
		"anonymous":           "gateway: {entries: {a: {path: /a, call: x.y, auth: {anonymous: true}}}}\n",
		"prefix":              "publish_prefix: [orders]\ngateway: {entries: {a: {path: /a, publish: orders.new}, b: {path: /b, events: {subject: orders.new}}, c: {path: \"/c/{d}\", timer: {after: 1s, target: \"nats://orders.{path.d}\"}}}}\n",
		"namespace":           "namespace: shop.prod\ngateway: {entries: {a: {path: /a, publish: shop.prod.pub.a}, b: {path: /b, events: {subject: shop.prod.ev.b}}}}\n",
		"any port":            "http: 127.0.0.1:0\nadmin: 127.0.0.1:0\n",
		"hosts apart":         "http: 127.0.0.2:80\nadmin: 127.0.0.3:80\n",
		"server elsewhere":    "server: nats://nats.example.org:4222\nhttp: 127.0.0.1:4222\n",
	} {
		if got := checkFile(t, text); got != nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := checkFile(t, "namespace: shop.prod\ngateway: {entries: {a: {path: /a, publish: shop.prod.pub.a}}}\n", "--namespace", "shop.test"); len(got) != 1 {
		t.Errorf("in another namespace: %q", got)
	}
}

// TestCheckCredentials: what asks for credentials of which there are none.
func TestCheckCredentials(t *testing.T) {
	t.Setenv("NATS_URL", "")
	const entry = "entries: {a: {path: /a, call: x.y, auth: {kinds: [jwt, certificate]}}}"
	got := checkFile(t, "gateway: {access: {keys: {}}, "+entry+"}\n")
	want := []string{"line 1: gateway.entries.a.auth.kinds: the gateway takes none of these: set gateway.access (docs/gateway-auth.md) or access: FILE with jwt or mtls, or name kinds that it takes"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = checkFile(t, "gateway: {access: {mtls: {}}, "+entry+"}\n")
	want = []string{"line 1: gateway.access.mtls: takes client certificates (mtls), and nobody is asked for one: set http_client_ca, with http_tls_cert and http_tls_key, or leave mtls out"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got = checkFile(t, "gateway: {access: {kees: {}}, "+entry+"}\n"); len(got) != 1 || !strings.Contains(got[0], "gateway.access.kees: unknown field") {
		t.Errorf("access that has mistakes: %q", got)
	}
	access := filepath.Join(t.TempDir(), "access.yaml")
	if err := os.WriteFile(access, []byte("keys: {}\nmtls: {nam: cn}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got = checkFile(t, "access: "+access+"\ngateway: {"+entry+"}\n"); len(got) != 1 || !strings.Contains(got[0], "line 1: access: ") || !strings.Contains(got[0], "line 2: mtls.nam: unknown field") {
		t.Errorf("a file that has mistakes: %q", got)
	}
}

// TestFileListeners: a file may define several listeners of the gateway.
func TestFileListeners(t *testing.T) {
	t.Setenv("NATS_URL", "")
	for text, want := range map[string]string{
		"http_listener: inner\n":                                "line 1: http_listener: want NAME=VALUE",
		"http_listener: [\"a=127.0.0.1:1\", \"a=127.0.0.1:2\"]": "line 1: http_listener[1]: a is there already",
		"http_listener:\n  a b: 127.0.0.1:1\n":                  "line 1: http_listener: ",
		"http_listener: {a: nonsense}\n":                        "line 1: http_listener: a \"nonsense\": want host:port",
	} {
		if got := checkFile(t, text); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// TestMistakesSpeakOfFields: what is wrong is told in the words of the file, not in those of the packages that read it.
func TestMistakesSpeakOfFields(t *testing.T) {
	t.Setenv("NATS_URL", "")
	source := func(text string) string {
		return "files: {sources: [{name: a, " + text + ", target: {call: x.y}}]}\n"
	}
	listener := func(text string) string {
		return "tcp: {listeners: [{name: a, listen: \"127.0.0.1:0\", target: {call: x.y}, " + text + "}]}\n"
	}
	goName := regexp.MustCompile(`\b(?:[A-Z][a-z]+[A-Z]\w*|\w+\.[A-Z]\w+|Include|Exclude|Recursive|Rotated|Comma|Columns|Done)\b`)
	for text, want := range map[string]string{
		source("follow: a.log, include: [b]"):                              "files.sources[0].follow: include, exclude and recursive",
		source("dir: in, from_end: true"):                                  "files.sources[0].dir: from_end and rotated",
		source("dir: in, format: lines, columns: [b]"):                     "files.sources[0].format: comma and columns",
		source("dir: in, done: x, failed: x"):                              "files.sources[0].failed: \"x\" is where finished files go (done)",
		source("dir: in, max_record: 1GiB"):                                "files.sources[0].max_record: ",
		listener("framing: {type: line, crlf: true, keep_cr: true}"):       "tcp.listeners[0].framing: crlf and keep_cr do not go together",
		listener("framing: {type: prefix, bytes: 3}"):                      "tcp.listeners[0].framing: a length of 3 bytes",
		listener("framing: \"fixed:100000\""):                              "tcp.listeners[0].framing: frames of 100000 bytes are longer",
		listener("limits: {pipeline: 1000000}"):                            "tcp.listeners[0].limits.pipeline: ",
		listener("proxy_protocol: [x]"):                                    "tcp.listeners[0].proxy_protocol: [0]: ",
		listener("rates: {ip: {requests: 5000000000}}"):                    "tcp.listeners[0].rates: ",
		"gateway: {entries: {a: {path: /a, call: x.y, statuses: {b: 1}}}}": "gateway.entries.a.statuses.b: is no code",
		"trusted_origin: [nonsense]\n":                                     "trusted_origin: ",
	} {
		got := checkFile(t, text)
		if len(got) != 1 || !strings.HasPrefix(got[0], "line 1: "+want) || goName.MatchString(got[0]) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
