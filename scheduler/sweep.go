package scheduler

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// sweepRetries fires deliveries whose next attempt should have been fired by the server slack ago.
func (s *Scheduler) sweepRetries(ctx context.Context, sh *shard, slack time.Duration) error {
	var late []*stored
	now, err := sh.clock.now(ctx)
	if err != nil {
		return err
	}
	err = s.scan(ctx, sh, sh.all(kindRetry), 0, func(msg *nats.Msg, seq uint64) bool {
		m, err := readStored(msg.Subject, seq, storedAt(msg), msg.Header, msg.Data)
		if err == nil && !isGone(msg.Header) && m.timer().NextAttempt.Add(slack).Before(now) {
			late = append(late, m)
		}
		return len(late) < fetchSize
	})
	for _, m := range late {
		if serr := s.storeDue(ctx, sh.againMessage(m)); serr != nil && !errors.Is(serr, errConflict) {
			return errors.Join(err, serr)
		}
	}
	return err
}

// againMessage makes a delivery that waits one that is due, as the server would.
func (s space) againMessage(m *stored) *nats.Msg {
	h := nats.Header{}
	for name, values := range m.header {
		if !strings.HasPrefix(name, "Nats-") {
			h[name] = values
		}
	}
	h[headerExpectSeq], h[headerExpectSubject] = []string{itoa(m.seq)}, []string{m.subject}
	h[headerScheduleNext], h[headerScheduler] = []string{"purge"}, []string{m.subject}
	return &nats.Msg{Subject: s.subject(kindDue, m.id), Header: h, Data: m.payload}
}
