package mirror_test

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/mirror"
)

// problem is the code and the detail of a refusal.
func problem(t *testing.T, r response) (code, detail, stored string) {
	t.Helper()
	var p struct {
		Code, Detail string
		Details      map[string]string
	}
	if err := json.Unmarshal([]byte(r.body), &p); err != nil || r.header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%d %q of type %q is no problem: %v", r.status, r.body, r.header.Get("Content-Type"), err)
	}
	return p.Code, p.Detail, p.Details["stored"]
}

// dial connects to the listener of url.
func dial(t *testing.T, url string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// raw sends text to the listener of url and returns all it answers.
func raw(t *testing.T, url, text string) string {
	t.Helper()
	conn := dial(t, url)
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Errorf("%.40q: %v after %q", text, err, answer)
	}
	return string(answer)
}

func TestMethods(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{Ack: mirror.All, WriteMethods: []string{"PUT", "MKCOL"}})
	run(t, m)
	front := serve(t, m)
	do(t, "PUT", front.URL+"/x", "")
	for method, want := range map[string]int{"PUT": 200, "MKCOL": 200, "GET": 200, "HEAD": 200, "OPTIONS": 200, "POST": 405, "DELETE": 405, "TRACE": 405, "BREW": 405} {
		got := do(t, method, front.URL+"/x", "", "Content-Type", "text/plain")
		if got.status != want {
			t.Errorf("%s: %d %q, want %d", method, got.status, got.body, want)
		}
		if allow := got.header.Get("Allow"); want == 405 && allow != "GET, HEAD, OPTIONS, PUT, MKCOL" {
			t.Errorf("%s: Allow %q", method, allow)
		}
	}
	if got := raw(t, front.URL, "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 405 ") {
		t.Errorf("CONNECT: %q", got)
	}
	if got := raw(t, front.URL, "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 20") {
		t.Errorf("OPTIONS *: %q", got)
	}
	for i, b := range r.backends {
		n := map[string]int{}
		for _, w := range b.all() {
			n[w.method]++
		}
		if n["PUT"] != 2 || n["MKCOL"] != 1 || n["TRACE"]+n["POST"]+n["DELETE"]+n["BREW"]+n["CONNECT"] != 0 {
			t.Errorf("backend %d was sent %v", i, n)
		}
	}
}

// What a client says of the next hop, of itself, or in our name, does not reach a backend.
func TestFieldsOfWrites(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{})
	run(t, m)
	front := serve(t, m)
	got := do(t, http.MethodPut, front.URL+"/x", "body",
		"Connection", "close, X-Auth-User", "X-Auth-User", "root", "Keep-Alive", "5", "Te", "trailers", "Proxy-Authorization", "Basic x",
		"Skybus-Seq", "1", "Skybus-Lane", "7", "Skybus-Answer-To", "a.b", "Skybus-Object", "o", "X-Skybus-Seq", "2",
		"X-Forwarded-For", "192.0.2.1", "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "https", "X-Forwarded-User", "root", "X-Real-Ip", "192.0.2.1", "Forwarded", "for=192.0.2.1",
		"X_forwarded_for", "192.0.2.1", "Skybus_seq", "9", "Idempotency_key", "k-2",
		"Idempotency-Key", "k-1", "X-Mine", "1", "X-Mine", "2", "Authorization", "Bearer x")
	if got.status != http.StatusOK {
		t.Fatalf("%d %q", got.status, got.body)
	}
	w := r.backends[0].all()[0]
	for _, name := range []string{"X-Auth-User", "Keep-Alive", "Te", "Proxy-Authorization", "Skybus-Answer-To", "Skybus-Object", "X-Skybus-Seq", "X-Forwarded-User", "X-Real-Ip", "Forwarded", "X_forwarded_for", "Skybus_seq", "Idempotency_key"} {
		if v := w.header[name]; v != nil {
			t.Errorf("%s: %q", name, v)
		}
	}
	for name, want := range map[string]string{
		"Skybus-Seq": got.header.Get("Skybus-Seq"), "Skybus-Lane": got.header.Get("Skybus-Lane"), "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": strings.TrimPrefix(front.URL, "http://"),
		"X-Forwarded-Proto": "http", "Idempotency-Key": "k-1", "X-Mine": "1|2", "Authorization": "Bearer x",
	} {
		if v := strings.Join(w.header[name], "|"); v != want || v == "" {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
}

func TestTrustForwarded(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{TrustForwarded: true})
	run(t, m)
	front := serve(t, m)
	do(t, http.MethodPut, front.URL+"/x", "", "X-Forwarded-For", "192.0.2.1", "X-Forwarded-Host", "shop.example", "X-Forwarded-Proto", "https", "X-Real-Ip", "192.0.2.1")
	h := r.backends[0].all()[0].header
	want := http.Header{"X-Forwarded-For": {"192.0.2.1, 127.0.0.1"}, "X-Forwarded-Host": {"shop.example"}, "X-Forwarded-Proto": {"https"}, "X-Real-Ip": {"192.0.2.1"}}
	maps.DeleteFunc(h, func(name string, _ []string) bool { return want[name] == nil })
	for name := range want {
		if strings.Join(h[name], "|") != want[name][0] {
			t.Errorf("%s: %q, want %q", name, h[name], want[name])
		}
	}
}

