package http

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/httpx"
	"github.com/skybus-io/skybus/internal/jscode"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/route"
)

// LaterStream is the work queue of requests that are answered later.
const LaterStream = "SKYBUS_HTTP"

// Defaults of [Async].
const (
	DefaultAsyncKeep     = time.Hour
	DefaultAsyncTimeout  = time.Minute
	DefaultAsyncAttempts = 10
	DefaultAsyncAnswer   = 256 << 10
	DefaultAsyncPending  = 1000
)

const (
	maxAsyncKeep     = 7 * 24 * time.Hour
	maxAsyncTimeout  = time.Hour
	maxAsyncAttempts = 1000
	maxAsyncPending  = 1_000_000
	pendingFor       = 7 * 24 * time.Hour // a request that nobody answered is given up then
	requestsPath     = "/v1/requests/"
)

// Async lets clients of an entry be answered later, with the header Prefer: respond-async (RFC 7240). Such a request is stored, and answered by 202 with a Location, below
// /v1/requests/, to ask how it stands. With wait=SECONDS beside it (at most 30) the gateway waits so long for the answer before.
//
// # Delivery
//
// What was answered by 202 survives every gateway: all of the namespace share the work, at least once each, with the same key for the target (Request.Key). An
// answer of 408, 429, 500, 502, 503, 504 or 507 is tried again, with a backoff from 1 s to 5 min, up to Attempts times; then it is given up. The
// credentials of the request, its headers Authorization, Cookie and the like, are not stored.
//
// # The answer
//
// GET of the Location is 200 with {"state": "pending", "done" or "failed", ...}, and the answer as it would have been: failed is one of 400 and more. Prefer: wait=SECONDS
// waits for it. GET of /answer below is that answer itself. It is 410 once it is given up, and 404 when it is no longer kept. Only who made the
// request may ask: as the same principal where the entry authenticates, and with the id, which nobody guesses.
type Async struct {
	// Always answers every request later, as if it had asked for that.
	Always bool `json:"always,omitempty"`
	// Keep is how long an answer is kept, 1m to 168h. 0 means 1h.
	Keep route.Duration `json:"keep,omitzero"`
	// Timeout is how long an attempt may take, at most 1h. 0 means 1m.
	Timeout route.Duration `json:"timeout,omitzero"`
	// Attempts is how often it is tried, at most 1,000 times. 0 means 10.
	Attempts int `json:"attempts,omitempty"`
	// MaxAnswer is the largest answer that is kept, at most 512KiB; of a larger one the status and size are. 0 means 256KiB.
	MaxAnswer Bytes `json:"max_answer,omitempty"`
	// MaxPending is how many requests of one client may wait for their answers in the entry, over all gateways, those that are to be tried again among them: more are 429. A
	// client is a principal, or an address (of IPv6 a /64) where nobody has to say who it is. What comes at the same moment may be more by as many. At most 1,000,000; 0 means 1,000.
	MaxPending int `json:"max_pending,omitempty"`
}

// Validate finds what is wrong with c. The errors have the code invalid_argument and the detail field.
func (c Async) Validate() error {
	_, err := c.withDefaults()
	return err
}

func (c Async) withDefaults() (Async, error) {
	c.Keep = cmp.Or(c.Keep, route.Duration(DefaultAsyncKeep))
	c.Timeout = cmp.Or(c.Timeout, route.Duration(DefaultAsyncTimeout))
	c.Attempts = cmp.Or(c.Attempts, DefaultAsyncAttempts)
	c.MaxAnswer = cmp.Or(c.MaxAnswer, DefaultAsyncAnswer)
	c.MaxPending = cmp.Or(c.MaxPending, DefaultAsyncPending)
	switch keep, timeout := time.Duration(c.Keep), time.Duration(c.Timeout); {
	case keep < time.Minute || keep > maxAsyncKeep:
		return c, invalid("async.keep", "%v: want %v to %v", keep, time.Minute, maxAsyncKeep)
	case timeout < time.Millisecond || timeout > maxAsyncTimeout:
		return c, invalid("async.timeout", "%v: want %v to %v", timeout, time.Millisecond, maxAsyncTimeout)
	case c.Attempts < 1 || c.Attempts > maxAsyncAttempts:
		return c, invalid("async.attempts", "%d: want 1 to %d", c.Attempts, maxAsyncAttempts)
	case c.MaxAnswer < 1 || c.MaxAnswer > MaxKeptAnswer:
		return c, invalid("async.max_answer", "%d bytes: want 1 to %d", c.MaxAnswer, MaxKeptAnswer)
	case c.MaxPending < 1 || c.MaxPending > maxAsyncPending:
		return c, invalid("async.max_pending", "%d: want 1 to %d", c.MaxPending, maxAsyncPending)
	}
	return c, nil
}

