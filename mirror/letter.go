package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/internal/jscode"
)

const deadStream = "SKYBUS_DLQ"

// Headers of a parked write. Its message is the text of the request, then that of the answer.
const (
	headerDeadSubject   = "Skybus-Dead-Subject" // where it was stored
	headerDeadError     = "Skybus-Dead-Error"
	headerDeadStatus    = "Skybus-Dead-Status"    // 0 when the backend never answered
	headerDeadReference = "Skybus-Dead-Reference" // what most others did with it
	headerDeadTarget    = "Skybus-Dead-Target"    // method and target
	headerDeadStored    = "Skybus-Dead-Stored"    // when the write was
	headerDeadRequest   = "Skybus-Dead-Request"   // bytes of the message that are the request
	headerDeadTruncated = "Skybus-Dead-Truncated" // bytes of the request, which was left out
)

const (
	deadTarget  = 1000 // bytes of a target that are in the list
	statusTries = 20   // to find the status of an answer, each a commit long
)

// letterID names a parked write: it is two tokens after the mirror, so that those of a mirror, or of one of its backends, are a filter.
func (s space) letter(backend string, seq uint64) string {
	return s.letters(backend) + strconv.FormatUint(seq, 10)
}

func (s space) letters(backend string) string {
	return s.ns.DeadLetterSubject(deadKind, s.mirror+"."+backend+".")
}

// excerpt is what is kept of an answer.
func (a *answer) excerpt() *answer {
	if a == nil || a.status == 0 {
		return nil
	}
	short := *a
	short.body = slices.Clone(a.body[:min(len(a.body), excerptBytes)])
	short.tooLarge = a.tooLarge || len(a.body) > excerptBytes
	return &short
}

// keeps is how much memory an excerpt takes, about.
func (a *answer) keeps() int {
	if a == nil {
		return 0
	}
	n := len(a.body) + 256
	for _, f := range a.fields {
		n += len(f.Name) + len(f.Value) + 32
	}
	return n
}

// letter is a write as it is parked for a backend.
func (m *Mirror) letter(w *write, g given, reason, reference string) *nats.Msg {
	h := nats.Header{
		headerSeq:           {strconv.FormatUint(w.seq, 10)},
		headerLane:          {strconv.Itoa(w.lane)},
		headerDeadSubject:   {m.space.write(w.lane)},
		headerDeadError:     {reason},
		headerDeadStatus:    {strconv.Itoa(g.status)},
		headerDeadReference: {reference},
		headerDeadStored:    {w.at.UTC().Format(time.RFC3339Nano)},
		headerDeadTarget:    {fmt.Sprintf("%s %.*s", w.method, deadTarget, w.target)},
	}
	if id := w.get(headerIdempotency); id != "" {
		h[headerIdempotency] = []string{id}
	}
	if w.body != nil {
		h[headerObject] = []string{w.body.String()}
	}
	var data []byte
	if w.method != "" {
		data = w.encode()
	} else {
		h[headerDeadTruncated] = []string{strconv.Itoa(w.size)}
	}
	h[headerDeadRequest] = []string{strconv.Itoa(len(data))}
	if short := g.answer.excerpt(); short != nil {
		data = append(data, short.encode()...)
	}
	return &nats.Msg{Subject: m.space.letter(g.backend, w.seq), Header: h, Data: data}
}

// reasonOf says why a write is parked.
func reasonOf(g given, reference class) string {
	var b strings.Builder
	switch {
	case g.status != 0:
		fmt.Fprintf(&b, "answered with %d", g.status)
	case g.class == taken:
		b.WriteString("taken")
	default:
		b.WriteString("given up, as the backend did not take it in time")
	}
	switch reference {
	case taken:
		b.WriteString("; others took it")
	case refused:
		b.WriteString("; others refused it")
	case failed:
		b.WriteString("; it failed at others")
	case unanswered:
	}
	return b.String()
}

