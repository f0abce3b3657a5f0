package scheduler

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
)

// confirming is the last token of the subject, among the retries, where a read is confirmed. No delivery is called so.
const confirming = "confirm"

// confirm tells whether the last message of a timer's subject is the one of that sequence, none for 0; errConflict says that it is not. Where several servers hold a shard, one that stood
// still while another was elected may answer as the leader it was, and not know what was stored since. To store something takes a majority, so it
// cannot do that. One server alone is always right.
func (s *Scheduler) confirm(ctx context.Context, sh *shard, id string, seq uint64) error {
	if !sh.replicated() {
		return nil
	}
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	for {
		_, err := s.publish(ctx, sh.confirmMessage(id, seq))
		if err == nil || !again(err) {
			return err
		}
		if !backoff.Sleep(ctx, storePause) {
			return storeEnded(fmt.Errorf("%w: %w", context.Cause(ctx), err), false)
		}
	}
}

// confirmMessage is stored if the last message of the timer's subject has that sequence, and is gone after a second, like what a cancel leaves behind.
func (s space) confirmMessage(id string, seq uint64) *nats.Msg {
	return &nats.Msg{Subject: s.retry(id, confirming), Header: nats.Header{
		headerRollup: {"sub"}, headerTTL: {"1s"}, headerExpectSeq: {itoa(seq)}, headerExpectSubject: {s.subject(kindPending, id)},
	}}
}

// changeable reads a timer that is to be changed, and tells why it must not be.
func (s *Scheduler) changeable(ctx context.Context, id string, rev uint64) (*shard, *stored, error) {
	if err := bus.CheckToken("id", id); err != nil {
		return nil, nil, bus.AsError(err).With("field", "id")
	}
	sh := s.shard(id)
	for range replaceTries {
		m, seq, refusal := s.judge(ctx, sh, id, rev)
		if refusal == nil {
			return sh, m, nil
		}
		switch bus.CodeOf(refusal) {
		case bus.NotFound, bus.FailedPrecondition, bus.Aborted:
		default:
			return nil, nil, unread(refusal)
		}
		err := s.confirm(ctx, sh, id, seq)
		switch {
		case err == nil, bus.CodeOf(err) == bus.ResourceExhausted: // in a full store nothing is stored, by any leader
			return nil, nil, refusal
		case !errors.Is(err, errConflict):
			return nil, nil, err
		case !backoff.Sleep(ctx, storePause):
			return nil, nil, storeEnded(fmt.Errorf("%w: %w", context.Cause(ctx), err), false)
		}
	}
	return nil, nil, bus.Errorf(bus.Aborted, "timer %q is being changed by others", id)
}

// judge reads a timer, and tells why it must not be changed as far as was read. seq is that of the last message of its subject, 0 for none.
func (s *Scheduler) judge(ctx context.Context, sh *shard, id string, rev uint64) (m *stored, seq uint64, err error) {
	now, err := sh.clock.latest(ctx)
	if err != nil {
		return nil, 0, err
	}
	last, seq, err := s.last(ctx, sh, sh.subject(kindPending, id))
	if err == nil && isGone(last) {
		err = errNone
	}
	if errors.Is(err, errNone) {
		deliveries, err := s.deliveries(ctx, sh, id)
		if err == nil && len(deliveries) > 0 {
			err = alreadyDue(id)
		} else if err == nil {
			err = notFound(id)
		}
		return nil, seq, err
	}
	if err == nil {
		if m, err = readStored(last.Subject, seq, storedAt(last), last.Header, last.Data); err != nil {
			err = unreadable(err)
		}
	}
	switch {
	case err != nil:
		return nil, seq, err
	case rev != 0 && rev != m.seq:
		return nil, seq, otherRevision(id, m.seq, rev)
	case m.fixed() && now.UnixNano() >= m.due:
		return nil, seq, alreadyDue(id)
	}
	return m, seq, nil
}
