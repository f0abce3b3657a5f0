package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/file"
)

const fullFiles = `
publish_prefixes: [shop.]
sources:
  - name: a
    per_host: true
    dir: in
    include: ["*.csv"]
    exclude: [x]
    recursive: true
    order: name
    format: csv
    comma: "\t"
    columns: [one, two]
    content_type: text/csv
    max_record: 2MiB
    parallel: 8
    window: 100
    checkpoint: 50ms
    quiet: 0s
    rescan: 1m
    after: delete
    done: ok
    failed: bad
    forget: 1h
    timeout: 3s
    retry: {tries: 4, first: 1s, last: 2s, codes: [unavailable]}
    once: true
    lease: 3s
    drain: 4s
    target:
      timer: {after: 1h, id: "{record.one}", target: "call://a.b"}
      request: {body: none, fields: {n.m: "{record.one|int}"}, header: {X-File: "{file}"}}
  - name: b
    follow: log
    from_end: true
    rotated: ["log.*"]
    quiet: 3s
    target: {stream: "default.dev.pub.{line}"}
`

func TestFilesFile(t *testing.T) {
	t.Parallel()
	got, err := parseFiles("f", []byte(fullFiles))
	if err != nil {
		t.Fatal(err)
	}
	want := &filesSetup{
		PublishPrefixes: []string{"shop."},
		Sources: []fileSource{{
			PerHost: true,
			Config: file.Config{
				Name: "a", Dir: "in", Include: []string{"*.csv"}, Exclude: []string{"x"}, Recursive: true, Order: file.ByName, Format: file.CSV, Comma: '\t',
				Columns: []string{"one", "two"}, ContentType: "text/csv", MaxRecord: 2 << 20, Parallel: 8, Window: 100, Checkpoint: 50 * time.Millisecond,
				Quiet: -1, Rescan: time.Minute, After: file.Delete, Done: "ok", Failed: "bad", Forget: time.Hour, Timeout: 3 * time.Second, Tries: 4,
				RetryFirst: time.Second, RetryLast: 2 * time.Second, RetryCodes: []bus.Code{bus.Unavailable}, Once: true, Lease: 3 * time.Second, Drain: 4 * time.Second,
			},
			Target: initiators.Spec{
				Timer:   &initiators.TimerSpec{After: "1h", ID: "{record.one}", Target: "call://a.b"},
				Request: &initiators.Mapping{Body: "none", Fields: map[string]string{"n.m": "{record.one|int}"}, Header: map[string]string{"X-File": "{file}"}},
			},
		}, {
			Config: file.Config{Name: "b", Follow: "log", FromEnd: true, Rotated: []string{"log.*"}, Quiet: 3 * time.Second},
			Target: initiators.Spec{Stream: "default.dev.pub.{line}"},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFilesFileMistakes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                              "it is empty: want a list of sources",
		"sources: []":                   "sources: there are none: want one or more",
		"sources: 3":                    "line 1: sources: want a list of sources, each beginning with a dash",
		"source: []":                    "line 1: source: unknown field: want publish_prefixes, sources",
		"sources:\n- name: a\n  dir: x": "line 2: sources[0].target: has 0 of call, route, publish, stream and timer: want one",
		"sources:\n- dir: x\n  target: {call: a.b}":                                                        "line 2: sources[0].name: is empty: want 1 to 64 characters of A-Z a-z 0-9 _ -",
		"sources:\n- name: a\n  target: {call: a.b}":                                                       "line 2: sources[0].dir: want a directory, or a file to follow, and not both",
		"sources:\n- name: a\n  dir: x\n  max_record: 1GiB\n  target: {call: a.b}":                         "line 4: sources[0].max_record: 1073741824: want 1 to 67108864",
		"sources:\n- name: a\n  dir: x\n  retry:\n    tries: 0\n  target: {call: a.b}":                     "line 5: sources[0].retry.tries: 0: want 1 or more",
		"sources:\n- name: a\n  dir: x\n  format: csv\n  comma: ';;'\n  target: {call: a.b}":               `line 5: sources[0].comma: ";;": want one character such as ";", or "\t"`,
		"sources:\n- name: a\n  dir: x\n  target:\n    call: ab":                                           "line 5: sources[0].target.call: ",
		"sources:\n- name: a\n  dir: x\n  target:\n    call: a.b\n    request:\n      fields: {x: '{'}":    "line 7: sources[0].target.request.fields.x: ",
		"sources:\n- name: a\n  dir: x\n  target: {call: a.b}\n- name: a\n  dir: y\n  target: {call: a.b}": `line 5: sources[1].name: "a" is there already, as sources[0]`,
	} {
		_, err := parseFiles("f", []byte(in))
		if err == nil || !strings.HasPrefix(message(err), "f: "+want) {
			t.Errorf("%q: %v\nwant %s", in, err, want)
		}
	}
}

func TestDefaultSourceName(t *testing.T) {
	t.Parallel()
	for path, base := range map[string]string{"/var/spool/orders": "orders-", "/x/app.log": "app_log-", "/": "_-", "/" + strings.Repeat("é", 100): strings.Repeat("_", 40) + "-"} {
		name, err := defaultSourceName(path)
		if err != nil || !strings.HasPrefix(name, base) || bus.CheckToken("name", name) != nil {
			t.Errorf("%q: %q, %v", path, name, err)
		}
	}
}
