package http_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
	gateway "github.com/skybus-io/skybus/initiators/http"
)

func TestBadBodies(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{})
	many := make([]string, 1001)
	for i := range many {
		many[i] = fmt.Sprintf("f%d=1", i)
	}
	tests := map[string]struct {
		contentType, body string
		status            int
		says              string
	}{
		"no JSON":             {typeJSON, "input=x", 400, "not JSON"},
		"cut short":           {typeJSON, `{"a":`, 400, "at byte 5"},
		"text after it":       {typeJSON, `{} x`, 400, "at byte 4"},
		"two values":          {typeJSON, `{}{}`, 400, "not JSON"},
		"NUL":                 {typeJSON, "\x00", 400, "not JSON"},
		"deep":                {typeJSON, strings.Repeat("[", 100_000), 400, "depth"},
		"curl's bad JSON":     {typeForm, `{"a":`, 400, "not JSON"},
		"bad form":            {typeForm, "a=%zz", 400, "malformed"},
		"semicolons":          {typeForm, "a=1;b=2", 400, "malformed"},
		"too many fields":     {typeForm, strings.Join(many, "&"), 400, "1001 fields"},
		"plain text":          {"text/plain", "x", 415, "text/plain"},
		"no boundary":         {"multipart/form-data", "--x--", 400, "boundary"},
		"cut multipart":       {"multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1", 400, "malformed"},
		"nameless part":       {"multipart/form-data; boundary=x", "--x\r\n\r\n1\r\n--x--", 400, "no name"},
		"multipart/mixed":     {"multipart/mixed; boundary=x", "--x--", 415, "multipart/mixed"},
		"bytes":               {"application/octet-stream", "x", 415, "application/json"},
		"no type at all":      {";;;", "{}", 415, "content type"},
		"long type":           {"text/" + strings.Repeat("x", 5000), "{}", 415, "content type"},
		"list for a struct":   {typeJSON, `[1]`, 400, "right shape"},
		"broken MessagePack":  {typeMsgpack, "\xdf\xff\xff\xff\xff", 400, "right shape"},
		"MessagePack is JSON": {typeMsgpack, `{"a":1}`, 400, "right shape"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := post(t, at+"/fail", tt.body, "Content-Type", tt.contentType)
			p := a.problem(t)
			if a.status != tt.status || p.Code != bus.InvalidArgument || !strings.Contains(p.Detail, tt.says) || len(p.Detail) > 500 {
				t.Errorf("%d %s, want %d that says %q", a.status, a.body, tt.status, tt.says)
			}
		})
	}
}

// chunked hides the length of a body.
type chunked struct{ io.Reader }

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{MaxBody: 1000})
	text := func(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }
	for size, status := range map[int]int{1000: 200, 1001: 413, 100_000: 413} {
		if a := post(t, at+"/echo", text(size)); a.status != status {
			t.Errorf("%d bytes: %d", size, a.status)
		} else if p := a.body; status == 413 && (!strings.Contains(p, "1000 bytes") || a.problem(t).Code != bus.ResourceExhausted) {
			t.Errorf("%d bytes: %s", size, p)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at+"/echo", chunked{strings.NewReader(text(size))})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if a := read(t, resp); a.status != status {
			t.Errorf("%d bytes in chunks: %d %s", size, a.status, a.body)
		}
	}
	if h.calls.Load() != 2 {
		t.Errorf("the service was called %d times, want 2", h.calls.Load())
	}
}

// The default limit leaves room for what goes with a body, so that it fits into one message.
func TestDefaultBodyLimit(t *testing.T) {
	t.Parallel()
	h := build(t)
	at := h.listen(t, gateway.Config{})
	large := `"` + strings.Repeat("x", gateway.DefaultMaxBody-2) + `"`
	if a := post(t, at+"/echo", large, "X-Request-Id", strings.Repeat("i", 64)); a.status != http.StatusOK || a.body != large {
		t.Errorf("%d %.200s", a.status, a.body)
	}
	if a := post(t, at+"/echo", large+" "); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("one more byte: %d", a.status)
	}
	// More than a message of NATS holds goes in pieces.
	big := h.listen(t, gateway.Config{MaxBody: 8 << 20})
	if a := post(t, big+"/echo", `"`+strings.Repeat("x", 2<<20)+`"`); a.status != http.StatusOK || len(a.body) != 2<<20+2 {
		t.Errorf("2 MiB: %d %.200s", a.status, a.body)
	}
	if h.conn.NATS().Stats().Reconnects != 0 {
		t.Error("the connection was lost")
	}
}