// parkLetter stores what a backend answered to a write among the dead letters, as often as it takes. One that is there is kept. The error is errEnded.
func (s *sender) parkLetter(ctx context.Context, w *write, g given, reference class) error {
	for attempt := 1; ; attempt++ {
		if g.class == taken && g.status == 0 {
			s.findStatus(ctx, w.seq, &g)
		}
		letter := s.m.letter(w, g, reasonOf(g, reference), reference.String())
		_, err := s.m.storeLetter(ctx, letter, 0)
		switch {
		case err == nil:
			s.m.counts.parked.Add(1)
			if n := s.m.node(g.backend); n != nil {
				n.counts.diverged.Add(1)
			}
			level := slog.LevelDebug
			if s.parkedSaid.now(parkedSilent) {
				level = slog.LevelWarn
			}
			s.m.log.Log(ctx, level, "write parked; more are counted for a while", "backend", g.backend, "seq", w.seq, "lane", w.lane, "reason", reasonOf(g, reference), "parked", s.m.counts.parked.Load())
			return nil
		case errors.Is(err, errConflict):
			if err = s.sameLetter(ctx, w, g.backend); err == nil {
				return nil
			}
		case ctx.Err() != nil:
			return errEnded
		}
		if s.letterFault.now(lettersSilent) {
			s.m.log.WarnContext(ctx, "write not parked, its lane waits until it can be", "stream", deadStream, "backend", g.backend, "seq", w.seq, "error", err)
		}
		if !backoff.Sleep(ctx, backoff.Full(attempt, lettersFirst, lettersPause)) {
			return errEnded
		}
	}
}

// sameLetter tells by an error whether what is parked for a backend by the number of a write is another one, of a former stream.
func (s *sender) sameLetter(ctx context.Context, w *write, backend string) error {
	raw, err := s.m.rawLetter(ctx, backend, w.seq)
	if err != nil {
		return err // also where somebody has dealt with it just now
	}
	at := readLetter(raw.Subject, raw.Header, raw.Time, nil).Stored
	if at.IsZero() || w.at.IsZero() || at.Equal(w.at) {
		return nil
	}
	return bus.Errorf(bus.AlreadyExists, "mirror: another write %d, of before the stream of writes was made anew, is parked for backend %q: retry or drop that one", w.seq, backend)
}

// findStatus reads from the ledger what a backend answered that took a write.
func (s *sender) findStatus(ctx context.Context, seq uint64, g *given) {
	n := s.m.node(g.backend)
	for attempt := 1; n != nil && attempt <= statusTries; attempt++ {
		if e, ok, err := s.m.answerOf(ctx, n.Backend, seq); ok || err != nil {
			g.status = int(e.status)
			return
		}
		backoff.Sleep(ctx, s.m.cfg.Commit) // it is about to be written
	}
}

// storeLetter stores a letter over the one with the revision, 0 for none, and returns the new revision; it is errConflict where there is another. What makes it
// too large is left out.
func (m *Mirror) storeLetter(ctx context.Context, letter *nats.Msg, revision uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, seenTimeout)
	defer cancel()
	letter.Header[headerExpectSeq] = []string{strconv.FormatUint(revision, 10)}
	opened := false
	for attempt := 1; ; attempt++ {
		ack, err := m.js.PublishMsg(ctx, letter, jetstream.WithRetryAttempts(0))
		switch {
		case err == nil:
			return ack.Sequence, nil
		case jscode.Of(err) == jscode.WrongLast:
			return 0, errConflict
		case jscode.Of(err) == jscode.WrongLastInFlight: // another's, or an earlier attempt of ours, is being stored: whether it was is known in a moment
			if !backoff.Sleep(ctx, backoff.Full(attempt, lettersFirst, lettersPause)) {
				return 0, fmt.Errorf("mirror: park: %w", err)
			}
		case errors.Is(err, jetstream.ErrNoStreamResponse) && !opened:
			if err := m.openLetters(ctx); err != nil {
				return 0, err
			}
			opened = true
		case !shrinkLetter(letter, err):
			return 0, fmt.Errorf("mirror: park: %w", err)
		}
	}
}

// shrinkLetter leaves something out of a letter that was refused as too large, and tells whether there was anything.
func shrinkLetter(letter *nats.Msg, refusal error) bool {
	code := jscode.Of(refusal)
	request, _ := strconv.Atoi(first(letter.Header, headerDeadRequest))
	switch {
	case code == jscode.HeaderTooLarge && first(letter.Header, headerDeadTarget) != "":
		delete(letter.Header, headerDeadTarget)
	case !errors.Is(refusal, nats.ErrMaxPayload) && code != jscode.MessageTooLarge:
		return false
	case request < len(letter.Data):
		letter.Data = letter.Data[:request]
	case request > 0:
		letter.Header[headerDeadTruncated] = []string{strconv.Itoa(request)}
		letter.Header[headerDeadRequest] = []string{"0"}
		letter.Data = nil
	default:
		return false
	}
	return true
}

