package http_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

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

// TestEncodedBodies: a body that is compressed is refused by its name, also where a target takes any bytes, and nothing is done.
func TestEncodedBodies(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{"put": `{"method":"POST","path":"/put","publish":"default.dev.pub.encoded"}`})
	heard, err := h.conn.NATS().SubscribeSync("default.dev.pub.encoded")
	if err != nil {
		t.Fatal(err)
	}
	for encoding, status := range map[string]int{"gzip": 415, "br": 415, "gzip, gzip": 415, "x": 415} {
		for _, path := range []string{"/put", "/echo"} {
			a := post(t, s.at+path, "\x1f\x8b\b", "Content-Encoding", encoding, "Content-Type", "application/octet-stream")
			if a.status != status || a.header.Get("Accept-Encoding") != "identity" || !strings.Contains(a.problem(t).Detail, encoding) {
				t.Errorf("%s %s: %d %s %v", path, encoding, a.status, a.body, a.header)
			}
		}
	}
	if a := post(t, s.at+"/put", "plain", "Content-Encoding", "Identity", "Content-Type", "text/plain"); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if m, err := heard.NextMsg(5 * time.Second); err != nil || string(m.Data) != "plain" {
		t.Errorf("%v, %v", m, err)
	}
}

// TestNotText: names that are no text are refused; else two of them would become one.
func TestNotText(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{"all": `{"path":"/all/{id}","call":"app.echo"}`})
	for _, path := range []string{"/all/%ff", "/all/%fe", "/all/%c3", "/all/x?a=%ff", "/all/x?%ff=1", "/all/\xff"} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.at, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") || !strings.Contains(string(answer), "UTF-8") {
			t.Errorf("%q: %s, %v", path, answer, err)
		}
	}
	for _, form := range []string{"a=%ff", "%ff=a"} {
		if a := post(t, s.at+"/all/x", form, "Content-Type", "application/x-www-form-urlencoded"); a.status != 400 || !strings.Contains(a.problem(t).Detail, "UTF-8") {
			t.Errorf("%s: %d %s", form, a.status, a.body)
		}
	}
	if a := send(t, http.MethodGet, s.at+"/all/%c3%a9?a=%e2%82%ac+%2b", ""); a.status != 200 || !strings.Contains(a.body, "é") || !strings.Contains(a.body, "€ +") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestNothingThere: what nobody serves is told as every other error is, with the id of the request.
func TestNothingThere(t *testing.T) {
	t.Parallel()
	at := build(t).listen(t, gateway.Config{})
	for _, tt := range []struct {
		method, path string
		status       int
		code         bus.Code
	}{{http.MethodGet, "/no/such/page", 404, bus.NotFound}, {http.MethodHead, "/no/such/page", 404, ""}, {http.MethodDelete, "/", 405, bus.Unimplemented}} {
		a := send(t, tt.method, at+tt.path, "", "X-Request-Id", "mine")
		if a.status != tt.status || a.header.Get("X-Request-Id") != "mine" || tt.code != "" && a.problem(t).Code != tt.code {
			t.Errorf("%s %s: %d %s %v", tt.method, tt.path, a.status, a.body, a.header)
		}
	}
	if a := send(t, http.MethodGet, at+"/", ""); a.status != 200 {
		t.Errorf("the page: %d %s", a.status, a.body)
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
