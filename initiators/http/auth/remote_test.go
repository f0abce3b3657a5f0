package auth_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/http/auth"
)

// issuerServer answers for a key set, in the process, so that a bubble can hold it.
type issuerServer struct {
	fetches atomic.Int32

	mu     sync.Mutex
	answer func(r *http.Request) (*http.Response, error)
}

func (s *issuerServer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.fetches.Add(1)
	s.mu.Lock()
	answer := s.answer
	s.mu.Unlock()
	return answer(r)
}

func (s *issuerServer) set(f func(r *http.Request) (*http.Response, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

func body(status int, data io.Reader) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Body: io.NopCloser(data), Request: r, Header: http.Header{}}, nil
	}
}

func serves(data []byte) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) { return body(http.StatusOK, bytes.NewReader(data))(r) }
}

var errDown = errors.New("connection refused")

func down(*http.Request) (*http.Response, error) { return nil, errDown }

// hangs answers when the fetch is given up.
func hangs(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func remoteConfig(algs ...string) auth.JWTConfig {
	return auth.JWTConfig{Issuer: issuerName, Audience: []string{audience}, Algorithms: algs, JWKS: "https://id.example.org/keys?token=canary"}
}

func remoteGuard(t *testing.T, s *issuerServer, log io.Writer) *auth.Guard {
	t.Helper()
	return openGuard(t, nil, auth.Config{JWT: []auth.JWTConfig{remoteConfig("ES256")}}, auth.Options{
		Client: &http.Client{Transport: s}, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
}

func wantCode(t *testing.T, what string, g *auth.Guard, token string, want bus.Code) {
	t.Helper()
	if _, err := g.Authenticate(bearer(t, token)); bus.CodeOf(err) != want {
		t.Errorf("%s: %v: want %q", what, err, want)
	}
}

// A new key is known as soon as a token is signed by it, and one that was taken out of the set is refused after the next fetch.
func TestKeySetRotates(t *testing.T) {
	k := keysOnce()
	synctest.Test(t, func(t *testing.T) {
		s := &issuerServer{}
		first, second := jwk(t, "1", k.ec["ES256"], nil), jwk(t, "2", k.ec["ES256"], nil)
		s.set(serves(jwks(t, first)))
		g := remoteGuard(t, s, io.Discard)
		token := func(kid string) string {
			return sign(t, "ES256", k.ec["ES256"], map[string]any{"kid": kid}, claims(nil))
		}
		wantCode(t, "the key that is there", g, token("1"), "")
		time.Sleep(time.Minute)
		s.set(serves(jwks(t, first, second)))
		wantCode(t, "a key that came", g, token("2"), "")
		if n := s.fetches.Load(); n != 2 {
			t.Errorf("fetched %d times, want 2", n)
		}
		s.set(serves(jwks(t, second)))
		time.Sleep(auth.DefaultRefresh)
		synctest.Wait()
		wantCode(t, "a key that went", g, token("1"), bus.Unauthenticated)
		wantCode(t, "the key that stayed", g, token("2"), "")
	})
}

// Tokens of unknown keys have the set fetched once in 10 s, however many they are, and do not hold up others.
func TestUnknownKeyFlood(t *testing.T) {
	k := keysOnce()
	synctest.Test(t, func(t *testing.T) {
		s := &issuerServer{}
		s.set(serves(jwks(t, jwk(t, "1", k.ec["ES256"], nil))))
		g := remoteGuard(t, s, io.Discard)
		good := sign(t, "ES256", k.ec["ES256"], map[string]any{"kid": "1"}, claims(nil))
		unknown := sign(t, "ES256", k.ec["ES256"], map[string]any{"kid": "x"}, claims(nil))
		for range 1000 { // within the pause after the first fetch
			wantCode(t, "unknown key", g, unknown, bus.Unauthenticated)
		}
		if n := s.fetches.Load(); n != 1 {
			t.Errorf("fetched %d times, want 1", n)
		}
		began := time.Now()
		for range 100 {
			time.Sleep(time.Second)
			for range 10 {
				wantCode(t, "unknown key", g, unknown, bus.Unauthenticated)
			}
		}
		if n := s.fetches.Load(); n < 9 || n > 11 {
			t.Errorf("fetched %d times in 100 s, want 10", n)
		}
		if took := time.Since(began); took > 101*time.Second {
			t.Errorf("a server that answers at once held requests up: %v", took)
		}

		// A server that hangs holds up 16 of them, for 2 s; the others are answered at once.
		s.set(hangs)
		time.Sleep(11 * time.Second)
		var slow, quick atomic.Int32
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				began := time.Now()
				wantCode(t, "unknown key", g, unknown, bus.Unauthenticated)
				if time.Since(began) > 0 {
					slow.Add(1)
				} else {
					quick.Add(1)
				}
			})
		}
		all.Wait()
		if slow.Load() > 16 || quick.Load() < 84 {
			t.Errorf("%d requests waited, %d did not", slow.Load(), quick.Load())
		}
		wantCode(t, "a good token meanwhile", g, good, "")
	})
}

