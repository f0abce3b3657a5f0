package scheduler

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// An attempt is one request, and one more, by a connection of its own, where one that was kept breaks: not as many as are kept.
func TestHTTPRepeatsOnce(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"POST", "GET", "DELETE"} {
		for _, payload := range []string{"x", ""} {
			t.Run(method+" "+payload, func(t *testing.T) {
				t.Parallel()
				_, s := openTransports(t, Config{AllowNetworks: loopback()})
				const kept = 8
				var gate sync.WaitGroup
				gate.Add(kept)
				var broken atomic.Int32
				srv := receive(t, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/keep" {
						gate.Done()
						gate.Wait() // all at once, each by a connection of its own
						return
					}
					broken.Add(1)
					if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
						if tcp, ok := conn.(*net.TCPConn); ok {
							_ = tcp.SetLinger(0)
						}
						_ = conn.Close()
					}
				})
				var wg sync.WaitGroup
				for range kept {
					wg.Go(func() {
						if err := deliver(t, s, attempt(Target{URI: srv.URL + "/keep"}, "x")); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if err := deliver(t, s, attempt(Target{URI: srv.URL + "/break", Method: method}, payload)); err == nil {
					t.Error("a broken connection is success")
				}
				if n := broken.Load(); n > 2 {
					t.Errorf("%d requests were made for one attempt", n)
				}
			})
		}
	}
}
