package mirror_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/mirror"
)

// stream changes the configuration of the stream of writes.
func (r *rig) stream(t *testing.T, change func(*jetstream.StreamConfig)) {
	t.Helper()
	s, err := r.conn.JetStream().Stream(t.Context(), "SKYBUS_MIR")
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	change(&cfg)
	if _, err := r.conn.JetStream().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

func lastSeq(t *testing.T, m *mirror.Mirror) uint64 {
	t.Helper()
	seq, err := m.LastSeq(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// writeStatus is what a status URL, or the answer of a queued write, tells.
type writeStatus struct {
	Seq      uint64
	Lane     int
	State    string
	URL      string
	Backends map[string]struct {
		State  string
		Status int
	}
}

func statusOf(t *testing.T, r response) (s writeStatus) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.body), &s); err != nil {
		t.Fatalf("%d %q: %v", r.status, r.body, err)
	}
	return s
}

// A client's repeat of the same write is stored once, and answered with what is known of it. What differs is another write.
func TestRepeats(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{Ack: mirror.All, Cookie: "mirror"})
	run(t, m)
	front := serve(t, m)
	first := do(t, "PUT", front.URL+"/x", "one", "Idempotency-Key", "k", "Cookie", "a=1; mirror=1.1")
	if first.status != http.StatusOK {
		t.Fatalf("%d %q", first.status, first.body)
	}
	eventually(t, "write known to be applied", func() bool {
		s := do(t, "GET", front.URL+mirror.DefaultStatusPath+first.header.Get("Skybus-Seq"), "")
		return s.status == http.StatusOK && statusOf(t, s).State == "applied"
	})
	again := do(t, "PUT", front.URL+"/x", "one", "Idempotency-Key", "k", "Cookie", "a=1; mirror=2.2", "Traceparent", "another", "Date", "later")
	if again.status != http.StatusAccepted || again.header.Get("Skybus-Duplicate") != "true" || again.header.Get("Skybus-Seq") != first.header.Get("Skybus-Seq") {
		t.Errorf("repeat: %d %q, header %v", again.status, again.body, again.header)
	}
	if s := statusOf(t, again); s.State != "applied" || s.Backends["b"].State != "applied" || again.header.Get("Location") != s.URL {
		t.Errorf("repeat: %+v, Location %q", s, again.header.Get("Location"))
	}
	before := lastSeq(t, m)
	for i, other := range []response{
		do(t, "PUT", front.URL+"/x", "two", "Idempotency-Key", "k", "Cookie", "a=1"),
		do(t, "PUT", front.URL+"/x?y", "one", "Idempotency-Key", "k", "Cookie", "a=1"),
		do(t, "POST", front.URL+"/x", "one", "Idempotency-Key", "k", "Cookie", "a=1"),
		do(t, "PUT", front.URL+"/x", "one", "Idempotency-Key", "k", "Cookie", "a=2"),
		do(t, "PUT", front.URL+"/x", "one", "Idempotency-Key", "k", "Cookie", "a=1", "Authorization", "Bearer stolen"),
		do(t, "PUT", front.URL+"/x", "one", "Idempotency-Key", "k", "Cookie", "a=1", "X-Api-Key", "stolen"),
		do(t, "PUT", front.URL+"/x", "one", "Idempotency-Key", "l", "Cookie", "a=1"),
	} {
		if other.status != http.StatusOK {
			t.Errorf("%d: %d %q", i, other.status, other.body)
		}
	}
	if n := lastSeq(t, m) - before; n != 7 {
		t.Errorf("%d of 7 others were stored", n)
	}
}

// Two that differ only in what chooses the lane are two.
func TestRepeatsInLanes(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{Key: "header:X-Tenant"})
	run(t, m)
	front := serve(t, m)
	for i, tenant := range []string{"a", "b", "a"} {
		got := do(t, "PUT", front.URL+"/settings", "one", "Idempotency-Key", "1", "X-Tenant", tenant)
		if repeated := got.header.Get("Skybus-Duplicate") == "true"; repeated != (i == 2) {
			t.Errorf("%d, %s: %d, duplicate %t", i, tenant, got.status, repeated)
		}
	}
	if n := lastSeq(t, m); n != 2 {
		t.Errorf("%d writes stored, want 2", n)
	}
}

// A large body has more time than a small one.
func TestLargeBodiesHaveTime(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{TryTimeout: 200 * time.Millisecond})
	run(t, m)
	front := serve(t, m)
	r.backends[0].setRefuse(func(http.ResponseWriter, *http.Request) bool {
		time.Sleep(500 * time.Millisecond) // real time, as the time-out of a try is: longer than that, as over a slow link
		return false
	})
	if got := do(t, "PUT", front.URL+"/x", strings.Repeat("x", 2<<20)); got.status != http.StatusOK {
		t.Errorf("%d %q", got.status, got.body)
	}
	if n := len(r.backends[0].all()); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

func TestStoreFull(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{})
	run(t, m)
	front := serve(t, m)
	r.stream(t, func(c *jetstream.StreamConfig) { c.MaxMsgs = 1 })
	do(t, "PUT", front.URL+"/x", "")
	got := do(t, "PUT", front.URL+"/x", "")
	if code, detail, stored := problem(t, got); got.status != http.StatusInsufficientStorage || code != "resource_exhausted" || stored != "no" || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %s %q, stored %q, Retry-After %q", got.status, code, detail, stored, got.header.Get("Retry-After"))
	}
	r.stream(t, func(c *jetstream.StreamConfig) { c.MaxMsgs = -1 })
	if got := do(t, "PUT", front.URL+"/x", ""); got.status != http.StatusOK {
		t.Errorf("%d %q", got.status, got.body)
	}
	if n := len(r.backends[0].all()); n != 2 {
		t.Errorf("%d writes sent, want 2", n)
	}
}

