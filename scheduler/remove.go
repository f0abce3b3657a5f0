package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/jscode"
)

// remove takes m away, the pending message of a timer or a delivery that waits, before handed, when the server may begin to fire it by itself. The
// error is errConflict where it is not there any more.
func (s *Scheduler) remove(ctx context.Context, sh *shard, m *stored, handed time.Time) error {
	seq, err := s.store(ctx, sh, sh.cancelMessage(m))
	if err == nil {
		return s.inTime(ctx, sh, m.subject, handed, seq)
	}
	if !jscode.Full(err) {
		return err
	}
	if m.kind == kindPending && m.fixed() && m.record.Gen != "" {
		handed = time.Unix(0, m.due)
	}
	if derr := s.erase(ctx, sh, m, handed); bus.CodeOf(derr) != bus.PermissionDenied { // roles of earlier releases may not
		return derr
	}
	return err
}

// erase removes m where there is no room for what a cancel leaves behind. That has no place in the order of what is stored, so it counts only if it was done
// before anybody may have begun to fire m: until then all who do are refused, as m is not there.
func (s *Scheduler) erase(ctx context.Context, sh *shard, m *stored, until time.Time) error {
	request, err := json.Marshal(map[string]any{"seq": m.seq, "no_erase": true}) // its bytes need not be overwritten
	if err != nil {
		return fmt.Errorf("scheduler: remove: %w", err)
	}
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	reply, err := s.conn.Request(ctx, &nats.Msg{Subject: "$JS.API.STREAM.MSG.DELETE." + streamName(sh.shard), Data: request})
	if err != nil {
		return fmt.Errorf("scheduler: remove timer %q: %w", m.id, err)
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return fmt.Errorf("scheduler: remove timer %q: %w", m.id, err)
	}
	switch {
	case answer.Error == nil:
	case answer.Error.ErrorCode == jscode.NoSequence, answer.Error.ErrorCode == jscode.NotDeleted:
		return errConflict
	default:
		return fmt.Errorf("scheduler: remove timer %q: %w", m.id, answer.Error)
	}
	if m.kind == kindPending {
		s.note(sh, note{id: m.id, seq: m.seq, gone: true})
	}
	if sh.clock.atMost(time.Now()).Before(until) {
		return nil
	}
	return tooSlow()
}

// unreadable is the error for a message of a timer that this release cannot read.
func unreadable(cause error) *bus.Error {
	return bus.Wrap(bus.DataLoss, cause.Error()+": something else wrote it, or a later release of skybus, or it is damaged; to cancel the timer removes it", cause)
}

// removeUnreadable removes what is not readable of a timer: what is pending, and what waits to be tried again. What is due workers give up by themselves.
func (s *Scheduler) removeUnreadable(ctx context.Context, id string, rev uint64) error {
	sh := s.shard(id)
	var found []*stored
	err := s.each(ctx, sh, []string{sh.subject(kindPending, id), sh.retry(id, "*")}, func(m *nats.Msg, seq uint64) bool {
		if _, err := readStored(m.Subject, seq, storedAt(m), m.Header, m.Data); err != nil && !isGone(m) {
			found = append(found, &stored{id: id, kind: kindOf(m.Subject), subject: m.Subject, seq: seq, header: m.Header})
		}
		return true
	})
	if err != nil {
		return unread(err)
	}
	for _, m := range found {
		if rev != 0 && rev != m.seq {
			return otherRevision(id, m.seq, rev)
		}
		if m.kind == kindPending {
			rev = 0 // with the timer its retries go
		}
		now, err := sh.clock.latest(ctx)
		if err != nil {
			return err
		}
		at, ok := nextAttempt(m.header)
		if !ok {
			at = maxTime()
		}
		if !now.Before(at) {
			return alreadyDue(id)
		}
		if err := s.remove(ctx, sh, m, at); err != nil {
			return err
		}
		s.tell(Event{Kind: Cancelled, ID: id, Time: sh.clock.at(time.Now()).UTC()})
	}
	return nil
}
