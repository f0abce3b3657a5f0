package scheduler

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	firedMemory  = time.Second     // a server that is killed has forgotten removals of less than that
	firedTimeout = 2 * time.Second // then it has fired them once more
)

// firedTimer is one that was fired, and when this process heard so.
type firedTimer struct {
	id  string
	seq uint64 // of what it took the place of
	at  time.Time
}

// remember remembers a timer that was fired, as far as is known, for a moment.
func (o *owner) remember(m *stored) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.lately.len() > 0 && now.Sub(o.lately.oldest().at) > firedMemory {
		o.lately.pop()
	}
	o.lately.push(firedTimer{m.id, m.seq, now})
}

// removeForgotten removes timers that were fired just before the connection was lost, and are there again: a server that was killed knows what it stored, but
// not all that it removed, and would fire them once more. That a timer was fired it must show: else to remove it would lose it.
func (o *owner) removeForgotten(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firedTimeout)
	defer cancel()
	o.s.firing.lookAround() // for what was under way no answer comes
	var lately []firedTimer
	o.mu.Lock()
	for o.lately.len() > 0 {
		lately = append(lately, o.lately.pop())
	}
	o.mu.Unlock()
	for some := range slices.Chunk(lately, fetchSize) {
		if err := o.removeAgain(ctx, some); err != nil {
			o.s.log.DebugContext(ctx, "whether timers that were fired are there again is not known; the server may fire them once more", "shard", o.sh.shard, "error", err)
			return
		}
	}
}

func (o *owner) removeAgain(ctx context.Context, fired []firedTimer) error {
	ids := make([]string, len(fired))
	for i, f := range fired {
		ids[i] = f.id
	}
	pending, due, err := o.s.pendingAndDue(ctx, o.sh, ids)
	if err != nil {
		return err
	}
	for _, f := range fired {
		m, d := pending[f.id], due[f.id]
		if m == nil || d == nil || m.seq != f.seq || !bytes.Equal(m.body, d.body) {
			continue
		}
		if _, err := o.s.publish(ctx, o.sh.cancelMessage(m)); err != nil && !errors.Is(err, errConflict) {
			return err
		}
	}
	return nil
}

// pendingAndDue is the messages of timers that are pending, and of those that are being delivered, by id: by the word of any replica. Of each only the
// subject, the sequence and the body are known.
func (s *Scheduler) pendingAndDue(ctx context.Context, sh *shard, ids []string) (pending, due map[string]*stored, err error) {
	subjects := make([]string, 0, 2*len(ids))
	for _, id := range ids {
		subjects = append(subjects, sh.subject(kindPending, id), sh.subject(kindDue, id))
	}
	pending, due = map[string]*stored{}, map[string]*stored{}
	err = s.lasts(ctx, sh, subjects, func(m *nats.Msg, seq uint64) {
		found := pending
		if kindOf(m.Subject) == kindDue {
			found = due
		}
		found[idOf(m.Subject)] = &stored{subject: m.Subject, seq: seq, body: m.Data}
	})
	return pending, due, err
}
