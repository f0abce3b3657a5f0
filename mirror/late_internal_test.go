package mirror

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
)

// counting is a backend that counts what it was asked.
func counting(t *testing.T) (url string, n *atomic.Int64) {
	t.Helper()
	n = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { n.Add(1) }))
	t.Cleanup(s.Close)
	return s.URL, n
}

// leased is a mirror that only makes requests, with a lease.
func leased(t *testing.T) (*Mirror, *kv.Lease) {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	leases, err := kv.OpenLeases(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	lease, err := leases.Acquire(t.Context(), "default.dev.mirror.m", "test", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	m := &Mirror{cfg: Config{Lanes: 1, TryTimeout: 10 * time.Second, MaxAnswer: 1000}}
	if err := m.openTransports(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.closeClients)
	m.lease.Store(lease)
	return m, lease
}

// What was to be sent when the lease was lost is not, however far it had come.
func TestNothingIsSentWithoutTheLease(t *testing.T) {
	t.Parallel()
	m, lease := leased(t)
	s := &sender{m: m, lease: lease}
	url, asked := counting(t)
	n := &node{Backend: Backend{Name: "a", URL: url}, nodeState: newNodeState(1)}
	for _, held := range []bool{true, false} {
		if !held {
			if err := lease.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		before := asked.Load()
		for how, send := range map[string]func() error{
			"by the mirror's client": func() error {
				_, err := m.exchange(t.Context(), n, &write{request: request{method: "PUT", target: "/x"}}, []byte("x"), s.hold)
				return err
			},
			"by a transport": func() error {
				_, err := m.roundTrip(t.Context(), n, &write{request: request{method: "PUT", target: "/x"}}, []byte("x"), s.hold)
				return err
			},
			"on a connection of the sender's": func() error { // which is all there is to look at the lease with TLS
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader("x"))
				if err != nil {
					return err
				}
				resp, err := m.sending.RoundTrip(req)
				if err == nil {
					err = resp.Body.Close()
				}
				return err
			},
		} {
			if err := send(); (err == nil) != held || !held && !errors.Is(err, errEnded) {
				t.Errorf("%s, lease held %t: %v", how, held, err)
			}
		}
		if got, want := asked.Load()-before, map[bool]int64{true: 3}[held]; got != want {
			t.Errorf("lease held %t: the backend was asked %d times, want %d", held, got, want)
		}
	}
	// Who retries what is parked needs no lease.
	if _, err := m.exchange(t.Context(), n, &write{request: request{method: "PUT", target: "/x"}}, []byte("x"), nil); err != nil {
		t.Error(err)
	}
}