// States of a request that is answered later.
const (
	statePending = "pending"
	stateDone    = "done"
	stateFailed  = "failed" // answered with an error
	stateGone    = "gone"   // given up
)

// laterRecord is how a request stands.
type laterRecord struct {
	State     string      `json:"state"`
	Entry     string      `json:"entry"`
	Principal string      `json:"principal,omitempty"`
	Accepted  time.Time   `json:"accepted"`
	Finished  time.Time   `json:"finished,omitzero"`
	Expires   time.Time   `json:"expires,omitzero"`
	Attempts  int         `json:"attempts,omitempty"` // that were begun
	Error     string      `json:"error,omitempty"`    // of the last that failed
	Answer    *keptAnswer `json:"answer,omitempty"`
}

// laterWork is a request as it is stored until it is answered.
type laterWork struct {
	ID        string              `json:"id"`
	Entry     string              `json:"entry"`
	Principal []byte              `json:"principal,omitempty"` // who asked, as the gateway has it
	Subject   string              `json:"subject,omitempty"`   // the name of that
	Client    string              `json:"client,omitempty"`    // who counts for MaxPending
	Key       string              `json:"key"`
	Method    string              `json:"method"`
	URL       string              `json:"url"`
	Host      string              `json:"host"`
	Remote    string              `json:"remote"`
	Path      map[string]string   `json:"path,omitempty"`
	Header    map[string][]string `json:"header"`
	Body      []byte              `json:"body,omitempty"`
	Accepted  time.Time           `json:"accepted"`
}

// later keeps requests that are answered later, and answers them.
type later struct {
	conn    *bus.Conn
	records *kv.Table[laterRecord]
	log     *slog.Logger
	// answerer answers the requests of an entry, as it is now; ok is false where this gateway has none.
	answerer func(entry string) (h http.Handler, cfg Async, ok bool)
	places   int
	stats    *keptStats
}

func (l *later) key(id string) string { return l.conn.Namespace().Key("later", id) }

func (l *later) subject(entry string) string {
	return "skybus.http." + l.conn.Namespace().String() + "." + entry
}

func openLater(ctx context.Context, conn *bus.Conn) error {
	_, err := conn.OpenStream(ctx, jetstream.StreamConfig{
		Name:        LaterStream,
		Description: "skybus: requests that gateways answer later",
		Subjects:    []string{"skybus.http.>"},
		Retention:   jetstream.WorkQueuePolicy,
		Storage:     jetstream.FileStorage,
	})
	return err
}

// accept stores work and answers 202, or waits for the answer as long as the client prefers.
func (l *later) accept(w http.ResponseWriter, r *http.Request, p preferences, work laterWork, fail func(error)) {
	if err := l.store(r.Context(), work); err != nil {
		w.Header().Set("Retry-After", "1")
		fail(err)
		return
	}
	l.stats.accepted.Add(1)
	h := w.Header()
	h.Set("Location", requestsPath+work.ID)
	applied := "respond-async"
	if p.wait > 0 {
		applied += ", wait=" + strconv.Itoa(int(p.wait/time.Second))
		ctx, cancel := context.WithTimeout(r.Context(), p.wait)
		e, err := await(ctx, l.records, l.key(work.ID), func(e kv.Entry[laterRecord]) bool { return e.Deleted || e.Value.State != statePending })
		cancel()
		if err == nil && e.Value.Answer != nil && e.Value.Answer.Size == 0 {
			h.Set("Preference-Applied", applied)
			e.Value.Answer.write(w)
			return
		}
	}
	h.Set("Preference-Applied", applied)
	h.Set("Retry-After", "1")
	writeJSON(w, http.StatusAccepted, laterStatus{ID: work.ID, State: statePending, Accepted: work.Accepted})
}

