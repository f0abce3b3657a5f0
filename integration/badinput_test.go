//go:build unix

package integration_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestBadInput sends what no honest client would to a gateway, byte by byte. Each is refused as it should be, and the
// gateway answers the next request.
func TestBadInput(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	gateway := startUp(t, "--demo", "--memory").Ports["http"]
	_, addr, _ := strings.Cut(gateway, "://")
	b := newBrowser(t)

	for _, test := range badInputs() {
		t.Run(test.name, func(t *testing.T) {
			status, text := exchange(t, addr, test.raw)
			if status != test.want {
				t.Errorf("status %d, want %d: %.300s", status, test.want, text)
			}
			if _, err := b.widgets(t.Context(), gateway); err != nil {
				t.Errorf("the request after it: %v", err)
			}
		})
	}
}

// badInput is a request as it goes over the wire, and the status it deserves.
type badInput struct {
	name, raw string
	want      int
}

func badInputs() []badInput {
	const maxBody = 1<<20 - 16<<10
	big := `{"input":"` + strings.Repeat("x", maxBody) + `"}`
	post := func(path, body string) string { return request("POST", path, "application/json", body) }
	return []badInput{
		{"malformed json", post("/getwidgets", `{"input":`), 400},
		{"text after json", post("/getwidgets", `{"input":"x"} and more`), 400},
		{"wrong type", post("/getwidgets", `{"input":7}`), 400},
		{"no object", post("/getwidgets", `[1,2]`), 400},
		{"malformed messagepack", request("POST", "/getwidgets", "application/msgpack", "\xdf\xff\xff\xff\xff"), 400},
		{"malformed form", request("POST", "/getwidgets", "application/x-www-form-urlencoded", "input=%zz"), 400},
		{"body over the limit", post("/getwidgets", big), 413},
		{"body over the limit, chunked", chunked("/getwidgets", big), 413},
		{"length over the limit, no body yet", "POST /getwidgets HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n{", 413},
		{"negative length", "POST /getwidgets HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400},
		{"two lengths", "POST /getwidgets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", 400},
		{"broken chunk", "POST /getwidgets HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", 400},
		{"no such route", post("/nothing", `{}`), 404},
		{"no route", post("/", `{}`), 404},
		{"dot", post("/get.widgets", `{}`), 400},
		{"star", post("/*", `{}`), 400},
		{"greater", post("/>", `{}`), 400},
		{"escaped greater", post("/%3e", `{}`), 400},
		{"escaped space", post("/get%20widgets", `{}`), 400},
		{"escaped nul", post("/getwidgets%00", `{}`), 400},
		{"escaped slash", post("/getwidgets%2fx", `{}`), 400},
		{"escaped line break", post("/getwidgets%0d%0aPUB", `{}`), 400},
		{"slash", post("/getwidgets/x", `{}`), 400},
		{"double slash", post("//getwidgets", `{}`), 400},
		{"up", post("/../getwidgets", `{}`), 400},
		{"escaped up", post("/%2e%2e/getwidgets", `{}`), 400},
		{"dots", post("/..", `{}`), 400},
		{"not ascii", post("/gétwidgets", `{}`), 400},
		{"bad escape", post("/getwidgets%zz", `{}`), 400},
		{"long name", post("/"+strings.Repeat("a", 5000), `{}`), 400},
		{"other method", request("PUT", "/getwidgets", "application/json", `{}`), 405},
		{"unknown method", request("BREW", "/getwidgets", "application/json", `{}`), 405},
		{"trace", "TRACE /getwidgets HTTP/1.1\r\nHost: localhost\r\n\r\n", 405},
		{"other content type", request("POST", "/getwidgets", "text/xml", `<input>x</input>`), 415},
		{"malformed content type", request("POST", "/getwidgets", "a b c", `{}`), 415},
		{"large header", "POST /getwidgets HTTP/1.1\r\nHost: localhost\r\nX-Large: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", 431},
		{"many headers", "POST /getwidgets HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X-Many: 0123456789012345678901234567890123456789\r\n", 1000) + "\r\n", 431},
		{"call with malformed json", post("/v1/call/getwidgets/get", `{"input":`), 400},
		{"call with the wrong type", post("/v1/call/getwidgets/get", `{"input":7}`), 400},
		{"call over the limit", post("/v1/call/getwidgets/get", big), 413},
		{"call of no endpoint", post("/v1/call/getwidgets/none", `{}`), 404},
		{"call of a star", post("/v1/call/getwidgets/*", `{}`), 400},
		{"call of a subject", post("/v1/call/getwidgets.get/>", `{}`), 400},
		{"call with an escaped slash", post("/v1/call/getwidgets%2fget", `{}`), 400},
		{"call with a long name", post("/v1/call/"+strings.Repeat("a", 5000)+"/get", `{}`), 400},
		{"call of a bad version", post("/v1/call/getwidgets/get?version=%0d%0a", `{}`), 400},
		{"call of two instances", post("/v1/call/getwidgets/get?instance=a&instance=b", `{}`), 400},
		{"call by another method", request("PUT", "/v1/call/getwidgets/get", "application/json", `{}`), 405},
		{"no host", "POST /getwidgets HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 400},
		{"no http", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400},
	}
}

// request is one as it goes over the wire.
func request(method, path, contentType, body string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", method, path, contentType, len(body), body)
}

// chunked is a request that does not tell how long its body is.
func chunked(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", path, len(body), body)
}

// exchange writes raw bytes to a gateway and reads its answer.
func exchange(t *testing.T, addr, raw string) (status int, text string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { // ends with the answer at the latest: a gateway may answer before it has read all
		_, err := io.WriteString(conn, raw)
		written <- err
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body) // what there is of it is shown
	_ = conn.Close()
	if err := <-written; err != nil {
		t.Logf("not all of the request was taken: %v", err)
	}
	return resp.StatusCode, string(body)
}
