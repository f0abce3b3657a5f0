package main

import (
	"bytes"
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
		if err := readFires(ctx, s, i, func(number int) time.Time { return o.due(m.begin, number) }, &late); err != nil {
			return q, err
		}
	}
	return quantilesOf(&late), nil
}

// readFires reads what a shard has to deliver.
func readFires(ctx context.Context, s jetstream.Stream, shard int, due func(number int) time.Time, late *histogram) error {
	for seq := uint64(1); ; {
		m, err := s.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(fmt.Sprintf("skybus.tmr.%d.f.>", shard)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		number, err := strconv.Atoi(string(bytes.TrimRight(m.Data[max(len(m.Data)-timerBody, 0):], " ")))
		if err != nil {
			return fmt.Errorf("message at %q: the payload is none of ours: %w", m.Subject, err)
		}
		lateness := m.Time.Sub(due(number))
		if lateness < 0 {
			return fmt.Errorf("fired %v before it was due", -lateness)
		}
		late.add(lateness)
		seq = m.Sequence + 1
	}
}
