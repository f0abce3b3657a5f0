package main

import (
	"context"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
	"github.com/skybus-io/skybus/scheduler"
)

// sources is what the targets of gateways and other initiators are made of. Without a scheduler in the process timers are stored for those
// that others run.
func (p *platform) sources(client *micro.Client, runner *route.Runner, prefixes []string) initiators.Sources {
	t := &timerSetter{p: p, prefixes: prefixes, turn: make(chan struct{}, 1)}
	p.onClose(t.Close)
	return initiators.Sources{Client: client, Runner: runner, Timers: t, PublishPrefixes: prefixes}
}

// timerSetter sets timers. It opens them when the first is asked for: who sets none needs no right to.
type timerSetter struct {
	p        *platform
	prefixes []string

	turn   chan struct{}        // has room for who uses what follows
	own    *scheduler.Scheduler // nil where the platform has one, and before it is needed
	closed bool
}

var _ initiators.Timers = (*timerSetter)(nil)

// CreateTimer stores the timer.
func (t *timerSetter) CreateTimer(ctx context.Context, r initiators.TimerRequest) (string, error) {
	s, err := t.scheduler(ctx)
	if err != nil {
		return "", err
	}
	spec := scheduler.Spec{ID: r.ID, Target: scheduler.Target{URI: r.Target}, Payload: r.Payload, ContentType: r.ContentType, Header: map[string]string{}}
	if r.At.IsZero() {
		spec.After = max(r.After, 1) // 0 is none
	} else {
		spec.At = r.At
	}
	for name, values := range r.Header {
		spec.Header[name] = values[0]
	}
	timer, err := s.Create(ctx, spec)
	return timer.ID, err
}

func (t *timerSetter) scheduler(ctx context.Context) (*scheduler.Scheduler, error) {
	if t.p.timers != nil {
		return t.p.timers, nil
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return nil, bus.Wrap(bus.CodeOf(ctx.Err()), "the scheduler's streams were not opened in time", ctx.Err())
	}
	if t.closed {
		return nil, bus.Errorf(bus.Unavailable, "skybus is stopping")
	}
	if t.own == nil {
		var err error
		if t.own, err = scheduler.Open(ctx, t.p.conn, scheduler.Config{Publish: t.prefixes, Logger: t.p.conn.Logger()}); err != nil {
			return nil, err
		}
	}
	return t.own, nil
}

// Close closes what was opened. Nothing may be asked for any more.
func (t *timerSetter) Close() error {
	t.turn <- struct{}{}
	defer func() { <-t.turn }()
	t.closed = true
	if t.own == nil {
		return nil
	}
	return t.own.Close()
}
