package mirror_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/mirror"
)

// BenchmarkWrite is 1 KB to three backends, 32 at a time; all share the machine with the server and the client.
func BenchmarkWrite(b *testing.B) {
	node := bustest.Server(b)
	conn := connect(b, node)
	m, err := mirror.Open(b.Context(), conn, mirror.Config{})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 3 {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusNoContent)
		}))
		b.Cleanup(s.Close)
		if _, err := m.Set(b.Context(), mirror.Backend{Name: name(i), URL: s.URL, Active: true}); err != nil {
			b.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = m.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-ended; _ = m.Close() })
	front := httptest.NewServer(m)
	b.Cleanup(front.Close)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	b.Cleanup(client.CloseIdleConnections)
	body := strings.Repeat("x", 1024)
	var n atomic.Int64
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodPut, front.URL+"/item/"+strconv.FormatInt(n.Add(1)%1000, 10), strings.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			resp, err := client.Do(req)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusNoContent {
				b.Errorf("status %d", resp.StatusCode)
				return
			}
		}
	})
}

// BenchmarkDrain is a backend that comes back to writes that wait for it.
func BenchmarkDrain(b *testing.B) {
	node := bustest.Server(b)
	conn := connect(b, node)
	m, err := mirror.Open(b.Context(), conn, mirror.Config{})
	if err != nil {
		b.Fatal(err)
	}
	var applied atomic.Int64
	all := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
		if applied.Add(1) == int64(b.N) {
			close(all)
		}
	}))
	b.Cleanup(s.Close)
	if _, err := m.Set(b.Context(), mirror.Backend{Name: "a", URL: s.URL, Active: true}); err != nil {
		b.Fatal(err)
	}
	body := strings.Repeat("x", 1024)
	for i := range b.N {
		_, err := conn.JetStream().PublishAsync("skybus.mir.default.dev.default."+strconv.Itoa(i%64),
			[]byte("PUT /item/"+strconv.Itoa(i%1000)+" HTTP/1.1\r\nHost: x\r\nIdempotency-Key: "+strconv.Itoa(i)+"\r\n\r\n"+body))
		if err != nil {
			b.Fatal(err)
		}
	}
	<-conn.JetStream().PublishAsyncComplete()
	b.ResetTimer()
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = m.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-ended; _ = m.Close() })
	<-all
}
