package http

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/internal/httpx"
	"github.com/skybus-io/skybus/micro/route"
)

func (r *rig) once(t testing.TB) *once {
	t.Helper()
	records, err := openAnswers[onceRecord](t.Context(), r.conn, false)
	if err != nil {
		t.Fatal(err)
	}
	return &once{records: records, ns: r.conn.Namespace(), log: slog.New(slog.DiscardHandler), stats: &keptStats{}}
}

// onceHandler is next behind the keys of an entry; who asks stands in the header User.
func onceHandler(t testing.TB, o *once, cfg Idempotency, entry string, next http.HandlerFunc) http.Handler {
	t.Helper()
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(requestIDHeader, "id")
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		o.serve(w, r, cfg, entry, r.Header.Get("User"), body, next, func(err error) { writeProblem(w, err) })
	})
}

func writeProblem(w http.ResponseWriter, err error) {
	e := bus.AsError(err)
	httpx.Problem{Status: e.HTTPStatus(), Detail: e.Message, Code: string(e.Code), Details: e.Details}.Write(w)
}

// ask sends a request to h, with headers given as pairs.
func ask(h http.Handler, method, target, body string, headers ...string) *http.Response {
	return askWith(context.Background(), h, method, target, body, headers...)
}

func askWith(ctx context.Context, h http.Handler, method, target, body string, headers ...string) *http.Response {
	r := httptest.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// text is the body of an answer.
func text(t testing.TB, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// detail is the detail of a problem.
func detail(t testing.TB, resp *http.Response) string {
	t.Helper()
	var p httpx.Problem
	body := text(t, resp)
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Errorf("%s %q: %v", resp.Status, body, err)
	}
	return p.Detail
}

// A repeat is answered with what the first was, and not done.
func TestIdempotencyReplays(t *testing.T) {
	t.Parallel()
	r := bareRig(t, bustest.Server(t))
	var calls atomic.Int64
	var keys sync.Map
	h := onceHandler(t, r.once(t), Idempotency{}, "pay", func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		keys.Store(keyOf(r.Context()), true)
		w.Header().Set("Location", fmt.Sprint("/payments/", n))
		w.Header().Set("Content-Type", typeJSON)
		w.Header().Set("Set-Cookie", "a=b")
		w.WriteHeader(http.StatusCreated)
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"n":%d,"got":%s}`, n, body)
	})
	send := func(key string, more ...string) *http.Response {
		return ask(h, http.MethodPost, "/pay?x=1", `{"a":1}`, append([]string{"Idempotency-Key", key}, more...)...)
	}
	first := send("k1")
	if first.StatusCode != http.StatusCreated || text(t, first) != `{"n":1,"got":{"a":1}}` || first.Header.Get(headerReplayed) != "" || first.Header.Get("Set-Cookie") == "" {
		t.Errorf("the first: %s %v", first.Status, first.Header)
	}
	for _, key := range []string{"k1", `"k1"`} {
		again := send(key)
		if again.StatusCode != http.StatusCreated || text(t, again) != `{"n":1,"got":{"a":1}}` || again.Header.Get(headerReplayed) != "true" ||
			again.Header.Get("Location") != "/payments/1" || again.Header.Get("Content-Type") != typeJSON || again.Header.Get("Set-Cookie") != "" ||
			again.Header.Get(requestIDHeader) != "id" {
			t.Errorf("%s again: %s %v", key, again.Status, again.Header)
		}
	}
	if other := send("k2"); text(t, other) != `{"n":2,"got":{"a":1}}` {
		t.Errorf("another key: %s", other.Status)
	}
	if other := send("k1", "User", "ann"); text(t, other) != `{"n":3,"got":{"a":1}}` {
		t.Errorf("the key of another who asks: %s", other.Status)
	}
	for want := int64(4); want < 6; want++ {
		if ask(h, http.MethodPost, "/pay", ""); calls.Load() != want {
			t.Errorf("without a key: %d calls, want %d", calls.Load(), want)
		}
	}
	for want := int64(6); want < 8; want++ {
		if ask(h, http.MethodGet, "/pay", "", "Idempotency-Key", "k1"); calls.Load() != want {
			t.Errorf("a GET: %d calls, want %d", calls.Load(), want)
		}
	}
	n := 0
	keys.Range(func(key, _ any) bool {
		if key != "" {
			n++
			if bus.CheckToken("key", key.(string)) != nil {
				t.Errorf("the target's key is %q", key)
			}
		}
		return true
	})
	if n != 3 {
		t.Errorf("targets were given %d keys, want 3", n)
	}
}

func TestIdempotencyRefuses(t *testing.T) {
	t.Parallel()
	r := bareRig(t, bustest.Server(t))
	o := r.once(t)
	var calls atomic.Int64
	count := func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		_, _ = w.Write([]byte("done"))
	}
	h := onceHandler(t, o, Idempotency{Required: true}, "pay", count)
	ask(h, http.MethodPost, "/pay?x=1", "{}", "Idempotency-Key", "k", "Content-Type", typeJSON)
	for name, tt := range map[string]struct {
		method, target, body string
		headers              []string
		status               int
		says                 string
	}{
		"no key":       {http.MethodPost, "/pay?x=1", "{}", nil, 400, "is missing"},
		"empty key":    {http.MethodPost, "/pay?x=1", "{}", []string{""}, 400, "0 characters"},
		"quoted empty": {http.MethodPost, "/pay?x=1", "{}", []string{`""`}, 400, "0 characters"},
		"long key":     {http.MethodPost, "/pay?x=1", "{}", []string{strings.Repeat("x", 256)}, 400, "256 characters"},
		"space":        {http.MethodPost, "/pay?x=1", "{}", []string{"a b"}, 400, "visible ASCII"},
		"umlaut":       {http.MethodPost, "/pay?x=1", "{}", []string{"ä"}, 400, "visible ASCII"},
		"two keys":     {http.MethodPost, "/pay?x=1", "{}", []string{"a", "b"}, 400, "more than once"},
		"bad string":   {http.MethodPost, "/pay?x=1", "{}", []string{`"a"b"`}, 400, "structured fields"},
		"bad escape":   {http.MethodPost, "/pay?x=1", "{}", []string{`"a\n"`}, 400, "structured fields"},
		"method":       {http.MethodPut, "/pay?x=1", "{}", []string{"k"}, 422, "another request"},
		"path":         {http.MethodPost, "/pay2?x=1", "{}", []string{"k"}, 422, "another request"},
		"query":        {http.MethodPost, "/pay?x=2", "{}", []string{"k"}, 422, "another request"},
		"body":         {http.MethodPost, "/pay?x=1", "{ }", []string{"k"}, 422, "another request"},
	} {
		headers := []string{"Content-Type", typeJSON}
		for _, k := range tt.headers {
			headers = append(headers, "Idempotency-Key", k)
		}
		resp := ask(h, tt.method, tt.target, tt.body, headers...)
		if says := detail(t, resp); resp.StatusCode != tt.status || !strings.Contains(says, tt.says) {
			t.Errorf("%s: %s %q, want %d that says %q", name, resp.Status, says, tt.status, tt.says)
		}
	}
	if resp := ask(h, http.MethodPost, "/pay?x=1", "{}", "Idempotency-Key", "k"); resp.StatusCode != 422 {
		t.Errorf("another content type: %s", resp.Status)
	}
	if calls.Load() != 1 {
		t.Errorf("%d calls", calls.Load())
	}
	if ask(onceHandler(t, o, Idempotency{}, "refund", count), http.MethodPost, "/pay?x=2", "", "Idempotency-Key", "k"); calls.Load() != 2 {
		t.Error("the key counts for another entry too")
	}
}