func TestNobodyStores(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{StoreTimeout: 200 * time.Millisecond})
	front := serve(t, m)
	if err := r.conn.JetStream().DeleteStream(t.Context(), "SKYBUS_MIR"); err != nil {
		t.Fatal(err)
	}
	got := do(t, "PUT", front.URL+"/x", "")
	if code, detail, stored := problem(t, got); got.status != http.StatusServiceUnavailable || code != "unavailable" || stored != "no" || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %s %q, stored %q, Retry-After %q", got.status, code, detail, stored, got.header.Get("Retry-After"))
	}
}

func TestNoBackend(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	var log lines
	m := r.open(t, mirror.Config{Logger: log.logger()})
	front := serve(t, m)
	for _, method := range []string{"PUT", "GET"} {
		got := do(t, method, front.URL+"/x", "")
		if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "the mirror has no active backend") {
			t.Errorf("%s: %d %q", method, got.status, got.body)
		}
	}
	if _, err := m.Set(t.Context(), mirror.Backend{Name: "a", URL: "http://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	got := do(t, "PUT", front.URL+"/x", "")
	if _, _, stored := problem(t, got); got.status != http.StatusServiceUnavailable || stored != "no" || lastSeq(t, m) != 0 {
		t.Errorf("inactive: %d %q, %d stored", got.status, got.body, lastSeq(t, m))
	}
	const warning = "no backend is active any more"
	for _, active := range []bool{true, false, false} {
		if _, err := m.Set(t.Context(), mirror.Backend{Name: "a", URL: "http://127.0.0.1:1", Active: active}); err != nil {
			t.Fatal(err)
		}
		if n := log.count(warning); active && n > 0 || !active && n != 1 {
			t.Errorf("with active %t the log says %d times that there is none", active, n)
		}
	}
}

// When no acknowledgement comes the client is told that the write may have been stored, and by what key to repeat it.
func TestStoredOrNot(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{StoreTimeout: 500 * time.Millisecond})
	run(t, m)
	front := serve(t, m)
	r.stream(t, func(c *jetstream.StreamConfig) { c.NoAck = true })
	got := do(t, "PUT", front.URL+"/x", "one")
	key := got.header.Get("Idempotency-Key")
	if code, detail, stored := problem(t, got); got.status != http.StatusServiceUnavailable || code != "unavailable" || stored != "unknown" || key == "" || !strings.Contains(detail, "Idempotency-Key") {
		t.Errorf("%d %s %q, stored %q, key %q", got.status, code, detail, stored, key)
	}
	eventually(t, "write applied", func() bool { return len(r.backends[0].all()) == 1 })
	r.stream(t, func(c *jetstream.StreamConfig) { c.NoAck = false })
	if got := do(t, "PUT", front.URL+"/x", "one", "Idempotency-Key", key); got.status != http.StatusAccepted || got.header.Get("Skybus-Duplicate") != "true" {
		t.Errorf("repeat: %d %q", got.status, got.body)
	}
	if n := lastSeq(t, m); n != 1 {
		t.Errorf("stored %d times", n)
	}
}

// A write whose acknowledgement was lost is stored once, and its client hears nothing of it.
func TestAckLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{})
	run(t, m)
	front := serve(t, m)
	r.stream(t, func(c *jetstream.StreamConfig) { c.NoAck = true })
	done := make(chan response, 1)
	go func() {
		resp, err := http.Post(front.URL+"/x", "text/plain", strings.NewReader("one")) //nolint:noctx // the listener's end ends it
		if err != nil {
			close(done)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		done <- response{status: resp.StatusCode, header: resp.Header}
	}()
	eventually(t, "write stored", func() bool { return lastSeq(t, m) == 1 })
	r.stream(t, func(c *jetstream.StreamConfig) { c.NoAck = false })
	if got := <-done; got.status != http.StatusOK || got.header.Get("Skybus-Seq") != "1" || got.header.Get("Skybus-Duplicate") != "" {
		t.Errorf("%d %v", got.status, got.header)
	}
	if n := lastSeq(t, m); n != 1 || len(r.backends[0].all()) != 1 {
		t.Errorf("stored %d times, applied %d times", n, len(r.backends[0].all()))
	}
}

func TestMaxWrites(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{MaxWrites: 1, AnswerTimeout: time.Minute})
	run(t, m)
	front := serve(t, m)
	began, proceed := make(chan struct{}), make(chan struct{})
	r.backends[0].setRefuse(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodPut { // not a check of its health
			close(began)
			<-proceed
		}
		return false
	})
	done := make(chan response, 1)
	go func() { done <- recorded(m, "PUT", "/x", "one") }()
	<-began
	got := do(t, "PUT", front.URL+"/y", "")
	if _, _, stored := problem(t, got); got.status != http.StatusServiceUnavailable || stored != "no" || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %q", got.status, got.body)
	}
	close(proceed)
	if got := <-done; got.status != http.StatusOK || lastSeq(t, m) != 1 {
		t.Errorf("%d %q, %d stored", got.status, got.body, lastSeq(t, m))
	}
}

// recorded asks m without a listener.
func recorded(m *mirror.Mirror, method, target, body string) response {
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), method, target, strings.NewReader(body)))
	return response{w.Code, w.Header(), w.Body.String()}
}

// A client that leaves does not take its write along.
func TestClientGone(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{AnswerTimeout: time.Minute})
	front := serve(t, m)
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, front.URL+"/x", strings.NewReader("one"))
		if err != nil {
			return
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
	eventually(t, "write stored", func() bool { return lastSeq(t, m) == 1 })
	leave()
	<-gone
	run(t, m)
	eventually(t, "write applied", func() bool { return r.backends[0].state()["/x"] == "one" })
}
