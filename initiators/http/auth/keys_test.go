package auth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators/http/auth"
	"github.com/skybus-io/skybus/kv"
)

func connect(t testing.TB, s *bustest.Node, namespace string) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: s, Namespace: namespace})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.NATS().Close() })
	return conn
}

func openGuard(t testing.TB, conn *bus.Conn, cfg auth.Config, opts auth.Options) *auth.Guard {
	t.Helper()
	g, err := auth.Open(t.Context(), conn, cfg, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func openKeys(t testing.TB, conn *bus.Conn) *auth.Keys {
	t.Helper()
	keys, err := auth.OpenKeys(t.Context(), conn, false)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func newKey(t testing.TB, keys *auth.Keys, n auth.NewKey) (auth.Key, string) {
	t.Helper()
	k, secret, err := keys.New(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return k, secret
}

// request is one with header fields, given as name and value.
func request(t testing.TB, fields ...string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	return r
}

func bearer(t testing.TB, token string) *http.Request {
	t.Helper()
	return request(t, "Authorization", "Bearer "+token)
}

// admits waits until the guard knows what was just written.
func admits(t *testing.T, g *auth.Guard, secret string, want bool) {
	t.Helper()
	bustest.Eventually(t, fmt.Sprintf("a key is taken: %t", want), func() bool {
		p, err := g.Authenticate(bearer(t, secret))
		return (err == nil && p.Kind == auth.APIKey) == want
	})
}

func TestKeys(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s, "shop.prod")
	if _, err := auth.OpenKeys(t.Context(), conn, true); !errors.Is(err, kv.ErrNoBucket) {
		t.Errorf("bound to keys that nobody made: %v", err)
	}
	keys := openKeys(t, conn)
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	k, secret := newKey(t, keys, auth.NewKey{Name: "billing", Scopes: []string{"orders:read"}, Expires: expires})
	if k.Name != "billing" || !slices.Equal(k.Scopes, []string{"orders:read"}) || !k.Expires.Equal(expires) || k.Created.IsZero() || k.Disabled {
		t.Errorf("made %+v", k)
	}
	if got, err := keys.Get(t.Context(), k.ID); err != nil || got.Name != k.Name {
		t.Errorf("got %+v, %v", got, err)
	}
	other, _ := newKey(t, keys, auth.NewKey{})
	var ids []string
	for k, err := range keys.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, k.ID)
	}
	slices.Sort(ids)
	if want := []string{k.ID, other.ID}; !slices.Equal(ids, slices.Sorted(slices.Values(want))) {
		t.Errorf("listed %q, want %q", ids, want)
	}

	// What is stored holds nothing of the secret.
	raw, err := kv.Open[json.RawMessage](t.Context(), conn, auth.KeysBucket, kv.Config{Bind: true})
	if err != nil {
		t.Fatal(err)
	}
	e, err := raw.Get(t.Context(), "shop.prod."+k.ID)
	if err != nil {
		t.Fatal(err)
	}
	if text := secret[strings.LastIndexByte(secret, '_')+1:]; strings.Contains(string(e.Value), text) || !strings.Contains(string(e.Value), `"sha256"`) {
		t.Errorf("stored is %s", e.Value)
	}

	if err := keys.Remove(t.Context(), k.ID); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"remove": keys.Remove(t.Context(), k.ID),
		"get":    second(keys.Get(t.Context(), k.ID)),
		"enable": second(keys.Disable(t.Context(), k.ID, false)),
	} {
		if bus.CodeOf(err) != bus.NotFound {
			t.Errorf("%s of what is not there: %v", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestNewKeyRefuses(t *testing.T) {
	t.Parallel()
	keys := openKeys(t, connect(t, bustest.Server(t), ""))
	for want, n := range map[string]auth.NewKey{
		"name":      {Name: "a\nb"},
		"name: ":    {Name: strings.Repeat("x", 129)},
		"expires":   {Expires: time.Now().Add(-time.Second)},
		"scopes[1]": {Scopes: []string{"ok", "not ok"}},
		"scopes[0]": {Scopes: []string{`a"b`}},
		"scopes":    {Scopes: make([]string, 101)},
	} {
		_, secret, err := keys.New(t.Context(), n)
		if bus.CodeOf(err) != bus.InvalidArgument || !strings.Contains(err.Error(), want) || secret != "" {
			t.Errorf("%+v: %v: want %q in it", n, err, want)
		}
	}
	for _, id := range []string{"", "a.b", "*", ">", "UPPER", strings.Repeat("a", 33), "sbk_abc_secret"} {
		_, err := keys.Get(t.Context(), id)
		if bus.CodeOf(err) != bus.InvalidArgument || strings.Contains(err.Error(), "secret") {
			t.Errorf("id %q: %v", id, err)
		}
	}
}

func TestKeyInHeaders(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s, "shop.prod")
	k, secret := newKey(t, openKeys(t, conn), auth.NewKey{Name: "billing", Scopes: []string{"a", "b"}})
	_, foreign := newKey(t, openKeys(t, connect(t, s, "shop.dev")), auth.NewKey{})
	g := openGuard(t, conn, auth.Config{Keys: &auth.KeysConfig{}}, auth.Options{})
	admits(t, g, secret, true)

	for _, fields := range [][]string{
		{"Authorization", "Bearer " + secret},
		{"Authorization", "bearer  " + secret},
		{"X-Api-Key", secret},
	} {
		p, err := g.Authenticate(request(t, fields...))
		if err != nil || p.Kind != auth.APIKey || p.ID != k.ID || p.Name != "billing" || !slices.Equal(p.Scopes, k.Scopes) {
			t.Errorf("%q: %+v, %v", fields[0], p, err)
		}
	}
	for name, fields := range map[string][]string{
		"of another namespace":  {"X-Api-Key", foreign},
		"not a key":             {"X-Api-Key", "x"},
		"empty":                 {"X-Api-Key", ""},
		"empty bearer":          {"Authorization", "Bearer"},
		"another scheme":        {"Authorization", "Basic " + secret},
		"without a scheme":      {"Authorization", secret},
		"twice in one field":    {"Authorization", "Bearer " + secret + ", Bearer " + secret},
		"in two fields":         {"Authorization", "Bearer " + secret, "X-Api-Key", secret},
		"twice":                 {"Authorization", "Bearer " + secret, "Authorization", "Bearer " + secret},
		"wrong, then right":     {"X-Api-Key", foreign, "X-Api-Key", secret},
		"right, then wrong":     {"X-Api-Key", secret, "X-Api-Key", foreign},
		"wrong last character":  {"X-Api-Key", flip(secret)},
		"another id":            {"X-Api-Key", "sbk_aaaaaaaaaaaaaaaa" + secret[len("sbk_")+len(k.ID):]},
		"opaque bearer token":   {"Authorization", "Bearer abcdef"},
		"a token like a JWT":    {"Authorization", "Bearer a.b.c"},
		"oversized":             {"Authorization", "Bearer " + strings.Repeat("a", 9<<10)},
		"oversized with prefix": {"X-Api-Key", secret + strings.Repeat("a", 9<<10)},
	} {
		p, err := g.Authenticate(request(t, fields...))
		if bus.CodeOf(err) != bus.Unauthenticated || p != nil {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}

	// Never from the query, nor from a cookie: they count as nothing.
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?api_key="+secret+"&access_token="+secret, nil)
	r.AddCookie(&http.Cookie{Name: "X-Api-Key", Value: secret})
	if p, err := g.Authenticate(r); err != nil || p.Kind != auth.Anonymous {
		t.Errorf("a key in the query: %+v, %v", p, err)
	}
}

// flip changes the last character but one to another of the alphabet.
func flip(secret string) string {
	b := []byte(secret)
	if i := len(b) - 2; b[i] == 'a' {
		b[i] = 'b'
	} else {
		b[i] = 'a'
	}
	return string(b)
}

// What is wrong with a key is not told apart: the answers to a key that is not there, one with a wrong secret, and one that is
// disabled or expired are the same to the byte.
func TestKeyFailuresLookAlike(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t), "")
	keys := openKeys(t, conn)
	k, live := newKey(t, keys, auth.NewKey{})
	off, disabled := newKey(t, keys, auth.NewKey{})
	if _, err := keys.Disable(t.Context(), off.ID, true); err != nil {
		t.Fatal(err)
	}
	_, expired := newKey(t, keys, auth.NewKey{Expires: time.Now().Add(50 * time.Millisecond)})
	g := openGuard(t, conn, auth.Config{Keys: &auth.KeysConfig{}}, auth.Options{})
	admits(t, g, live, true)
	admits(t, g, expired, false)
	answers := map[string]string{}
	for name, secret := range map[string]string{
		"wrong secret": flip(live), "not there": "sbk_aaaaaaaaaaaaaaaa" + live[len("sbk_")+len(k.ID):], "disabled": disabled, "expired": expired, "no key": "sbk_x",
	} {
		h := http.Header{}
		_, err := g.Authorize(h, bearer(t, secret), auth.Policy{})
		if err == nil {
			t.Fatalf("%s: taken", name)
		}
		answers[fmt.Sprint(bus.AsError(err).Message, h)] = name
	}
	if len(answers) != 1 {
		t.Errorf("answers differ: %q", answers)
	}
}

// A key that is disabled or removed is refused within 50 ms of the acknowledgement, while others use it.
func TestKeyRevokedWhileUsed(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t), "")
	keys := openKeys(t, conn)
	g := openGuard(t, conn, auth.Config{Keys: &auth.KeysConfig{}}, auth.Options{})
	for name, revoke := range map[string]func(id string) error{
		"disable": func(id string) error { return second(keys.Disable(t.Context(), id, true)) },
		"remove":  func(id string) error { return keys.Remove(t.Context(), id) },
	} {
		k, secret := newKey(t, keys, auth.NewKey{})
		admits(t, g, secret, true)
		stop := make(chan struct{})
		var last time.Time // when it was taken for the last time
		var users sync.WaitGroup
		users.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := g.Authenticate(bearer(t, secret)); err == nil {
					last = time.Now()
				}
			}
		})
		if err := revoke(k.ID); err != nil {
			t.Fatal(err)
		}
		revoked := time.Now()
		admits(t, g, secret, false)
		close(stop)
		users.Wait()
		if late := last.Sub(revoked); late > 50*time.Millisecond {
			t.Errorf("%s: still taken %v after it was acknowledged", name, late)
		}
		admits(t, g, secret, false)
	}
}

