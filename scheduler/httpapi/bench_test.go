package httpapi_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/skybus-io/skybus/scheduler/httpapi"
)

// BenchmarkSkyringCreate has 32 connections that create timers, the server and its NATS in the same process.
func BenchmarkSkyringCreate(b *testing.B) {
	h := build(b, httpapi.Config{})
	addr := strings.TrimPrefix(h.url, "http://")
	body := `{"timeout":600000,"data":{"order":1,"of":"somebody with a name"},"callback":{"transport":"http","method":"post","uri":"http://127.0.0.1:9000/hook"}}`
	request := "POST /timer HTTP/1.1\r\nHost: " + addr + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range 32 {
		c, err := new(net.Dialer).DialContext(b.Context(), "tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		wg.Go(func() {
			r := bufio.NewReader(c)
			for left.Add(-1) >= 0 {
				if _, err := io.WriteString(c, request); err != nil {
					b.Error(err)
					return
				}
				resp, err := http.ReadResponse(r, nil)
				if err != nil || resp.StatusCode != http.StatusCreated {
					b.Error(resp, err)
					return
				}
				_ = resp.Body.Close() // it has none
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "timers/s")
}
