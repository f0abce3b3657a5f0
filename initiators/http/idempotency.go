package http

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/route"
)

// Defaults of [Idempotency].
const (
	DefaultKeyTTL    = 24 * time.Hour
	DefaultKeyAnswer = 64 << 10
	DefaultKeyLease  = 15 * time.Second
	DefaultKeyWait   = 10 * time.Second
)

const (
	maxKey       = 255
	maxKeyTTL    = 31 * 24 * time.Hour
	maxKeyLease  = 5 * time.Minute
	maxKeyWait   = time.Minute
	claimTimeout = 5 * time.Second // for JetStream to store that a request begins, or what it was answered

	headerReplayed = "Idempotency-Replayed"
	headerStored   = "Idempotency-Stored"
)

// Idempotency makes an entry do a write once for each Idempotency-Key, and answer repeats with what the first was answered
// (draft-ietf-httpapi-idempotency-key-header). It concerns all methods but GET, HEAD, OPTIONS and TRACE.
//
// # Keys
//
// A key is 1 to 255 visible characters of ASCII, in quotes or not. It counts for the namespace, the entry and who asks: without authentication all clients of an entry share
// their keys, so they should be random. The same key with another method, path, query, content type or body is refused (422). The target is given a key made
// of all that, the same for each repeat (Request.Key).
//
// # Delivery
//
// A request with a key is stored before it is done, and its answer before it is sent. It is done to its end also when its client goes. Repeats that come
// meanwhile wait, at any gateway, and are told to come later (409, Retry-After) when that takes longer than Wait. An answer that is replayed says so (Idempotency-Replayed:
// true). Server errors, 408 and 429 are not kept: a repeat does it again. An answer with a body of more than MaxAnswer is
// sent, says that it is not kept (Idempotency-Stored: false), and a repeat is refused (409). When a gateway dies while it does a request, or the answer cannot be stored, a repeat after Lease
// does it again: it is at least once then, and the target knows by the key.
type Idempotency struct {
	// TTL is how long answers are kept, 1m to 744h. 0 means 24h.
	TTL route.Duration `json:"ttl,omitzero"`
	// Required refuses writes without a key (400).
	Required bool `json:"required,omitempty"`
	// MaxAnswer is the largest answer that is kept, at most 512KiB. 0 means 64KiB.
	MaxAnswer Bytes `json:"max_answer,omitempty"`
	// Errors keeps server errors, 408 and 429 too.
	Errors bool `json:"errors,omitempty"`
	// Wait is how long a repeat waits for the first, at most 1m. 0 means 10s.
	Wait route.Duration `json:"wait,omitzero"`
	// Lease is how long after the death of a gateway what it did is done again by a repeat, 2s to 5m. 0 means 15s.
	Lease route.Duration `json:"lease,omitzero"`
}

// Validate finds what is wrong with c. The errors have the code invalid_argument and the detail field.
func (c Idempotency) Validate() error {
	_, err := c.withDefaults()
	return err
}

func (c Idempotency) withDefaults() (Idempotency, error) {
	for _, d := range []struct {
		name              string
		value             *route.Duration
		least, most, none time.Duration
	}{
		{"ttl", &c.TTL, time.Minute, maxKeyTTL, DefaultKeyTTL},
		{"wait", &c.Wait, time.Millisecond, maxKeyWait, DefaultKeyWait},
		{"lease", &c.Lease, 2 * time.Second, maxKeyLease, DefaultKeyLease},
	} {
		*d.value = cmp.Or(*d.value, route.Duration(d.none))
		if v := time.Duration(*d.value); v < d.least || v > d.most {
			return c, invalid("idempotency."+d.name, "%v: want %v to %v", v, d.least, d.most)
		}
	}
	c.MaxAnswer = cmp.Or(c.MaxAnswer, DefaultKeyAnswer)
	if c.MaxAnswer < 1 || c.MaxAnswer > MaxKeptAnswer {
		return c, invalid("idempotency.max_answer", "%d bytes: want 1 to %d", c.MaxAnswer, MaxKeptAnswer)
	}
	return c, nil
}

// onceRecord is what is stored under a key.
type onceRecord struct {
	// Request is a hash of the request.
	Request string `json:"request"`
	// Owner is who does it, while there is no answer.
	Owner  string      `json:"owner,omitempty"`
	Answer *keptAnswer `json:"answer,omitempty"`
}

// once does requests with a key once.
type once struct {
	records *kv.Table[onceRecord]
	ns      bus.Namespace
	log     *slog.Logger
	stats   *keptStats
}

// onceRequest is a request with a key.
type onceRequest struct {
	Idempotency

	entry string
	key   string // in the bucket
	token string // for the target
	hash  string // of the request
}

// isWrite tells whether a method changes anything.
func isWrite(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return false
	}
	return true
}