func TestKeyEnabledAgain(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t), "")
	keys := openKeys(t, conn)
	g := openGuard(t, conn, auth.Config{Keys: &auth.KeysConfig{Header: "X-Shop-Key"}}, auth.Options{})
	k, secret := newKey(t, keys, auth.NewKey{})
	for _, disabled := range []bool{true, true, false, true, false} {
		if got, err := keys.Disable(t.Context(), k.ID, disabled); err != nil || got.Disabled != disabled {
			t.Fatalf("%+v, %v", got, err)
		}
		admits(t, g, secret, !disabled)
	}
	if p, err := g.Authenticate(request(t, "X-Shop-Key", secret)); err != nil || p.ID != k.ID {
		t.Errorf("in a header of another name: %+v, %v", p, err)
	}
	if p, err := g.Authenticate(request(t, "X-Api-Key", secret)); err != nil || p.Kind != auth.Anonymous {
		t.Errorf("in a header that is not the keys': %+v, %v", p, err)
	}
}

// Records that nobody of ours wrote let nobody in, and do not disturb the others.
func TestKeyRecordsThatAreNone(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t), "default.dev")
	keys := openKeys(t, conn)
	k, secret := newKey(t, keys, auth.NewKey{})
	raw, err := kv.Open[json.RawMessage](t.Context(), conn, auth.KeysBucket, kv.Config{Bind: true})
	if err != nil {
		t.Fatal(err)
	}
	good, err := raw.Get(t.Context(), "default.dev."+k.ID)
	if err != nil {
		t.Fatal(err)
	}
	for id, record := range map[string]string{
		"aaaa": `[]`, "bbbb": `{}`, "cccc": `{"id":"cccc","sha256":"00"}`, "dddd": string(good.Value), // a copy of another key's under its own id
	} {
		if _, err := raw.Put(t.Context(), "default.dev."+id, json.RawMessage(record)); err != nil {
			t.Fatal(err)
		}
	}
	g := openGuard(t, conn, auth.Config{Keys: &auth.KeysConfig{}}, auth.Options{})
	admits(t, g, secret, true)
	rest := secret[len("sbk_")+len(k.ID):]
	for _, id := range []string{"aaaa", "bbbb", "cccc", "dddd"} {
		if p, err := g.Authenticate(bearer(t, "sbk_"+id+rest)); err == nil {
			t.Errorf("%s: %+v", id, p)
		}
	}
	bad := 0
	for k, err := range keys.List(t.Context()) {
		if err != nil {
			bad++
		}
		if k.ID == "aaaa" && err == nil {
			t.Error("a record that is no key is listed as one")
		}
	}
	if bad != 2 {
		t.Errorf("%d records are unreadable, want 2", bad)
	}
	if err := keys.Remove(t.Context(), "aaaa"); err != nil {
		t.Errorf("remove what cannot be read: %v", err)
	}
	if _, err := g.Authenticate(bearer(t, secret)); err != nil {
		t.Error(err)
	}
}