// store stores the record first: who works on the request finds it.
func (l *later) store(ctx context.Context, work laterWork) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimTimeout)
	defer cancel()
	data, err := (bus.MessagePack{}).Marshal(work)
	if err != nil {
		return bus.Errorf(bus.Internal, "the request does not encode: %w", err)
	}
	key := l.key(work.ID)
	rec := laterRecord{State: statePending, Entry: work.Entry, Principal: work.Subject, Accepted: work.Accepted}
	rev, err := l.records.Create(ctx, key, rec, kv.TTL(pendingFor))
	if err == nil {
		if err = l.publish(ctx, work, data); err == nil {
			return nil
		}
		if ctx.Err() == nil { // else it may be stored all the same
			_ = l.records.Delete(ctx, key, kv.IfRevision(rev)) // else it expires
		}
	}
	return unavailable("the request cannot be stored for later", err)
}

func (l *later) publish(ctx context.Context, work laterWork, data []byte) error {
	msg := &nats.Msg{Subject: l.subjectOf(work), Header: bus.Envelope{
		ContentType: bus.MessagePack{}.ContentType(), RequestID: cmp.Or(http.Header(work.Header).Get(requestIDHeader), work.ID),
	}.Header(), Data: data}
	if limit := l.conn.NATS().MaxPayload(); int64(len(data)) > limit-headerRoom {
		e := bus.Wrap(bus.ResourceExhausted, "with its headers it is too large to be stored", nats.ErrMaxPayload)
		e.Status = http.StatusRequestEntityTooLarge
		return e
	}
	for {
		attempt, cancel := context.WithTimeout(ctx, streamAttempt)
		err := l.conn.Permitted(attempt, bus.Access{Publish: []string{msg.Subject}}, func(ctx context.Context) error {
			_, err := l.conn.JetStream().PublishMsg(ctx, msg, jetstream.WithMsgID(work.ID))
			return err
		})
		cancel()
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case errors.Is(err, jetstream.ErrNoStreamResponse):
			if err := openLater(ctx, l.conn); err != nil { // a memory store forgets the stream in a restart
				return err
			}
		case !errors.Is(err, context.DeadlineExceeded):
			return publishError(err)
		}
	}
}

// publishError says that there is no room: in the stream, or in the whole store.
func publishError(err error) error {
	if !jscode.Full(err) {
		return err
	}
	text := "the store is full"
	if jscode.Of(err) == jscode.StreamFull {
		text = LaterStream + " is full"
	}
	e := bus.Wrap(bus.ResourceExhausted, text, err)
	e.Status = http.StatusInsufficientStorage
	return e
}

const headerRoom = 4 << 10 // of a message, for what goes beside its body

// newWork is r as it is stored, without what proves who asks.
func newWork(r *http.Request, entry string, body []byte, path map[string]string) laterWork {
	header := r.Header.Clone()
	maps.DeleteFunc(header, func(name string, _ []string) bool { return isLost(name) })
	id := rand.Text()
	return laterWork{
		ID: id, Entry: entry, Key: cmp.Or(keyOf(r.Context()), id), Method: r.Method, URL: r.URL.RequestURI(), Host: r.Host, Remote: r.RemoteAddr,
		Path: path, Header: header, Body: body, Accepted: time.Now().UTC(),
	}
}

// request is the work as a request again.
func (work *laterWork) request(ctx context.Context) (*http.Request, error) {
	r, err := http.NewRequestWithContext(withKey(ctx, work.Key), work.Method, work.URL, http.NoBody)
	if err != nil {
		return nil, bus.Errorf(bus.InvalidArgument, "the stored request: %w", err)
	}
	r.Header, r.Host, r.RemoteAddr, r.RequestURI = maps.Clone(work.Header), work.Host, work.Remote, work.URL
	for name, value := range work.Path {
		r.SetPathValue(name, value)
	}
	return r, nil
}

// laterStatus is how a request stands, as clients are told.
type laterStatus struct {
	ID       string       `json:"id"`
	State    string       `json:"state"`
	Accepted time.Time    `json:"accepted"`
	Attempts int          `json:"attempts,omitempty"`
	Error    string       `json:"error,omitempty"`
	Finished time.Time    `json:"finished,omitzero"`
	Expires  time.Time    `json:"expires,omitzero"`
	Answer   *laterAnswer `json:"answer,omitempty"`
}