// idempotencyKey is the key of a request, empty where it has none.
func idempotencyKey(values []string) (string, error) {
	if len(values) == 0 {
		return "", nil
	}
	key, why := values[0], ""
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key, why = unquote(key[1 : len(key)-1])
	}
	switch {
	case len(values) > 1:
		why = "is there more than once"
	case why == "" && (key == "" || len(key) > maxKey):
		why = fmt.Sprintf("has %d characters", len(key))
	case why == "" && strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
		why = "has a character that is not visible ASCII"
	}
	if why != "" {
		return "", bus.Errorf(bus.InvalidArgument, "%s %s: want 1 to %d visible characters, such as a UUID", initiators.HeaderKey, why, maxKey).
			With("field", initiators.HeaderKey)
	}
	return key, nil
}

// unquote reads the inside of a string of RFC 9651.
func unquote(s string) (text, why string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"', s[i] == '\\' && (i+1 == len(s) || s[i+1] != '"' && s[i+1] != '\\'):
			return "", "is no string of structured fields"
		case s[i] == '\\':
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

// hashed is a token made of parts, of which no others make the same.
func hashed(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = h.Write(strconv.AppendInt(nil, int64(len(p)), 10)) // never fails
		_, _ = h.Write([]byte{':'})
		_, _ = h.Write([]byte(p))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// serve answers r, of which body is the whole body, by next or with what is kept. fail answers with an error.
func (o *once) serve(w http.ResponseWriter, r *http.Request, cfg Idempotency, entry, principal string, body []byte, next http.Handler, fail func(error)) {
	key, err := idempotencyKey(r.Header.Values(initiators.HeaderKey))
	switch {
	case err != nil:
		fail(err)
		return
	case !isWrite(r.Method):
		next.ServeHTTP(w, r)
		return
	case key == "" && cfg.Required:
		fail(bus.Errorf(bus.InvalidArgument, "%s is missing: want one of its own for each write, such as a UUID, and the same when the write is repeated", initiators.HeaderKey).
			With("field", initiators.HeaderKey))
		return
	case key == "":
		next.ServeHTTP(w, r)
		return
	}
	token := hashed(o.ns.String(), entry, principal, key)
	req := onceRequest{
		Idempotency: cfg, entry: entry, token: token, key: o.ns.Key("once", entry, token),
		hash: hashed(r.Method, r.URL.EscapedPath(), r.URL.RawQuery, r.Header.Get("Content-Type"), string(body)),
	}
	claim, answer, err := o.find(r.Context(), req)
	switch {
	case err != nil:
		if bus.CodeOf(err) == bus.Aborted || bus.CodeOf(err) == bus.Unavailable {
			w.Header().Set("Retry-After", "1")
		}
		fail(err)
	case claim == nil && answer.Size > 0:
		fail(bus.Errorf(bus.Aborted, "this request was done before, with status %d; its answer of %d bytes was too large to be kept", answer.Status, answer.Size))
	case claim == nil:
		o.stats.replayed.Add(1)
		w.Header().Set(headerReplayed, "true")
		answer.write(w)
	default:
		claim.do(w, r, next)
	}
}

// find claims a request, or finds what it was answered: by now, or within the time that repeats wait.
func (o *once) find(ctx context.Context, req onceRequest) (*onceClaim, *keptAnswer, error) {
	wait, cancel := context.WithTimeout(ctx, time.Duration(req.Wait))
	defer cancel()
	for {
		claim, err := o.claim(ctx, req)
		if err == nil {
			return claim, nil, nil
		}
		if !errors.Is(err, kv.ErrExists) {
			return nil, nil, unavailable("the key cannot be stored, and nothing was done", err)
		}
		e, err := o.answered(ctx, wait, req)
		switch {
		case e.Err != nil:
			return nil, nil, bus.Wrap(bus.Internal, "what is stored for this key cannot be read", e.Err)
		case err != nil && ctx.Err() != nil:
			return nil, nil, bus.Wrap(bus.Canceled, "the client has gone", err)
		case err != nil && wait.Err() != nil:
			return nil, nil, bus.Errorf(bus.Aborted, "a request with the same %s is not done after %v: ask again", initiators.HeaderKey, time.Duration(req.Wait))
		case err != nil:
			return nil, nil, unavailable("the answer to an earlier request cannot be read", err)
		case e.Deleted: // it was not done, or its gateway is dead
			continue
		case e.Value.Request != req.hash:
			err := bus.Errorf(bus.InvalidArgument, "%s was used for another request before: want a new one", initiators.HeaderKey).With("field", initiators.HeaderKey)
			err.Status = http.StatusUnprocessableEntity
			return nil, nil, err
		}
		return nil, e.Value.Answer, nil
	}
}

// answered is what is stored for a request, once it is all there is to know, or the time that repeats wait is over.
func (o *once) answered(ctx, wait context.Context, req onceRequest) (kv.Entry[onceRecord], error) {
	enough := func(e kv.Entry[onceRecord]) bool {
		return e.Deleted || e.Err != nil || e.Value.Request != req.hash || e.Value.Answer != nil
	}
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	e, err := o.records.Get(ctx, req.key)
	switch {
	case errors.Is(err, kv.ErrNotFound):
		return kv.Entry[onceRecord]{Deleted: true}, nil
	case e.Err == nil && err != nil || enough(e):
		return e, err
	}
	return await(wait, o.records, req.key, enough)
}

// onceClaim is the right to do a request, while it is renewed.
type onceClaim struct {
	once *once
	req  onceRequest
	rec  onceRecord

	// Of who renews it, until that has ended.
	revision uint64
	lost     bool
}

func (o *once) claim(ctx context.Context, req onceRequest) (*onceClaim, error) {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	c := &onceClaim{once: o, req: req, rec: onceRecord{Request: req.hash, Owner: rand.Text()}}
	var err error
	if c.revision, err = o.records.Create(ctx, req.key, c.rec, kv.TTL(time.Duration(req.Lease))); err == nil {
		return c, nil
	}
	if errors.Is(err, kv.ErrUncertain) { // it may be ours, and what is there now is the only word
		if e, gerr := o.records.Get(ctx, req.key); gerr == nil && e.Value.Owner == c.rec.Owner {
			c.revision = e.Revision
			return c, nil
		}
	}
	return nil, err
}

// do does the request and answers it. It is done to its end also when the client goes: a client that lost its connection repeats it.
func (c *onceClaim) do(w http.ResponseWriter, r *http.Request, next http.Handler) {
	ctx, cancel := context.WithCancel(withKey(context.WithoutCancel(r.Context()), c.req.token))
	var renewing sync.WaitGroup
	renewing.Go(func() { c.renew(ctx) })
	stop := sync.OnceFunc(func() {
		cancel()
		renewing.Wait()
	})
	defer stop()
	rec := newRecorder(w, int(c.req.MaxAnswer), func(h http.Header) { h.Set(headerStored, "false") })
	defer func() {
		if p := recover(); p != nil {
			stop()
			c.release(r.Context())
			panic(p)
		}
	}()
	next.ServeHTTP(rec, r.WithContext(ctx))
	stop() // nothing is renewed beside what is stored now
	kept := rec.kept()
	if !c.req.Errors && (kept.Status >= http.StatusInternalServerError || kept.Status == http.StatusTooManyRequests || kept.Status == http.StatusRequestTimeout) {
		c.release(r.Context())
	} else if err := c.store(r.Context(), kept); err != nil {
		c.once.log.WarnContext(r.Context(), "the answer to a request with a key is not kept: a repeat does it again", "entry", c.req.entry, "error", err)
		rec.header.Set(headerStored, "false")
	}
	rec.finish()
}

// renew keeps the claim until ctx ends.
func (c *onceClaim) renew(ctx context.Context) {
	lease := time.Duration(c.req.Lease)
	ticker := time.NewTicker(lease / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), lease/3)
		err := c.write(attempt, c.rec, lease)
		cancel()
		if errors.Is(err, kv.ErrConflict) {
			c.once.log.WarnContext(ctx, "a request with a key takes longer than its claim could be renewed: a repeat may do it again", "entry", c.req.entry, "error", err)
			return
		}
	}
}