func TestIdempotencyConfig(t *testing.T) {
	t.Parallel()
	for field, cfg := range map[string]Idempotency{
		"":                       {TTL: route.Duration(time.Hour), MaxAnswer: 512 << 10, Wait: 1e9, Lease: 2e9},
		"idempotency.ttl":        {TTL: 1e9},
		"idempotency.wait":       {Wait: route.Duration(time.Hour)},
		"idempotency.lease":      {Lease: 1e9},
		"idempotency.max_answer": {MaxAnswer: 512<<10 + 1},
	} {
		err := cfg.Validate()
		if field == "" && err != nil || field != "" && (bus.CodeOf(err) != bus.InvalidArgument || bus.AsError(err).Details["field"] != field) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	var cfg Idempotency
	if err := json.Unmarshal([]byte(`{"ttl":"48h","required":true,"max_answer":"64KiB","lease":"5s"}`), &cfg); err != nil {
		t.Fatal(err)
	}
	if cfg != (Idempotency{TTL: route.Duration(48 * time.Hour), Required: true, MaxAnswer: 64 << 10, Lease: 5e9}) {
		t.Errorf("%+v", cfg)
	}
}

// Repeats at the same time, at two gateways, wait for the first and are answered with its answer.
func TestIdempotencyConcurrent(t *testing.T) {
	t.Parallel()
	r := bareRig(t, bustest.Server(t))
	var calls atomic.Int64
	release := make(chan struct{})
	next := func(w http.ResponseWriter, _ *http.Request) {
		n := calls.Add(1)
		bustest.Hold(t, release)
		_, _ = fmt.Fprint(w, n)
	}
	gateways := []http.Handler{
		onceHandler(t, r.once(t), Idempotency{Wait: route.Duration(30 * time.Second)}, "pay", next),
		onceHandler(t, bareRig(t, r.node).once(t), Idempotency{Wait: route.Duration(30 * time.Second)}, "pay", next),
	}
	var replayed atomic.Int64
	var asking sync.WaitGroup
	for i := range 20 {
		asking.Go(func() {
			resp := ask(gateways[i%2], http.MethodPost, "/", "{}", "Idempotency-Key", "k")
			if body := text(t, resp); resp.StatusCode != http.StatusOK || body != "1" {
				t.Errorf("%s %s", resp.Status, body)
			}
			if resp.Header.Get(headerReplayed) == "true" {
				replayed.Add(1)
			}
		})
	}
	bustest.Eventually(t, "the first", func() bool { return calls.Load() == 1 })
	hasty := onceHandler(t, r.once(t), Idempotency{Wait: route.Duration(50 * time.Millisecond)}, "pay", next)
	if resp := ask(hasty, http.MethodPost, "/", "{}", "Idempotency-Key", "k"); resp.StatusCode != http.StatusConflict || resp.Header.Get("Retry-After") != "1" {
		t.Errorf("who waits for 50 ms: %s, %v", resp.Status, resp.Header)
	}
	if resp := ask(hasty, http.MethodPost, "/", "{ }", "Idempotency-Key", "k"); resp.StatusCode != 422 {
		t.Errorf("another request with the key meanwhile: %s", resp.Status)
	}
	close(release)
	asking.Wait()
	if calls.Load() != 1 || replayed.Load() != 19 {
		t.Errorf("%d calls, %d repeats", calls.Load(), replayed.Load())
	}
}

// Server errors are not kept unless the entry says so; who waits for a request that fails does it.
func TestIdempotencyErrors(t *testing.T) {
	t.Parallel()
	r := bareRig(t, bustest.Server(t))
	o := r.once(t)
	var calls atomic.Int64
	status := func(_ context.Context, code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			calls.Add(1)
			w.WriteHeader(code)
		}
	}
	for code, kept := range map[int]bool{200: true, 204: true, 301: true, 400: true, 404: true, 409: true, 408: false, 429: false, 500: false, 503: false, 504: false} {
		for _, errors := range []bool{false, true} {
			calls.Store(0)
			entry := fmt.Sprintf("%d-%v", code, errors)
			h := onceHandler(t, o, Idempotency{Errors: errors}, entry, status(t.Context(), code))
			for range 2 {
				if resp := ask(h, http.MethodPost, "/", "", "Idempotency-Key", "k"); resp.StatusCode != code {
					t.Errorf("%s: %s", entry, resp.Status)
				}
			}
			if want := map[bool]int64{true: 1, false: 2}[kept || errors]; calls.Load() != want {
				t.Errorf("%s: %d calls, want %d", entry, calls.Load(), want)
			}
		}
	}
	calls.Store(0)
	began := make(chan struct{}, 10)
	h := onceHandler(t, o, Idempotency{}, "flaky", func(w http.ResponseWriter, _ *http.Request) {
		n := calls.Add(1)
		began <- struct{}{}
		if n < 3 {
			time.Sleep(20 * time.Millisecond) // so that others come meanwhile
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write([]byte("good"))
	})
	var good, bad atomic.Int64
	var asking sync.WaitGroup
	for range 5 {
		asking.Go(func() {
			if resp := ask(h, http.MethodPost, "/", "", "Idempotency-Key", "k"); resp.StatusCode == http.StatusOK {
				good.Add(1)
			} else {
				bad.Add(1)
			}
		})
	}
	asking.Wait()
	if calls.Load() != 3 || good.Load() != 3 || bad.Load() != 2 {
		t.Errorf("%d calls, %d good answers, %d bad", calls.Load(), good.Load(), bad.Load())
	}
}

// An answer that is too large is sent and not kept; what it answered is not done again.
func TestIdempotencyLargeAnswer(t *testing.T) {
	t.Parallel()
	r := bareRig(t, bustest.Server(t))
	var calls atomic.Int64
	h := onceHandler(t, r.once(t), Idempotency{MaxAnswer: 1000}, "pay", func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.Header().Set("X-A", "1")
		w.WriteHeader(http.StatusCreated)
		for range len(r.URL.RawQuery) {
			_, _ = w.Write(bytes.Repeat([]byte("x"), 100))
		}
	})
	if resp := ask(h, http.MethodPost, "/?"+strings.Repeat("x", 10), "", "Idempotency-Key", "fits"); resp.Header.Get(headerStored) != "" || len(text(t, resp)) != 1000 {
		t.Errorf("1,000 bytes: %v", resp.Header)
	}
	url := "/?" + strings.Repeat("x", 25)
	resp := ask(h, http.MethodPost, url, "", "Idempotency-Key", "k")
	if resp.StatusCode != http.StatusCreated || len(text(t, resp)) != 2500 || resp.Header.Get(headerStored) != "false" || resp.Header.Get("X-A") != "1" {
		t.Errorf("2,500 bytes: %s %v", resp.Status, resp.Header)
	}
	again := ask(h, http.MethodPost, url, "", "Idempotency-Key", "k")
	if says := detail(t, again); again.StatusCode != http.StatusConflict || !strings.Contains(says, "2500 bytes") || !strings.Contains(says, "status 201") {
		t.Errorf("again: %s %q", again.Status, says)
	}
	if calls.Load() != 2 {
		t.Errorf("%d calls", calls.Load())
	}
}

