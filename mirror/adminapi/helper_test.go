package adminapi_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/mirror"
	"github.com/skybus-io/skybus/mirror/adminapi"
)

// patience is how long a test waits for something that comes at once on a machine with nothing else to do.
const patience = 20 * time.Second

// house is a mirror and its admin API on a port of loopback.
type house struct {
	mirror *mirror.Mirror
	url    string
}

// build opens a mirror on a server of its own, and serves its API.
func build(t testing.TB, cfg adminapi.Config) *house {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the server may be gone
	m, err := mirror.Open(t.Context(), conn, mirror.Config{Name: "shop", Ack: mirror.Queued, AnswerTimeout: 50 * time.Millisecond, Owner: "me"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	h, err := adminapi.New(m, cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return &house{m, srv.URL}
}

// run sends until the test ends.
func (h *house) run(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := h.mirror.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// write stores n writes.
func (h *house) write(t testing.TB, n int) {
	t.Helper()
	srv := httptest.NewServer(h.mirror)
	defer srv.Close()
	for range n {
		if a := send(t, http.MethodPut, srv.URL+"/item?token=hush", "x"); a.status != http.StatusAccepted {
			t.Fatalf("write: %d %s", a.status, a.body)
		}
	}
}

// application is a backend that answers everything with a status.
func application(t testing.TB, status int) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the connection broke
		w.WriteHeader(status)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func (h *house) set(t testing.TB, b mirror.Backend) {
	t.Helper()
	if _, err := h.mirror.Set(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// answer is an HTTP answer, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) decode(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
}

// want fails the test unless the answer has the status.
func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("%d %s, want %d", a.status, a.body, status)
	}
	return a
}

type problem struct {
	Status int      `json:"status"`
	Detail string   `json:"detail"`
	Code   bus.Code `json:"code"`
	Errors []struct {
		Field   string `json:"field"`
		Message string `json:"message"`
	} `json:"errors"`
}

// problem is the answer as a problem.
func (a answer) problem(t testing.TB) problem {
	t.Helper()
	var p problem
	a.decode(t, &p)
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" || p.Status != a.status || p.Detail == "" || p.Code == "" {
		t.Fatalf("%d %s %s is no problem", a.status, ct, a.body)
	}
	return p
}

func (p problem) fields() string {
	var names []string
	for _, e := range p.Errors {
		names = append(names, e.Field)
	}
	return strings.Join(names, " ")
}

// send sends a request with headers given as pairs.
func send(t testing.TB, method, url, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(data)}
}

// eventually polls until check returns "", else fails with what it said last.
func eventually(t testing.TB, check func() string) {
	t.Helper()
	said := ""
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if said = check(); said == "" {
			return
		}
	}
	t.Fatal(said)
}
