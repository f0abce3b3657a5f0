package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/tcp"
	"github.com/skybus-io/skybus/internal/tlsfiles"
)

func TestParseTCP(t *testing.T) {
	t.Parallel()
	got, err := parseTCP("tcp.yaml", []byte(`
publish_prefixes: [orders.>, default.dev.pub.]
listeners:
- name: all
  listen: :9000
  framing: {type: line, crlf: true, empty: true}
  target:
    call: orders.create
    request: {body: merge, fields: {user.id: "{number|int}"}, header: {X-From: "{remote}"}}
    reply: {body: none, fields: {ok: "{body.ok}"}}
  one_way: true
  content_type: application/msgpack
  errors: "ERR {message}"
  limits: {max_frame: 1MiB, pipeline: 1, in_flight: 2, connections: 3, connections_per_ip: any}
  timeouts: {request: 1s, frame: 2s, idle: 3s, write: 4s, drain: 5s}
  keep_alive: off
  tls: {cert: c, key: k, client_ca: a}
- {name: little, listen: "127.0.0.1:0", framing: prefix2-little, target: {stream: "orders.{line}"}, limits: {connections_per_ip: 4}, keep_alive: 1m}
- {name: timer, listen: "127.0.0.1:0", framing: {type: prefix, bytes: 2, order: little}, target: {timer: {after: 1s, id: "{number}", target: "route://x"}}, tls: }
- {name: record, listen: "[::1]:9000", framing: {type: fixed, size: 80B, binary: true}, target: {route: x}, errors: json}
- {name: plain, listen: "127.0.0.1:9001", target: {publish: orders.new}}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &tcpSetup{PublishPrefixes: []string{"orders.", "default.dev.pub."}, Listeners: []tcpListener{
		{
			Config: tcp.Config{
				Name: "all", Framing: tcp.Line{CRLF: true, Empty: true}, OneWay: true, ContentType: "application/msgpack", MaxFrame: 1 << 20, Pipeline: 1, MaxInFlight: 2,
				MaxConns: 3, MaxConnsPerIP: -1, Timeout: time.Second, FrameTimeout: 2 * time.Second, IdleTimeout: 3 * time.Second, WriteTimeout: 4 * time.Second,
				Drain: 5 * time.Second, KeepAlive: -1,
			},
			Listen: ":9000", ErrorText: "ERR {message}", Files: tlsfiles.Files{Cert: "c", Key: "k", ClientCA: "a"},
			Target: initiators.Spec{
				Call:    "orders.create",
				Request: &initiators.Mapping{Body: "merge", Fields: map[string]string{"user.id": "{number|int}"}, Header: map[string]string{"X-From": "{remote}"}},
				Reply:   &initiators.Mapping{Body: "none", Fields: map[string]string{"ok": "{body.ok}"}},
			},
		},
		{Config: tcp.Config{Name: "little", Framing: tcp.Prefix{Bytes: 2, LittleEndian: true}, MaxConnsPerIP: 4, KeepAlive: time.Minute}, Listen: "127.0.0.1:0", Target: initiators.Spec{Stream: "orders.{line}"}},
		{Config: tcp.Config{Name: "timer", Framing: tcp.Prefix{Bytes: 2, LittleEndian: true}}, Listen: "127.0.0.1:0", Target: initiators.Spec{Timer: &initiators.TimerSpec{After: "1s", ID: "{number}", Target: "route://x"}}},
		{Config: tcp.Config{Name: "record", Framing: tcp.Fixed{Size: 80, Binary: true}}, Listen: "[::1]:9000", ErrorText: "json", Target: initiators.Spec{Route: "x"}},
		{Config: tcp.Config{Name: "plain"}, Listen: "127.0.0.1:9001", Target: initiators.Spec{Publish: "orders.new"}},
	}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(tcp.Config{}, "Errors")); diff != "" {
		t.Error(diff)
	}
}

func TestParseTCPRefuses(t *testing.T) {
	t.Parallel()
	const good = "{name: a, listen: '127.0.0.1:1', target: {route: x}"
	for name, tt := range map[string]struct{ text, want string }{
		"nothing":         {"", "it is empty: want a list of listeners"},
		"no listeners":    {"listeners: []", "listeners: there is none"},
		"no list":         {"listeners: x", "line 1: listeners: want a list of listeners"},
		"not YAML":        {"listeners: [", "line 1, column "},
		"two documents":   {"listeners: [" + good + "}]\n---\na: b", "line 3: there is something after the list of listeners"},
		"name":            {"listeners:\n- {name: a b, listen: '127.0.0.1:1', target: {route: x}}", "line 2: listeners[0].name: "},
		"no name":         {"listeners:\n- {listen: '127.0.0.1:1', target: {route: x}}", "line 2: listeners[0].name: "},
		"name twice":      {"listeners:\n- " + good + "}\n- {name: a, listen: '127.0.0.1:2', target: {route: x}}", `line 3: listeners[1].name: "a" is there already, as listeners[0]`},
		"address twice":   {"listeners:\n- " + good + "}\n- {name: b, listen: ':1', target: {route: x}}", "line 3: listeners[1].listen: :1 is that of listeners[0] already"},
		"no address":      {"listeners:\n- {name: a, target: {route: x}}", "line 2: listeners[0].listen: is missing"},
		"address":         {"listeners:\n- {name: a, listen: 9000, target: {route: x}}", `line 2: listeners[0].listen: "9000": want host:port`},
		"no target":       {"listeners:\n- {name: a, listen: ':1'}", "line 2: listeners[0].target: has 0 of call, route, publish, stream and timer: want one"},
		"two targets":     {"listeners:\n- {name: a, listen: ':1',\n   target: {route: x, call: a.b}}", "line 3: listeners[0].target: has 2 of call, route"},
		"target":          {"listeners:\n- name: a\n  listen: ':1'\n  target:\n    call: a", `line 5: listeners[0].target.call: "a": want service.endpoint`},
		"mapping":         {"listeners:\n- name: a\n  listen: ':1'\n  target:\n    call: a.b\n    request:\n      fields:\n        x: '{y'", "line 8: listeners[0].target.request.fields.x: "},
		"timer":           {"listeners:\n- name: a\n  listen: ':1'\n  target:\n    timer:\n      after: soon\n      target: route://x", "line 6: listeners[0].target.timer.after: "},
		"framing":         {"listeners:\n- " + good + ",\n   framing: {type: lines}}", `line 3: listeners[0].framing.type: "lines": want line, prefix or fixed`},
		"framing's field": {"listeners:\n- " + good + ",\n   framing: {type: line, size: 1}}", "line 3: listeners[0].framing.size: is for the type fixed"},
		"order":           {"listeners:\n- " + good + ",\n   framing: {type: prefix, order: middle}}", `line 3: listeners[0].framing.order: "middle": want big or little`},
		"bytes":           {"listeners:\n- " + good + ",\n   framing: {type: prefix, bytes: 3}}", "line 3: listeners[0].framing: a length of 3 bytes before frames: want 1, 2 or 4"},
		"size":            {"listeners:\n- " + good + ", limits: {max_frame: 10B},\n   framing: fixed:11}", "line 3: listeners[0].framing: frames of 11 bytes are longer than what is taken, 10"},
		"both":            {"listeners:\n- " + good + ",\n   framing: {type: line, crlf: true, keep_cr: true}}", "line 3: listeners[0].framing: crlf and keep_cr do not go together"},
		"max_frame":       {"listeners:\n- " + good + ",\n   limits: {max_frame: 1GiB}}", "line 3: listeners[0].limits.max_frame: 1073741824, it must be 1 to 67108864"},
		"pipeline":        {"listeners:\n- " + good + ",\n   limits: {pipeline: 100000}}", "line 3: listeners[0].limits.pipeline: 100000, it must be 1 to 65536"},
		"errors":          {"listeners:\n- " + good + ",\n   errors: '{what}'}", `line 3: listeners[0].errors: "{what}": want {code}`},
		"tls":             {"listeners:\n- " + good + ",\n   tls: {cert: x}}", "line 3: listeners[0].tls: cert and key go together"},
		"client_ca":       {"listeners:\n- " + good + ",\n   tls: {client_ca: x}}", "line 3: listeners[0].tls: cert and key go together"},
		"duration":        {"listeners:\n- " + good + ",\n   timeouts: {idle: 5}}", "line 3: listeners[0].timeouts.idle: \"5\": want a duration such as"},
		"below 0":         {"listeners:\n- " + good + ",\n   timeouts: {idle: -5s}}", "line 3: listeners[0].timeouts.idle: want a duration above 0"},
		"fields":          {"listeners:\n- {name: a, listen: ':1',\n   target: {call: a.b, request: {fields: [x]}}}", "line 3: listeners[0].target.request.fields: want names, each with a text"},
	} {
		_, err := parseTCP("f", []byte(tt.text))
		if err == nil || !strings.Contains(message(err), tt.want) {
			t.Errorf("%s: error %v, want %s", name, err, tt.want)
		}
	}
}
