package scheduler

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/jscode"
)

// Headers of a dead letter, beside those of the delivery. The error is also in the message of a delivery that waits for room.
const (
	headerDeadSubject   = "Skybus-Dead-Subject" // where it was due
	headerDeadError     = "Skybus-Dead-Error"
	headerDeadCode      = "Skybus-Dead-Code"
	headerDeadAttempts  = "Skybus-Dead-Attempts"
	headerDeadTruncated = "Skybus-Dead-Truncated" // bytes of the payload, which was left out because the letter was too large with it
)

const (
	deadStream   = "SKYBUS_DLQ"
	deadKind     = "timer"
	maxDeadError = 1000        // bytes
	fullWait     = time.Hour   // until a letter is stored that found no room
	deadRetry    = time.Minute // or could not be stored for another reason
	maxDelivery  = 192         // bytes of an id of a delivery, to be a token of a subject
)

// bury gives a delivery up: it is kept as a dead letter. One that cannot be stored is tried again, without an attempt to deliver.
func (c *courier) bury(ctx context.Context, x *parcel, verdict *bus.Error) {
	x.verdict = verdict
	letter, err := x.letter(c.s.conn.Namespace())
	if err == nil {
		err = c.s.storeLetter(ctx, letter)
	}
	if err != nil {
		c.postpone(ctx, x, err)
		return
	}
	c.done.add(x.finish())
	c.acknowledge(ctx, x)
	c.s.counters.dead.Add(1)
	if n, ok := c.rarely.buried.now(10 * time.Second); ok {
		c.log.WarnContext(ctx, "delivery given up", "timer", x.id, "delivery", x.delivery, "attempts", len(x.tried), "error", verdict.Message, "others_before", n)
	}
	e := x.event(DeadEvent)
	e.Attempt, e.Code, e.Error = len(x.tried), verdict.Code, excerpt(verdict.Message, maxAttemptError)
	if n := len(x.tried); n > 0 {
		e.Status = x.tried[n-1].Status
	}
	c.s.tell(e)
}

// postpone keeps a delivery whose letter could not be stored.
func (c *courier) postpone(ctx context.Context, x *parcel, cause error) {
	if ctx.Err() != nil {
		c.nak(ctx, x, 0)
		return
	}
	wait := deadRetry
	if jscode.Of(cause) == jscode.StreamFull {
		wait = fullWait
	}
	if n, ok := c.rarely.full.now(10 * time.Minute); ok {
		c.log.WarnContext(ctx, "dead letters cannot be stored, so their deliveries are kept", "stream", deadStream, "again_after", wait.String(), "error", cause, "others_before", n)
	}
	if x.kind == "" { // not readable
		c.nak(ctx, x, wait)
		return
	}
	now, err := x.pipe.clock.now(ctx)
	if err != nil {
		c.later(ctx, x, err)
		return
	}
	c.again(ctx, x, now.Add(wait), 0)
}

// buryAgain stores a letter that could not be stored before.
func (c *courier) buryAgain(ctx context.Context, x *parcel) {
	c.bury(ctx, x, bus.Wrap(bus.Code(first(x.header, headerDeadCode)), first(x.header, headerDeadError), nil))
}

// spoiled gives up a message that nobody can read.
func (c *courier) spoiled(ctx context.Context, x *parcel, cause error) {
	id := x.id
	if bus.CheckToken("timer", id) != nil {
		id = "unknown"
	}
	x.kind, x.delivery = "", id+"-unreadable-"+strconv.Itoa(x.pipe.shard.shard)+"-"+strconv.FormatUint(x.seq, 10)
	letter := &nats.Msg{Subject: c.s.conn.Namespace().DeadLetterSubject(deadKind, x.delivery), Header: nats.Header{}, Data: x.payload}
	for name, values := range x.header {
		if strings.HasPrefix(name, "Skybus-") {
			letter.Header[name] = values
		}
	}
	if text, err := x.record.text(); err == nil && x.body != nil { // it is the rest that is not readable
		letter.Header[headerTimer], letter.Header[headerDue] = []string{text}, []string{strconv.FormatInt(x.due, 10)}
	}
	x.verdict = bus.Wrap(bus.DataLoss, excerpt(cause.Error(), maxDeadError), cause)
	x.sign(letter)
	err := c.s.storeLetter(ctx, letter)
	switch {
	case tooLarge(err):
		c.log.ErrorContext(ctx, "an unreadable message was dropped: it is too large for a dead letter", "subject", x.subject, "sequence", x.seq, "error", cause)
		_ = x.msg.Term() // fails without a connection; then it comes again
	case err != nil:
		c.postpone(ctx, x, err)
	default:
		c.log.ErrorContext(ctx, "a message is not readable, and is a dead letter now", "subject", x.subject, "sequence", x.seq, "letter", x.delivery, "error", cause)
		c.s.counters.dead.Add(1)
		c.acknowledge(ctx, x)
	}
}

