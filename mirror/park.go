package mirror

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
)

const (
	parkedBatch = 256
	parkedWait  = 2 * time.Second
	parkedIdle  = 30 * time.Second // after which the server forgets who lists
)

// ParkedWrite is a write that a backend answered otherwise than the others, or was given up for it.
type ParkedWrite struct {
	Backend     string    `json:"backend"`
	Seq         uint64    `json:"seq"`
	Lane        int       `json:"lane"`
	Method      string    `json:"method"`
	Target      string    `json:"target"` // path and query; in a list no more than 1,000 bytes
	Idempotency string    `json:"idempotency_key"`
	Stored      time.Time `json:"stored"` // when the write was
	Parked      time.Time `json:"parked"` // or tried again
	Status      int       `json:"status"` // of the backend's answer, 0 when it gave none
	Others      string    `json:"others"` // what they did with it: taken, refused, failed, or unanswered
	Reason      string    `json:"reason"`
	// Truncated: the request was too large to keep. Such a write cannot be retried.
	Truncated bool `json:"truncated,omitempty"`

	Request []byte `json:"-"` // text of the HTTP/1.1 request, from Show and Retry only
	Answer  []byte `json:"-"` // head and at most 16 KiB of the body, after a line with the backend and the status

	at uint64 // in the stream of dead letters
}

// Cursor is where List goes on after the write, for pages: see [ParkedFilter]. It is empty for one that is not from List.
func (w *ParkedWrite) Cursor() string {
	if w.at == 0 {
		return ""
	}
	return strconv.FormatUint(w.at, 10)
}

// Parked are the writes of a mirror that wait for somebody to deal with them. They are dead letters of the kind "mirror" in SKYBUS_DLQ, at
// skybus.dlq.<app>.<env>.mirror.<mirror>.<backend>.<seq>. Every process of the mirror sees the same ones.
type Parked struct{ m *Mirror }

// Parked are those of the mirror.
func (m *Mirror) Parked() *Parked { return &Parked{m} }

// ParkedFilter chooses parked writes. The zero value chooses all of the mirror.
type ParkedFilter struct {
	Backend string
	// Cursor goes on after the write with this [ParkedWrite.Cursor], whether that is still parked or not.
	Cursor string
}

// List is the parked writes, those parked first before others, without their requests and answers.
func (p *Parked) List(ctx context.Context, f ParkedFilter) iter.Seq2[ParkedWrite, error] {
	return func(yield func(ParkedWrite, error) bool) {
		consumer, err := p.consumer(ctx, f)
		if err != nil {
			yield(ParkedWrite{}, err)
			return
		}
		if consumer == nil {
			return
		}
		defer func() { // else the server forgets it after a while
			_ = p.m.js.DeleteConsumer(context.WithoutCancel(ctx), deadStream, consumer.CachedInfo().Name)
		}()
		for left := int(consumer.CachedInfo().NumPending); left > 0; { //nolint:gosec // no stream has as many
			batch, err := consumer.Fetch(min(left, parkedBatch), jetstream.FetchMaxWait(parkedWait))
			n := 0
			if err == nil {
				for msg := range batch.Messages() {
					n++
					meta, err := msg.Metadata()
					if err != nil {
						err = fmt.Errorf("mirror: parked writes: %w", err)
						yield(ParkedWrite{}, err)
						return
					}
					w := readLetter(msg.Subject(), msg.Headers(), meta.Timestamp, nil)
					w.at = meta.Sequence.Stream
					if !yield(w, nil) {
						return
					}
				}
				err = batch.Error()
			}
			if left -= n; err != nil || ctx.Err() != nil {
				yield(ParkedWrite{}, fmt.Errorf("mirror: parked writes: %w", errors.Join(err, context.Cause(ctx))))
				return
			}
			if n == 0 {
				return // the rest was removed meanwhile
			}
		}
	}
}

// consumer reads the letters; it is nil where there are none.
func (p *Parked) consumer(ctx context.Context, f ParkedFilter) (jetstream.Consumer, error) {
	backend := "*"
	if f.Backend != "" {
		if err := bus.CheckToken("backend", f.Backend); err != nil {
			return nil, bus.AsError(err).With("field", "backend")
		}
		backend = f.Backend
	}
	cfg := jetstream.ConsumerConfig{
		FilterSubject: p.m.space.letters(backend) + "*", AckPolicy: jetstream.AckNonePolicy, HeadersOnly: true,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: parkedIdle,
	}
	if f.Cursor != "" {
		after, err := strconv.ParseUint(f.Cursor, 10, 63)
		if err != nil {
			return nil, bus.Errorf(bus.InvalidArgument, "mirror: parked writes: cursor %.40q is none of a list", f.Cursor).With("field", "cursor")
		}
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, after+1
	}
	consumer, err := p.m.js.CreateConsumer(ctx, deadStream, cfg)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil //nolint:nilnil // there is nothing to read
	}
	if err != nil {
		return nil, fmt.Errorf("mirror: parked writes: %w", err)
	}
	return consumer, nil
}

// readLetter reads what can be read.
func readLetter(subject string, h nats.Header, parked time.Time, data []byte) ParkedWrite {
	w := ParkedWrite{
		Idempotency: first(h, headerIdempotency), Others: first(h, headerDeadReference), Reason: first(h, headerDeadError),
		Truncated: first(h, headerDeadTruncated) != "", Parked: parked.UTC(),
	}
	if tokens := strings.Split(subject, "."); len(tokens) > 2 {
		w.Backend = tokens[len(tokens)-2]
	}
	w.Seq, _ = strconv.ParseUint(lastToken(subject), 10, 64)
	w.Lane, _ = strconv.Atoi(first(h, headerLane))
	w.Status, _ = strconv.Atoi(first(h, headerDeadStatus))
	w.Stored, _ = time.Parse(time.RFC3339Nano, first(h, headerDeadStored))
	w.Method, w.Target, _ = strings.Cut(first(h, headerDeadTarget), " ")
	if n, err := strconv.Atoi(first(h, headerDeadRequest)); err == nil && n >= 0 && n <= len(data) {
		w.Request, w.Answer = data[:n:n], data[n:]
	}
	return w
}

