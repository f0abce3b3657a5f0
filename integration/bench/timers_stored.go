package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// deliverers is the consumer by which the namespace's schedulers take what is due.
const deliverers = "default=dev"

// stored lets o.Count timers become due that nobody delivers, and tells how long after it was due each fire was stored.
func (t *timers) stored(ctx context.Context, o order) (q quantiles, err error) {
	streams, err := t.streams(ctx)
	if err != nil {
		return q, err
	}
	for _, s := range streams {
		if _, err := s.PauseConsumer(ctx, deliverers, time.Now().Add(time.Hour)); err != nil {
			return q, err
		}
		defer func() {
			_, rerr := s.ResumeConsumer(ctx, deliverers)
			err = errors.Join(err, s.Purge(ctx), rerr)
		}()
	}
	m, err := t.create(ctx, o)
	if err != nil {
		return q, err
	}
	if err := pause(ctx, time.Until(m.Last)+settle); err != nil {
		return q, err
	}
	if err := t.backlog(ctx, o.Count); err != nil {
		return q, err
	}
	var late histogram
	for i, s := range streams {
		if err := readFires(ctx, s, i, &late); err != nil {
			return q, err
		}
	}
	return quantilesOf(&late), nil
}

// readFires reads what a shard has to deliver.
func readFires(ctx context.Context, s jetstream.Stream, shard int, late *histogram) error {
	for seq := uint64(1); ; {
		m, err := s.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(fmt.Sprintf("skybus.tmr.%d.f.>", shard)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		due, err := strconv.ParseInt(m.Header.Get(headerDue), 10, 64)
		if err != nil {
			return fmt.Errorf("message at %q: header %s: %w", m.Subject, headerDue, err)
		}
		lateness := m.Time.Sub(time.Unix(0, due))
		if lateness < 0 {
			return fmt.Errorf("fired %v before it was due", -lateness)
		}
		late.add(lateness)
		seq = m.Sequence + 1
	}
}