// letter is the delivery as a dead letter.
func (x *parcel) letter(ns bus.Namespace) (*nats.Msg, error) {
	text, err := x.record.text()
	if err != nil {
		return nil, err
	}
	h := nats.Header{headerTimer: {text}, headerDue: {strconv.FormatInt(x.due, 10)}}
	if err := x.historyTo(h); err != nil {
		return nil, err
	}
	letter := &nats.Msg{Subject: ns.DeadLetterSubject(deadKind, x.delivery), Header: h, Data: x.payload}
	x.sign(letter)
	return letter, nil
}

// sign says why a letter is dead. The message id keeps the repeat of a letter from being stored beside it, for two minutes.
func (x *parcel) sign(letter *nats.Msg) {
	letter.Header[headerDeadSubject] = []string{x.subject}
	letter.Header[headerDeadAttempts] = []string{strconv.Itoa(len(x.tried))}
	letter.Header[nats.MsgIdHdr] = []string{deadKind + "-" + x.delivery + "-" + strconv.Itoa(x.redrives)}
	x.verdictTo(letter.Header)
}

func (x *parcel) verdictTo(h nats.Header) {
	h[headerDeadError] = []string{excerpt(x.verdict.Message, maxDeadError)}
	h[headerDeadCode] = []string{string(x.verdict.Code)}
}

// storeLetter stores a letter, without what makes it too large, and opens the stream only when it is needed.
func (s *Scheduler) storeLetter(ctx context.Context, letter *nats.Msg) error {
	_, err := s.publish(ctx, letter)
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		if err := s.openDeadLetters(ctx); err != nil {
			return err
		}
		_, err = s.publish(ctx, letter)
	}
	if shrinkLetter(letter, err) {
		return s.storeLetter(ctx, letter)
	}
	return err
}

// shrinkLetter leaves something out of a letter that was refused as too large, and tells whether there was anything.
func shrinkLetter(letter *nats.Msg, refusal error) bool {
	switch {
	case jscode.Of(refusal) == jscode.HeaderTooLarge && first(letter.Header, headerAttempts) != "":
		delete(letter.Header, headerAttempts)
	case jscode.Of(refusal) == jscode.HeaderTooLarge && first(letter.Header, headerTimer) != "":
		delete(letter.Header, headerTimer) // without which it is a letter that tells only why
	case tooLarge(refusal) && letter.Data != nil:
		letter.Header[headerDeadTruncated] = []string{strconv.Itoa(len(letter.Data))}
		letter.Data = nil
	default:
		return false
	}
	return true
}

// tooLarge tells whether a message was refused because of its size: of all of it, or of its headers.
func tooLarge(err error) bool {
	code := jscode.Of(err)
	return errors.Is(err, nats.ErrMaxPayload) || code == jscode.HeaderTooLarge || code == jscode.MessageTooLarge
}

// checkDeadLetters makes the stream of dead letters where it is missing, as in installations older than it, or says so at once: the first
// letter may come in weeks.
func (c *courier) checkDeadLetters(ctx context.Context) {
	if err := c.s.openDeadLetters(ctx); err != nil && ctx.Err() == nil {
		c.log.WarnContext(ctx, "what is given up cannot be kept as a dead letter so far, and stays among the timers", "error", err)
	}
}

func (s *Scheduler) openDeadLetters(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	_, err := s.conn.OpenStream(ctx, jetstream.StreamConfig{
		Name:        deadStream,
		Description: "skybus: what was given up",
		Subjects:    []string{"skybus.dlq.>"},
		Storage:     jetstream.FileStorage,
	})
	if bus.CodeOf(err) == bus.PermissionDenied {
		return bus.Wrap(bus.PermissionDenied, "scheduler: there is no stream "+deadStream+", and this user may not make it: `skybus scheduler`, started once as a user who may create streams, does", err)
	}
	return err
}

// checkDelivery tells whether an id of a delivery can be one: a token of a subject.
func checkDelivery(id string) error {
	bad := id == "" || len(id) > maxDelivery
	for i := 0; i < len(id) && !bad; i++ {
		c := id[i]
		bad = (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-'
	}
	if bad {
		return bus.Errorf(bus.InvalidArgument, "delivery %.80q: want 1 to %d characters of A-Z a-z 0-9 _ -", id, maxDelivery)
	}
	return nil
}
