package httpx_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/skybus-io/skybus/internal/httpx"
)

func TestGuardLoopback(t *testing.T) {
	t.Parallel()
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	loopback := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}
	open := &net.TCPAddr{IP: net.IPv4zero, Port: 8080}
	for host, want := range map[string]int{
		"127.0.0.1:8080":          http.StatusOK,
		"127.0.0.1":               http.StatusOK,
		"localhost:8080":          http.StatusOK,
		"LOCALHOST.":              http.StatusOK,
		"app.localhost:8080":      http.StatusOK,
		"[::1]:8080":              http.StatusOK,
		"[::1]":                   http.StatusOK,
		"192.0.2.1:8080":          http.StatusOK, // through a tunnel
		"":                        http.StatusOK,
		"evil.example":            http.StatusMisdirectedRequest,
		"evil.example:8080":       http.StatusMisdirectedRequest,
		"127.0.0.1.evil.example":  http.StatusMisdirectedRequest,
		"localhost.evil.example":  http.StatusMisdirectedRequest,
		"notlocalhost":            http.StatusMisdirectedRequest,
		"evil.example:80:80":      http.StatusBadRequest,
		"[evil.example]:8080":     http.StatusBadRequest,
		"0x7f000001.evil.example": http.StatusMisdirectedRequest,
	} {
		for addr, want := range map[net.Addr]int{loopback: want, open: http.StatusOK} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.Host = host
			w := httptest.NewRecorder()
			httpx.GuardLoopback(addr, ok).ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("Host %q on %s: %d, want %d", host, addr, w.Code, want)
			}
			if kind := w.Header().Get("Content-Type"); want != http.StatusOK && kind != httpx.TypeProblem {
				t.Errorf("Host %q on %s: %s %s", host, addr, kind, w.Body)
			}
		}
	}
}

func TestGuardLoopbackLetsHostsIn(t *testing.T) {
	t.Parallel()
	h := httpx.GuardLoopback(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), "app.example")
	for host, want := range map[string]int{
		"app.example": http.StatusOK, "APP.example.:80": http.StatusOK, "localhost": http.StatusOK,
		"x.app.example": http.StatusMisdirectedRequest, "example": http.StatusMisdirectedRequest,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("Host %q: %d, want %d", host, w.Code, want)
		}
	}
}