// A request whose client goes is done to its end, and a repeat has its answer.
func TestIdempotencyClientGone(t *testing.T) {
	t.Parallel()
	r := bareRig(t, bustest.Server(t))
	began, release := make(chan context.Context, 1), make(chan struct{})
	h := onceHandler(t, r.once(t), Idempotency{}, "pay", func(w http.ResponseWriter, r *http.Request) {
		began <- r.Context()
		bustest.Hold(t, release)
		_, _ = w.Write([]byte("done"))
	})
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		askWith(ctx, h, http.MethodPost, "/", "", "Idempotency-Key", "k")
	}()
	inner := bustest.Receive(t, "the request", began)
	cancel()
	if inner.Err() != nil {
		t.Error("the request ends with its client")
	}
	close(release)
	bustest.Receive(t, "the end of the request", gone)
	if resp := ask(h, http.MethodPost, "/", "", "Idempotency-Key", "k"); text(t, resp) != "done" || resp.Header.Get(headerReplayed) != "true" {
		t.Errorf("the repeat: %s %v", resp.Status, resp.Header)
	}
}

func FuzzIdempotencyKey(f *testing.F) {
	for _, s := range []string{"", "k", `"k"`, `"`, `""`, `"a\"b"`, `"a\\b"`, `"a\b"`, `"a"b"`, "a b", "ä", "\x00", strings.Repeat("x", 255), strings.Repeat("x", 256), "a,b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, err := idempotencyKey([]string{s})
		if err != nil {
			if key != "" || bus.CodeOf(err) != bus.InvalidArgument || len(err.Error()) > 300 {
				t.Errorf("%q: %q, %v", s, key, err)
			}
			return
		}
		if key == "" || len(key) > maxKey || strings.Trim(key, "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~") != "" {
			t.Errorf("%q is the key %q", s, key)
		}
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
		if again, err := idempotencyKey([]string{quoted}); err != nil || again != key {
			t.Errorf("%q is %q, and %q is %q, %v", s, key, quoted, again, err)
		}
	})
}