func (m *Mirror) openLetters(ctx context.Context) error {
	_, err := m.conn.OpenStream(ctx, jetstream.StreamConfig{
		Name:        deadStream,
		Description: "skybus: what was given up",
		Subjects:    []string{"skybus.dlq.>"},
		Storage:     jetstream.FileStorage,
	})
	if bus.CodeOf(err) == bus.PermissionDenied {
		return bus.Wrap(bus.PermissionDenied, "mirror: park: there is no stream "+deadStream+", and this user may not make it: `skybus mirror run`, started once as a user who may create streams, does", err)
	}
	if err != nil {
		return fmt.Errorf("mirror: park: %w", err)
	}
	return nil
}

// checkLetters makes the stream of what is parked where it is missing, or says so at once: the first write to be parked may come in weeks, and then holds up its lane.
func (m *Mirror) checkLetters(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, seenTimeout)
	defer cancel()
	if err := m.openLetters(ctx); err != nil && ctx.Err() == nil {
		m.log.WarnContext(ctx, "writes that a backend answers otherwise than the others cannot be parked so far", "error", err)
	}
}

// rawLetter reads a letter from the leader of the stream; bus.NotFound says that there is none.
func (m *Mirror) rawLetter(ctx context.Context, backend string, seq uint64) (*jetstream.RawStreamMsg, error) {
	if err := bus.CheckToken("backend", backend); err != nil {
		return nil, bus.AsError(err).With("field", "backend")
	}
	stream, err := m.js.Stream(ctx, deadStream)
	var raw *jetstream.RawStreamMsg
	if err == nil {
		raw, err = stream.GetLastMsgForSubject(ctx, m.space.letter(backend, seq))
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, bus.Wrap(bus.NotFound, fmt.Sprintf("write %d is not parked for backend %q", seq, backend), err)
	}
	if err != nil {
		return nil, fmt.Errorf("mirror: parked write %d of backend %q: %w", seq, backend, err)
	}
	return raw, nil
}

// awaitDealtWith waits until a parked write was retried with success, or dropped.
func (s *sender) awaitDealtWith(a *applier, w *write) error {
	for {
		dealt := s.m.dealtWith.wait()
		if _, err := s.m.rawLetter(a.ctx, a.node.Name, w.seq); bus.CodeOf(err) == bus.NotFound {
			return nil
		}
		if err := waitFor(a.ctx, dealt); err != nil {
			return err
		}
	}
}

// waitFor waits for an event, but not for long: it may happen elsewhere.
func waitFor(ctx context.Context, event <-chan struct{}) error {
	timer := time.NewTimer(dealtWithWait)
	defer timer.Stop()
	select {
	case <-event:
	case <-timer.C:
	case <-ctx.Done():
		return errEnded
	}
	return nil
}

// storedWrite reads a write again, from the leader: others may not have it yet. One that was removed has no request.
func (m *Mirror) storedWrite(ctx context.Context, seq uint64, lane int) (*write, error) {
	for attempt := 1; ; attempt++ {
		raw, err := m.rawWrite(ctx, seq)
		if err == nil {
			if w, err := m.decodeWrite(raw.Subject, raw.Seq, raw.Time, raw.header(), raw.Data); err == nil {
				return w, nil
			}
		}
		if err == nil || errors.Is(err, errNone) {
			return &write{seq: seq, lane: lane}, nil
		}
		if !backoff.Sleep(ctx, backoff.Full(attempt, firstPause, lastPause)) {
			return nil, errEnded
		}
	}
}

// seldom limits how often something is said.
type seldom struct {
	mu   sync.Mutex
	last time.Time
}

// now tells whether it may be said, when it is said once in d.
func (s *seldom) now(d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.IsZero() && time.Since(s.last) < d {
		return false
	}
	s.last = time.Now()
	return true
}
