package http

import (
	"bytes"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/route"
)

func TestIdempotencyPanic(t *testing.T) {
	t.Parallel()
	r := bareRig(t, bustest.Server(t))
	var calls atomic.Int64
	h := onceHandler(t, r.once(t), Idempotency{}, "pay", func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write([]byte("done"))
	})
	func() {
		defer func() {
			if p := recover(); p != http.ErrAbortHandler { //nolint:errorlint // the very value
				t.Errorf("recovered %v", p)
			}
		}()
		ask(h, http.MethodPost, "/", "", "Idempotency-Key", "k")
	}()
	if resp := ask(h, http.MethodPost, "/", "", "Idempotency-Key", "k"); text(t, resp) != "done" {
		t.Errorf("after a panic: %s", resp.Status)
	}
}

// Without a store nothing is done: the promise could not be kept.
func TestIdempotencyNoStore(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := bareRig(t, bustest.Server(t))
		var calls atomic.Int64
		h := onceHandler(t, r.once(t), Idempotency{}, "pay", func(http.ResponseWriter, *http.Request) { calls.Add(1) })
		r.node.Stop()
		begin := time.Now()
		resp := ask(h, http.MethodPost, "/", "", "Idempotency-Key", "k")
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || calls.Load() != 0 {
			t.Errorf("%s %v, %d calls", resp.Status, resp.Header, calls.Load())
		}
		if took := time.Since(begin); took > claimTimeout+time.Second {
			t.Errorf("it took %v", took)
		}
		r.node.Start(t)
	})
}

// A full store refuses what it could not promise, and goes on with all else.
func TestIdempotencyFull(t *testing.T) {
	t.Parallel()
	r := bareRig(t, bustest.Server(t))
	if _, err := kv.Open[onceRecord](t.Context(), r.conn, AnswersBucket, kv.Config{MaxBytes: 8 << 10}); err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	h := onceHandler(t, r.once(t), Idempotency{}, "pay", func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		_, _ = w.Write(bytes.Repeat([]byte("x"), 1000))
	})
	status, n := 0, int64(0)
	for ; status != http.StatusInsufficientStorage && n < 50; n++ {
		resp := ask(h, http.MethodPost, "/", "", "Idempotency-Key", fmt.Sprint("k", n))
		if status = resp.StatusCode; status == http.StatusOK && calls.Load() != n+1 || status != http.StatusOK && calls.Load() != n {
			t.Errorf("%s, %d calls", resp.Status, calls.Load())
		}
	}
	if n == 50 || n < 3 {
		t.Errorf("full after %d keys", n)
	}
	if resp := ask(h, http.MethodPost, "/", "", "Idempotency-Key", "k0"); resp.StatusCode != http.StatusOK || resp.Header.Get(headerReplayed) != "true" {
		t.Errorf("a repeat: %s", resp.Status)
	}
	if resp := ask(h, http.MethodPost, "/", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("without a key: %s", resp.Status)
	}
}

// What a gateway did that died is done again by a repeat, with the same key for the target, once its lease is over, and not before. What
// takes longer than the lease stays with a gateway that lives. Answers are forgotten in time.
func TestIdempotencyInTime(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := bareRig(t, bustest.Server(t))
		o := r.once(t)
		cfg, err := Idempotency{Wait: route.Duration(time.Minute), TTL: route.Duration(time.Hour)}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		var calls atomic.Int64
		var keys []string
		takes := time.Duration(0)
		h := onceHandler(t, o, cfg, "pay", func(w http.ResponseWriter, r *http.Request) {
			keys = append(keys, keyOf(r.Context()))
			time.Sleep(takes) // fake time: as long as the request takes
			_, _ = fmt.Fprint(w, calls.Add(1))
		})
		token := hashed("default.dev", "pay", "", "k")
		dead := onceRequest{Idempotency: cfg, entry: "pay", token: token, key: "default.dev.once.pay." + token, hash: hashed("POST", "/", "", "", "")}
		if _, err := o.claim(t.Context(), dead); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		resp := ask(h, http.MethodPost, "/", "", "Idempotency-Key", "k")
		if took := time.Since(begin); text(t, resp) != "1" || took < 15*time.Second || took > 20*time.Second {
			t.Errorf("%s after %v", resp.Status, took)
		}
		if len(keys) != 1 || keys[0] != token {
			t.Errorf("the target was given %q, want %q", keys, token)
		}

		takes = 55 * time.Second
		var asking sync.WaitGroup
		for range 3 {
			asking.Go(func() {
				if resp := ask(h, http.MethodPost, "/", "", "Idempotency-Key", "long"); text(t, resp) != "2" {
					t.Errorf("of what takes long: %s", resp.Status)
				}
			})
		}
		asking.Wait()
		takes = 0

		time.Sleep(58 * time.Minute)
		if resp := ask(h, http.MethodPost, "/", "", "Idempotency-Key", "k"); text(t, resp) != "1" {
			t.Errorf("after 58 min: %s", resp.Status)
		}
		time.Sleep(3 * time.Minute)
		if resp := ask(h, http.MethodPost, "/", "", "Idempotency-Key", "k"); text(t, resp) != "3" {
			t.Errorf("after 1 h: %s", resp.Status)
		}
	})
}

// A renewal that was stored without an answer costs nothing: what is stored is still the claim's own, and it is renewed, answered or given back by that.
func TestIdempotencyRenewalNotHeard(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := bareRig(t, bustest.Server(t))
		o := r.once(t)
		var calls atomic.Int64
		var takes time.Duration
		status := http.StatusOK
		cfg := Idempotency{Wait: route.Duration(time.Minute)}
		h := onceHandler(t, o, cfg, "pay", func(w http.ResponseWriter, req *http.Request) {
			key := "default.dev.once.pay." + keyOf(req.Context())
			e, err := o.records.Get(req.Context(), key)
			if err == nil {
				_, err = o.records.Update(req.Context(), key, e.Value, e.Revision, kv.TTL(15*time.Second))
			}
			if err != nil {
				t.Error(err)
			}
			time.Sleep(takes) // fake time: as long as the answer takes
			w.WriteHeader(status)
			_, _ = fmt.Fprint(w, calls.Add(1))
		})
		for _, takes = range []time.Duration{0, 50 * time.Second} {
			calls.Store(0)
			var asking sync.WaitGroup
			for range 2 {
				asking.Go(func() {
					if resp := ask(h, http.MethodPost, "/", "", "Idempotency-Key", takes.String()); text(t, resp) != "1" || resp.Header.Get(headerStored) != "" {
						t.Errorf("of what takes %v: %s %v", takes, resp.Status, resp.Header)
					}
				})
			}
			asking.Wait()
		}
		takes, status = 0, http.StatusInternalServerError // which is done again
		begin := time.Now()
		for range 2 {
			ask(h, http.MethodPost, "/", "", "Idempotency-Key", "fails")
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("after a failure the key was held for %v", took)
		}
	})
}
