package mirror_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/mirror"
)

// While NATS is away reads go on by what was heard last, a write is not promised, and a body that a backend still needs is read when it is back.
func TestServersAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{StoreTimeout: 2 * time.Second, MaxLag: 500 * time.Millisecond})
	run(t, m)
	front := serve(t, m)
	large := strings.Repeat("x", 1<<20)
	r.backends[1].setRefuse(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodPut {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return req.Method == http.MethodPut
	})
	if got := do(t, "PUT", front.URL+"/large", large); got.status != http.StatusOK {
		t.Fatalf("%d %q", got.status, got.body)
	}
	eventually(t, "the one behind left out", func() bool { // in turn each of two would be asked
		n := 0
		for range 4 {
			if do(t, "GET", front.URL+"/large", "").status == http.StatusOK {
				n++
			}
		}
		return n == 4
	})
	r.node.Stop()
	r.backends[1].setRefuse(nil)
	got := do(t, "PUT", front.URL+"/x", "one")
	if _, _, stored := problem(t, got); got.status != http.StatusServiceUnavailable || stored == "" {
		t.Errorf("%d %q", got.status, got.body)
	}
	key := got.header.Get("Idempotency-Key")
	for begin := time.Now(); time.Since(begin) < time.Second; { // twice the lag that is allowed
		if got := do(t, "GET", front.URL+"/large", ""); got.status != http.StatusOK || len(got.body) != len(large) {
			t.Fatalf("read: %d, %d bytes", got.status, len(got.body))
		}
	}
	r.node.Start(t)
	eventually(t, "writes taken again", func() bool {
		status := do(t, "PUT", front.URL+"/x", "one", "Idempotency-Key", key).status
		return status == http.StatusOK || status == http.StatusAccepted
	})
	for _, b := range r.backends {
		eventually(t, "backend level", func() bool { s := b.state(); return s["/x"] == "one" && s["/large"] == large })
	}
	if n := lastSeq(t, m); n != 2 {
		t.Errorf("%d writes stored, want 2", n)
	}
}

// What bodies take of memory has a bound.
func TestMaxWriteBytes(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{MaxBody: 50_000, MaxWriteBytes: 60_000})
	run(t, m)
	front := serve(t, m)
	conn := dial(t, front.URL)
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 100"))); err != nil { // it waits for the body now
		t.Fatal(err)
	}
	large := strings.Repeat("y", 50_000)
	got := do(t, "PUT", front.URL+"/y", large)
	if _, _, stored := problem(t, got); got.status != http.StatusServiceUnavailable || stored != "no" || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %q", got.status, got.body)
	}
	if got := do(t, "PUT", front.URL+"/y", large[:5000]); got.status != http.StatusOK {
		t.Errorf("one for which there is room: %d %q", got.status, got.body)
	}
	_ = conn.Close()
	eventually(t, "room again", func() bool { return do(t, "PUT", front.URL+"/y", large).status == http.StatusOK })
}