// Show is one parked write with its request and answer. The error is not_found where there is none.
func (p *Parked) Show(ctx context.Context, backend string, seq uint64) (ParkedWrite, error) {
	raw, err := p.m.rawLetter(ctx, backend, seq)
	if err != nil {
		return ParkedWrite{}, err
	}
	w := readLetter(raw.Subject, raw.Header, raw.Time, raw.Data)
	if r, err := decodeRequest(w.Request); err == nil {
		w.Method, w.Target = r.method, r.target
	}
	return w, nil
}

// Retry sends a parked write to its backend once more, with the same Idempotency-Key, Skybus-Seq and Skybus-Lane, and without regard to its lane: later writes may have reached the
// backend before. "Skybus-Retry: true" tells a backend that refuses what has no higher number than the last that this is to be applied all the same. If the backend takes it, it is no longer parked. Otherwise it stays, with the new answer if there is one.
//
// The error is not_found where no such write is parked or there is no such backend, failed_precondition when the backend refuses it again or its request is not kept, unavailable
// when the backend does not answer or has too much to do. Interrupted at the end, it may stay parked though the backend has taken it.
func (p *Parked) Retry(ctx context.Context, backend string, seq uint64) (ParkedWrite, error) {
	raw, err := p.m.rawLetter(ctx, backend, seq)
	if err != nil {
		return ParkedWrite{}, err
	}
	parked := readLetter(raw.Subject, raw.Header, raw.Time, raw.Data)
	w, err := p.request(raw, parked)
	if err != nil {
		return parked, err
	}
	n := p.m.node(backend)
	if n == nil {
		return parked, bus.Errorf(bus.NotFound, "there is no backend %q any more: drop write %d", backend, seq)
	}
	body := w.request.body
	if w.body != nil {
		if body, err = p.m.loadBody(ctx, w.body); err != nil {
			return parked, bus.Wrap(bus.FailedPrecondition, fmt.Sprintf("the body of write %d is not readable", seq), err)
		}
	}
	retry := *w
	retry.fields = append(slices.Clone(w.fields), field{Name: headerRetry, Value: "true"})
	ans, err := p.m.exchange(ctx, n, &retry, body, nil)
	if err != nil {
		return parked, bus.Wrap(bus.Unavailable, fmt.Sprintf("backend %q did not answer", backend), err)
	}
	switch {
	case classOf(ans.status) == taken:
		parked.Status, parked.Reason = ans.status, ""
		p.m.noteRetry(ctx, n, entry{seq: seq, status: uint16(ans.status), hash: ans.hash}) //nolint:gosec // below 1000
		return parked, p.remove(ctx, raw.Subject, raw.Sequence+1)
	case isBusy(ans.status):
		return parked, bus.Errorf(bus.Unavailable, "backend %q has too much to do: it answered with %d", backend, ans.status)
	}
	g := given{backend: backend, class: classOf(ans.status), status: ans.status, answer: ans}
	letter := p.m.letter(w, g, reasonOf(g, unanswered)+" when tried again", parked.Others)
	revision, err := p.m.storeLetter(ctx, letter, raw.Sequence)
	if err == nil {
		err = p.remove(ctx, raw.Subject, revision)
	}
	if err != nil && !errors.Is(err, errConflict) { // else somebody else has tried it, too
		return parked, err
	}
	return readLetter(letter.Subject, letter.Header, time.Now(), letter.Data),
		bus.Errorf(bus.FailedPrecondition, "backend %q answered with %d, so the write stays parked", backend, ans.status)
}

// isBusy tells whether a status says nothing about the write.
func isBusy(status int) bool {
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTooManyRequests:
		return true
	}
	return false
}

// request is the write as it can be sent again.
func (p *Parked) request(raw *jetstream.RawStreamMsg, parked ParkedWrite) (*write, error) {
	if parked.Truncated {
		return nil, bus.Errorf(bus.FailedPrecondition, "write %d was too large to keep its request; it cannot be retried", parked.Seq)
	}
	w, err := p.m.decodeWrite(first(raw.Header, headerDeadSubject), parked.Seq, parked.Stored, raw.Header, parked.Request)
	if err != nil {
		return nil, bus.Wrap(bus.FailedPrecondition, fmt.Sprintf("parked write %d is not readable; it cannot be retried", parked.Seq), err)
	}
	return w, nil
}

// Drop lets go of a parked write: the backend goes without it. The error is not_found where there is none.
func (p *Parked) Drop(ctx context.Context, backend string, seq uint64) error {
	raw, err := p.m.rawLetter(ctx, backend, seq)
	if err != nil {
		return err
	}
	return p.remove(ctx, raw.Subject, raw.Sequence+1)
}

// remove removes letters before a sequence. A full stream deletes no single messages, but it purges.
func (p *Parked) remove(ctx context.Context, subject string, before uint64) error {
	stream, err := p.m.js.Stream(ctx, deadStream)
	if err == nil {
		err = stream.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(before))
	}
	if err != nil {
		return fmt.Errorf("mirror: remove parked write: %w", err)
	}
	p.m.dealtWith.notify()
	return nil
}

// node is a backend as this process knows it, nil for none.
func (m *Mirror) node(name string) *node {
	for _, n := range *m.nodes.Load() {
		if n.Name == name {
			return n
		}
	}
	return nil
}