// No two lists of parts have the same hash.
func TestHashed(t *testing.T) {
	t.Parallel()
	seen := map[string][]string{}
	for _, parts := range [][]string{{}, {""}, {"", ""}, {"a"}, {"a", ""}, {"", "a"}, {"a", "b"}, {"ab"}, {"a1:b"}, {"1:a"}, {"a", "1:b"}} {
		h := hashed(parts...)
		if other, ok := seen[h]; ok || bus.CheckToken("hash", h) != nil {
			t.Errorf("%q and %q are %s", parts, other, h)
		}
		seen[h] = parts
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Bytes{
		`0`: 0, `65536`: 65536, `"64KiB"`: 65536, `"10MB"`: 10_000_000, `"1GiB"`: 1 << 30, `"7"`: 7, `"7B"`: 7, `"2k"`: 2048, `"1m"`: 1 << 20,
		`-1`: -1, `"-1"`: -1, `"KiB"`: -1, `1.5`: -1, `"1.5MiB"`: -1, `"9223372036854775807KiB"`: -1, `"1KiBs"`: -1, `"1 KiB"`: -1, `null`: -1, `{}`: -1, `""`: -1, `"1KMB"`: -1,
	} {
		got := Bytes(-1)
		err := json.Unmarshal([]byte(in), &got)
		if (err == nil) != (want >= 0) && in != "null" || got != want {
			t.Errorf("%s is %d, %v, want %d", in, got, err, want)
		}
	}
}