// laterAnswer is the answer as it would have been.
type laterAnswer struct {
	Status   int                 `json:"status"`
	Type     string              `json:"type,omitempty"`
	Header   map[string][]string `json:"header,omitempty"`
	Body     any                 `json:"body,omitempty"`
	Encoding string              `json:"encoding,omitempty"` // base64 where Body is neither JSON nor text
	Size     int                 `json:"size,omitempty"`     // of a body that is not kept, as it is too large
}

// status answers how a request stands. Principal is who asks, by what the entry of the record wants; it answers itself where it fails.
func (l *later) status(w http.ResponseWriter, r *http.Request, principal func(entry string) (name string, ok bool), fail func(error)) {
	id, raw := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, requestsPath), "/answer")
	ctx, cancel := context.WithTimeout(r.Context(), claimTimeout)
	defer cancel()
	unknown := unknownRequest()
	if bus.CheckToken("request", id) != nil {
		fail(unknown)
		return
	}
	e, err := l.records.Get(ctx, l.key(id))
	if errors.Is(err, kv.ErrNotFound) {
		fail(unknown)
		return
	}
	if err != nil {
		fail(unavailable("the request cannot be looked up", err))
		return
	}
	who, ok := principal(e.Value.Entry)
	switch {
	case !ok:
		return
	case who != e.Value.Principal:
		fail(unknown)
		return
	}
	rec := e.Value
	if p := parsePrefer(r.Header.Values("Prefer")); rec.State == statePending && p.wait > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), p.wait)
		defer cancel()
		w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(p.wait/time.Second)))
		if e, err := await(ctx, l.records, l.key(id), func(e kv.Entry[laterRecord]) bool { return !e.Deleted && e.Value.State != statePending }); err == nil {
			rec = e.Value
		}
	}
	l.tell(w, id, rec, raw, fail)
}

func unknownRequest() error {
	return bus.Errorf(bus.NotFound, "there is no such request, or its answer is not kept any more")
}

// tell answers how a request stands, or with its answer.
func (l *later) tell(w http.ResponseWriter, id string, rec laterRecord, raw bool, fail func(error)) {
	w.Header().Set("Cache-Control", "no-store")
	status := laterStatus{
		ID: id, State: rec.State, Accepted: rec.Accepted, Attempts: rec.Attempts, Error: rec.Error, Finished: rec.Finished, Expires: rec.Expires,
	}
	switch {
	case rec.State == stateGone:
		e := bus.Errorf(bus.NotFound, "the request was given up after %d attempts; the last error: %s", rec.Attempts, rec.Error)
		e.Status = http.StatusGone
		fail(e)
		return
	case rec.State == statePending:
		age := time.Since(rec.Accepted)
		w.Header().Set("Retry-After", strconv.Itoa(1+int(min(max(age, 0)/10, 30*time.Second)/time.Second)))
		code := http.StatusOK
		if raw {
			code = http.StatusAccepted // so that nobody takes it for the answer
		}
		writeJSON(w, code, status)
		return
	case raw && rec.Answer.Size > 0:
		e := bus.Errorf(bus.NotFound, "the answer, of status %d, had %d bytes and was too large to be kept", rec.Answer.Status, rec.Answer.Size)
		e.Status = http.StatusGone // to ask again is of no use
		fail(e)
		return
	case raw:
		rec.Answer.write(w)
		return
	}
	k := rec.Answer
	answer := &laterAnswer{Status: k.Status, Type: http.Header(k.Header).Get("Content-Type"), Header: maps.Clone(k.Header), Size: k.Size}
	delete(answer.Header, "Content-Type")
	answer.Body, answer.Encoding = answerBody(k)
	status.Answer = answer
	writeJSON(w, http.StatusOK, status)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		httpx.Problem{Status: http.StatusInternalServerError, Detail: "the answer does not encode", Code: string(bus.Internal)}.Write(w)
		return
	}
	h := w.Header()
	h.Set("Content-Type", typeJSON)
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client has gone
}

// triedAgain tells whether an answer may be another one later.
func triedAgain(status int) bool {
	return slices.Contains([]int{
		http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInsufficientStorage, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout,
	}, status)
}