// What must not be forwarded is refused, and neither stored nor sent.
func TestRefusals(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{MaxBody: 1000, MaxHeader: 4096, MaxFields: 20, MaxTarget: 300})
	run(t, m)
	front := serve(t, m)
	before, err := m.LastSeq(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 1001)
	for name, tt := range map[string]struct {
		text string
		want string
	}{
		"long body":            {"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\nConnection: close\r\n\r\n" + long, "413"},
		"long body, asked":     {"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n", "413"},
		"long chunked body":    {"PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3e9\r\n" + long + "\r\n0\r\n\r\n", "413"},
		"broken chunk":         {"PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", "400"},
		"two lengths":          {"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "400"},
		"chunked twice":        {"PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "501"},
		"no host":              {"PUT /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "400"},
		"dots":                 {"PUT /a/../x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "400"},
		"encoded dots":         {"PUT /a/%2e%2E/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "400"},
		"dots with parameters": {"PUT /a/..;x/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "400"},
		"two slashes":          {"PUT //x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "400"},
		"encoded slash":        {"GET /a%2fb HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "400"},
		"encoded backslash":    {"GET /a%5Cb HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "400"},
		"encoded zero":         {"GET /a%00b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "400"},
		"encoded line break":   {"PUT /a%0d%0ab HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "400"},
		"long target":          {"GET /" + long + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "414"},
		"many fields":          {"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + strings.Repeat("X-Y: z\r\n", 30) + "\r\n", "431"},
		"long header":          {"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Y: " + strings.Repeat("y", 5000) + "\r\n\r\n", "431"},
		"key":                  {"PUT /x HTTP/1.1\r\nHost: x\r\nIdempotency-Key: a b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "400"},
		"long key":             {"PUT /x HTTP/1.1\r\nHost: x\r\nIdempotency-Key: " + long[:257] + "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "400"},
		"two keys":             {"PUT /x HTTP/1.1\r\nHost: x\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "400"},
		"absolute form":        {"GET http://evil.example/admin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "421"},
		"websocket":            {"GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n", "501"},
	} {
		if got := raw(t, front.URL, tt.text); !strings.HasPrefix(got, "HTTP/1.1 "+tt.want+" ") {
			t.Errorf("%s: %.100q, want %s", name, got, tt.want)
		}
	}
	conn := dial(t, front.URL) // a body that breaks off
	_, _ = io.WriteString(conn, "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
	_ = conn.Close()
	if after, err := m.LastSeq(t.Context()); err != nil || after != before || len(r.backends[0].all()) != 0 {
		t.Errorf("%d writes were stored (%v), %d sent", after-before, err, len(r.backends[0].all()))
	}
}

// Two requests of which one is smuggled into the other are two, framed anew.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{})
	run(t, m)
	front := serve(t, m)
	got := raw(t, front.URL, "PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nPUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	for _, w := range r.backends[0].all() {
		if w.header.Get("Transfer-Encoding") != "" || w.body != "" {
			t.Errorf("backend got %+v", w)
		}
	}
	if n := strings.Count(got, "HTTP/1.1 "); n == 0 || n > 2 {
		t.Errorf("%d answers: %q", n, got)
	}
}

// Trailers of a write and the wish for another protocol are not passed on.
func TestTrailersAndUpgrades(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{})
	run(t, m)
	front := serve(t, m)
	got := raw(t, front.URL, "PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("%q", got)
	}
	got = raw(t, front.URL, "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\nabc")
	if !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("%q", got)
	}
	for _, w := range r.backends[0].all() {
		for _, name := range []string{"X-Sum", "Trailer", "Upgrade", "Http2-Settings", "Connection"} {
			if w.header[name] != nil || w.body != "abc" {
				t.Errorf("backend got %+v", w)
			}
		}
	}
}

func TestExpectContinue(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{})
	run(t, m)
	front := serve(t, m)
	conn := dial(t, front.URL)
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
	head := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
	if _, err := io.ReadFull(conn, head); err != nil || !strings.HasPrefix(string(head), "HTTP/1.1 100 ") {
		t.Fatalf("%q, %v", head, err)
	}
	_, _ = io.WriteString(conn, "abc")
	rest, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(rest), "HTTP/1.1 200 ") {
		t.Fatalf("%q, %v", rest, err)
	}
	if w := r.backends[0].all()[0]; w.body != "abc" || w.header.Get("Expect") != "" {
		t.Errorf("backend got %q, Expect %q", w.body, w.header.Get("Expect"))
	}
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{Authorize: func(r *http.Request) error {
		switch r.Header.Get("Authorization") {
		case "":
			return bus.Errorf(bus.Unauthenticated, "who are you?")
		case "no":
			return errors.New("not you")
		}
		return nil
	}})
	run(t, m)
	front := serve(t, m)
	for _, path := range []string{"/x", mirror.DefaultStatusPath + "1"} {
		for auth, want := range map[string]int{"": 401, "no": 403} {
			for _, method := range []string{"PUT", "GET", "TRACE"} {
				got := do(t, method, front.URL+path, "", "Authorization", auth)
				if _, detail, _ := problem(t, got); got.status != want || detail == "" {
					t.Errorf("%s %s as %q: %d %q", method, path, auth, got.status, detail)
				}
			}
		}
	}
	if got := do(t, "PUT", front.URL+"/x", "", "Authorization", "yes"); got.status != http.StatusOK {
		t.Errorf("%d %q", got.status, got.body)
	}
}