// No secret is in what is logged, nor in errors and their causes.
func TestNoSecretIsTold(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t), "")
	keys := openKeys(t, conn)
	k, secret := newKey(t, keys, auth.NewKey{})
	var log bytes.Buffer
	g := openGuard(t, conn, auth.Config{Keys: &auth.KeysConfig{}}, auth.Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	admits(t, g, secret, true)
	wrong := flip(secret)
	h := http.Header{}
	_, err := g.Authorize(h, bearer(t, wrong), auth.Policy{})
	text := log.String() + fmt.Sprintf("%v %+v %v %v %+v", err, err, errors.Unwrap(err), h, k)
	for _, s := range []string{secret, wrong} {
		if part := s[strings.LastIndexByte(s, '_')+1:][:8]; strings.Contains(text, part) {
			t.Errorf("%q is in %s", part, text)
		}
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s, "")
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if g, err := auth.Open(ctx, conn, auth.Config{Keys: &auth.KeysConfig{}}, auth.Options{}); err == nil {
		_ = g.Close()
		t.Error("opened without a server")
	}
	if _, err := auth.Open(t.Context(), nil, auth.Config{Keys: &auth.KeysConfig{}}, auth.Options{}); bus.CodeOf(err) != bus.InvalidArgument {
		t.Errorf("keys without a connection: %v", err)
	}
}

func BenchmarkKey(b *testing.B) {
	conn := connect(b, bustest.Server(b), "")
	_, secret := newKey(b, openKeys(b, conn), auth.NewKey{Scopes: []string{"a"}})
	g := openGuard(b, conn, auth.Config{Keys: &auth.KeysConfig{}}, auth.Options{})
	r, h, policy := bearer(b, secret), http.Header{}, auth.Policy{Scopes: []string{"a"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Authorize(h, r, policy); err != nil {
			b.Fatal(err)
		}
	}
}

// A guard may be closed by several at a time, and again.
func TestCloseGuardTogether(t *testing.T) {
	t.Parallel()
	g := openGuard(t, connect(t, bustest.Server(t), "app.test"), auth.Config{Keys: &auth.KeysConfig{}}, auth.Options{})
	var closing sync.WaitGroup
	for range 4 {
		closing.Go(func() {
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	closing.Wait()
}