// While the server fails in any way, what was fetched last is used on; it is asked again soon, and less and less often.
func TestKeySetServerFails(t *testing.T) {
	k := keysOnce()
	huge := func() io.Reader { return io.MultiReader(strings.NewReader(`{"keys":[`), endless{}) }
	for name, answer := range map[string]func(*http.Request) (*http.Response, error){
		"down":        down,
		"slow":        hangs,
		"huge":        func(r *http.Request) (*http.Response, error) { return body(http.StatusOK, huge())(r) },
		"status 500":  body(http.StatusInternalServerError, strings.NewReader("oops")),
		"redirect":    body(http.StatusFound, strings.NewReader("")),
		"not JSON":    serves([]byte("<html>")),
		"no keys":     serves([]byte(`{"keys":[]}`)),
		"weak keys":   serves([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`)),
		"secrets":     serves([]byte(`{"keys":[{"kty":"oct","k":"` + strings.Repeat("A", 64) + `"}]}`)),
		"many keys":   serves([]byte(`{"keys":[{}` + strings.Repeat(`,{}`, 200) + `]}`)),
		"empty":       serves(nil),
		"deep":        serves([]byte(strings.Repeat(`{"keys":`, 20000))),
		"broken body": body(http.StatusOK, io.MultiReader(strings.NewReader(`{"keys":`), broken{})),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &issuerServer{}
				s.set(serves(jwks(t, jwk(t, "1", k.ec["ES256"], nil))))
				var log syncBuffer
				g := remoteGuard(t, s, &log)
				good := sign(t, "ES256", k.ec["ES256"], map[string]any{"kid": "1"}, claims(map[string]any{"exp": time.Now().Add(48 * time.Hour).Unix()}))
				s.set(answer)
				time.Sleep(time.Hour)
				wantCode(t, "with the last set", g, good, "")
				n := s.fetches.Load()
				if n < 40 || n > 140 {
					t.Errorf("fetched %d times in an hour", n)
				}
				if text := log.String(); !strings.Contains(text, "key set cannot be fetched") || strings.Contains(text, "canary") {
					t.Errorf("the log is %.500s", text)
				}
				s.set(serves(jwks(t, jwk(t, "2", k.ec["ES256"], nil))))
				time.Sleep(2 * time.Minute)
				wantCode(t, "with the new set", g, sign(t, "ES256", k.ec["ES256"], map[string]any{"kid": "2"}, claims(nil)), "")
			})
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// A gateway starts without the issuer's server: its tokens are unavailable, not wrong, until it answers.
func TestKeySetServerDownAtStart(t *testing.T) {
	k := keysOnce()
	for name, answer := range map[string]func(*http.Request) (*http.Response, error){"down": down, "slow": hangs} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &issuerServer{}
				s.set(answer)
				began := time.Now()
				g := remoteGuard(t, s, io.Discard)
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("the start took %v", took)
				}
				good := sign(t, "ES256", k.ec["ES256"], map[string]any{"kid": "1"}, claims(nil))
				wantCode(t, "without keys", g, good, bus.Unavailable)
				wantCode(t, "of nobody", g, sign(t, "none", nil, nil, claims(nil)), bus.Unauthenticated)
				s.set(serves(jwks(t, jwk(t, "1", k.ec["ES256"], nil))))
				time.Sleep(10 * time.Second)
				wantCode(t, "with keys", g, good, "")
			})
		})
	}
}

// The client that is made for it asks a real server, and follows no redirect.
func TestKeySetOverHTTP(t *testing.T) {
	t.Parallel()
	k := keysOnce()
	set := jwks(t, jwk(t, "1", k.ec["ES256"], nil))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) })
	mux.Handle("GET /moved", http.RedirectHandler("/keys", http.StatusFound))
	srv := httptest.NewServer(mux)
	defer srv.Close()
	for path, want := range map[string]bus.Code{"/keys": "", "/moved": bus.Unavailable} {
		cfg := remoteConfig("ES256")
		cfg.JWKS = srv.URL + path
		wantCode(t, path, tokenGuard(t, cfg), sign(t, "ES256", k.ec["ES256"], map[string]any{"kid": "1"}, claims(nil)), want)
	}
}