func (c *onceClaim) write(ctx context.Context, rec onceRecord, ttl time.Duration) error {
	return c.owning(ctx, func(revision uint64) (uint64, error) {
		return c.once.records.Update(ctx, c.req.key, rec, revision, kv.TTL(ttl))
	})
}

// owning writes over the revision that the claim has. That may be another one than is known here: of a renewal that was stored without an answer.
func (c *onceClaim) owning(ctx context.Context, write func(revision uint64) (uint64, error)) error {
	if c.lost {
		return kv.ErrConflict
	}
	for {
		revision, err := write(c.revision)
		if err == nil {
			c.revision = revision
			return nil
		}
		if !errors.Is(err, kv.ErrConflict) {
			return err
		}
		e, gerr := c.once.records.Get(ctx, c.req.key)
		switch {
		case gerr != nil && !errors.Is(gerr, kv.ErrNotFound):
			return gerr // whose it is may be known the next time
		case gerr != nil || e.Value.Owner != c.rec.Owner || e.Revision == c.revision:
			c.lost = true
			return err
		}
		c.revision = e.Revision
	}
}

// store keeps the answer.
func (c *onceClaim) store(ctx context.Context, answer *keptAnswer) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimTimeout)
	defer cancel()
	return c.write(ctx, onceRecord{Request: c.req.hash, Answer: answer}, time.Duration(c.req.TTL))
}

// release lets a repeat do the request at once.
func (c *onceClaim) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimTimeout)
	defer cancel()
	err := c.owning(ctx, func(revision uint64) (uint64, error) {
		return revision, c.once.records.Delete(ctx, c.req.key, kv.IfRevision(revision))
	})
	if err != nil && !errors.Is(err, kv.ErrConflict) {
		c.once.log.WarnContext(ctx, "a request with a key that failed can be repeated only later", "entry", c.req.entry, "error", err)
	}
}

type keyContext struct{}

// withKey gives the targets of a request their key.
func withKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, keyContext{}, key)
}

// keyOf is the key for the targets of a request, empty where it has none.
func keyOf(ctx context.Context) string {
	key, _ := ctx.Value(keyContext{}).(string)
	return key
}
