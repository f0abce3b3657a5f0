package mirror_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/mirror"
)

const patience = 20 * time.Second

// backend is an application that keeps what is put at each path, and every write it applied.
type backend struct {
	*httptest.Server

	mu      sync.Mutex
	content map[string]string
	log     []applied
	refuse  func(w http.ResponseWriter, r *http.Request) bool // answers by itself instead of applying
}

// applied is a write as a backend got it.
type applied struct {
	seq         uint64
	lane        string
	idempotency string
	method      string
	target      string
	body        string
	header      http.Header
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{content: map[string]string{}}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the connection broke
	}
	b.mu.Lock()
	refuse := b.refuse
	b.mu.Unlock()
	if refuse != nil && refuse(w, r) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		v, ok := b.content[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, v)
		return
	}
	seq, _ := strconv.ParseUint(r.Header.Get("Skybus-Seq"), 10, 64)
	b.log = append(b.log, applied{seq, r.Header.Get("Skybus-Lane"), r.Header.Get("Idempotency-Key"), r.Method, r.URL.RequestURI(), string(body), r.Header.Clone()})
	switch r.Method {
	case http.MethodDelete:
		delete(b.content, r.URL.Path)
	default:
		b.content[r.URL.Path] = string(body)
	}
	w.Header().Set("X-Backend", b.URL)
	_, _ = fmt.Fprintf(w, "%s %s", r.Method, r.URL.Path)
}

func (b *backend) setRefuse(f func(w http.ResponseWriter, r *http.Request) bool) {
	b.mu.Lock()
	b.refuse = f
	b.mu.Unlock()
}

func (b *backend) all() []applied {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]applied(nil), b.log...)
}

func (b *backend) state() map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.content)
}

// rig is a server and some backends.
type rig struct {
	node     *bustest.Node
	conn     *bus.Conn
	backends []*backend
}

func newRig(t *testing.T, backends int) *rig {
	t.Helper()
	r := &rig{node: bustest.Server(t)}
	r.conn = connect(t, r.node)
	for range backends {
		r.backends = append(r.backends, newBackend(t))
	}
	return r
}

func connect(t testing.TB, n *bustest.Node) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// name of the nth backend.
func name(i int) string { return string(rune('a' + i)) }

// open opens a mirror with all backends of the rig. It does not run.
func (r *rig) open(t *testing.T, cfg mirror.Config) *mirror.Mirror {
	t.Helper()
	m, err := mirror.Open(t.Context(), r.conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	for i, b := range r.backends {
		if _, err := m.Set(t.Context(), mirror.Backend{Name: name(i), URL: b.URL, Active: true}); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// run runs m until the test ends or stop is called, which waits for its end.
func run(t *testing.T, m *mirror.Mirror) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return stop
}

// serve is a listener of m.
func serve(t *testing.T, m *mirror.Mirror) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(m)
	t.Cleanup(s.Close)
	return s
}

// response is what a client got.
type response struct {
	status int
	header http.Header
	body   string
}

func do(t testing.TB, method, url, body string, header ...string) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, string(data)}
}

// eventually waits until f holds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
