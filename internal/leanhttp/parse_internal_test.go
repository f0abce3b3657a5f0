package leanhttp

import (
	"bufio"
	"bytes"
	"net/http"
	"testing"
)

// BenchmarkHead compares what reads the head of an answer with what net/http has for it.
func BenchmarkHead(b *testing.B) {
	answer := []byte("HTTP/1.1 200 OK\r\nDate: Mon, 30 Nov 2026 03:25:47 GMT\r\nContent-Type: application/json\r\nContent-Length: 0\r\n" +
		"Cache-Control: no-store\r\nEtag: \"33a64df551425fcc55e4d42a148795d9f25f89d4\"\r\nX-Request-Id: n2S4yq0Zr1vX7cH5tK9bLd\r\n\r\n")
	source := bytes.NewReader(answer)
	r := bufio.NewReader(source)
	next := func() {
		source.Reset(answer)
		r.Reset(source)
	}
	b.Run("leanhttp", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			next()
			var err error
			if _, buf, err = readHead(r, buf, DefaultMaxHeadBytes, http.MethodGet); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("leanhttp, as http.Header", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			next()
			h, used, err := readHead(r, buf, DefaultMaxHeadBytes, http.MethodGet)
			if err != nil || len(h.fields.HTTP()) != 6 {
				b.Fatal(err)
			}
			buf = used
		}
	})
	b.Run("http.ReadResponse", func(b *testing.B) {
		b.ReportAllocs()
		req := &http.Request{Method: http.MethodGet}
		for b.Loop() {
			next()
			resp, err := http.ReadResponse(r, req)
			if err != nil || resp.Body.Close() != nil {
				b.Fatal(err)
			}
		}
	})
}
