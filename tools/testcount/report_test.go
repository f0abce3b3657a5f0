package main

import (
	"strings"
	"testing"
)

// reportCase is what `go test -json` printed and what is to come of it.
type reportCase struct {
	name   string
	events string
	want   string // all of the output
	count  string
}

func TestReport(t *testing.T) {
	t.Parallel()
	for _, tc := range []reportCase{
		{
			name: "a package that passes is one line",
			events: `
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"noise\n"}
{"Action":"run","Package":"p","Test":"TestA/sub"}
{"Action":"pass","Package":"p","Test":"TestA/sub"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}`,
			want:  "ok  \tp\t0.1s\n",
			count: "2 passed, 0 failed",
		},
		{
			name: "what failed and what was skipped is shown",
			events: `
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"run","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: wrong\n"}
{"Action":"output","Package":"p","Test":"TestC","Output":"    a_test.go:3: not here\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    a_test.go:2: fine\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"skip","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}`,
			want:  "    a_test.go:1: wrong\n    a_test.go:3: not here\nFAIL\tp\t0.1s\n",
			count: "1 passed, 1 failed, 1 skipped",
		},
	} {
		t.Run(tc.name, tc.check)
	}
}

func TestReportBroken(t *testing.T) {
	t.Parallel()
	for _, tc := range []reportCase{
		{
			name: "a test that never ended failed",
			events: `
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"half\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}`,
			want:  "TestA had begun and not ended\nhalf\nFAIL\tp\t0.1s\n",
			count: "0 passed, 1 failed",
		},
		{
			name: "a package that does not build counts",
			events: `
{"ImportPath":"p","Action":"build-output","Output":"p.go:1: syntax error\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p","FailedBuild":"p"}`,
			want:  "p.go:1: syntax error\nFAIL\tp [build failed]\n",
			count: "0 passed, 1 failed",
		},
		{
			name:   "no event is passed on",
			events: "go: warning\nnull",
			want:   "go: warning\nnull",
			count:  "0 passed, 0 failed",
		},
	} {
		t.Run(tc.name, tc.check)
	}
}

func (tc reportCase) check(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	r := newReport(&out)
	if err := r.read(strings.NewReader(strings.TrimSpace(tc.events))); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != tc.want {
		t.Errorf("output\n%s\nwant\n%s", got, tc.want)
	}
	if got := r.summary(); got != tc.count {
		t.Errorf("count %q, want %q", got, tc.count)
	}
}
