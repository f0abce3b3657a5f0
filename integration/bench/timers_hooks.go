package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/scheduler"
)

const (
	backlog      = 50_000 // timers that are due before anybody delivers
	backlogQuick = 500
	backlogGrace = 100 * time.Millisecond
	manySinks    = 8 // addresses
)

// timersHooks is how fast webhooks are delivered: those due in one second, and a backlog.
func (b *bench) timersHooks(ctx context.Context) ([]section, error) {
	due, err := b.dueInOneSecond(ctx)
	if err != nil {
		return nil, err
	}
	s := section{
		Name: nameTimersHooks + ": backlog", Columns: []string{"webhooks/s", "CPU us each", "of it server", "scheduler", "sink"},
		Notes: []string{fmt.Sprintf("timers-hooks: due in one second: a server and a scheduler in one process; last is when the last of %s webhooks had"+
			" arrived, after the last was due. backlog: %s timers were due before a scheduler ran; server, scheduler and sink are a process each."+
			" %d deliveries at a time go to one address (host and port), %d to all.", number(burst), number(backlog), scheduler.DefaultPerDestination, scheduler.DefaultWorkers)},
	}
	var variants []variant
	for _, sinks := range []int{1, manySinks} {
		what := "1 address"
		if sinks > 1 {
			what = fmt.Sprintf("%d addresses", sinks)
		}
		variants = append(variants, variant{what, func() ([]float64, error) { return b.workOff(ctx, sinks, unobserved) }})
	}
	if s.Rows, err = b.turns(ctx, s.Name, b.set.rounds(), variants); err != nil || b.set.profile == "" {
		return []section{due, s}, err
	}
	_, err = b.workOff(ctx, 1, b.profiled)
	return []section{due, s}, err
}

// unobserved does f and nothing else, in place of [bench.profiled].
func unobserved(_ string, _ []*child, f func() error) error { return f() }

// dueInOneSecond is when the last of many webhooks is delivered.
func (b *bench) dueInOneSecond(ctx context.Context) (s section, err error) {
	c := &crew{dir: b.dir}
	defer func() { err = errors.Join(err, c.close()) }()
	f, err := startFiring(ctx, c, false)
	if err != nil {
		return s, err
	}
	n := burst
	if b.set.quick {
		n = burstQuick
	}
	if _, _, err := f.due(burstQuick, quickLead, b.set.warmUp()); err != nil {
		return s, fmt.Errorf("warm up: %w", err)
	}
	s = section{Name: nameTimersHooks + ": " + number(float64(n)) + " due in one second", Columns: []string{"last ms", "p50 ms", "p99 ms"}}
	var variants []variant
	for _, v := range []struct {
		what string
		over time.Duration
	}{{"evenly", time.Second}, {"all at once", 0}} {
		variants = append(variants, variant{v.what, func() ([]float64, error) {
			m, h, err := f.due(n, b.set.lead(), v.over)
			return []float64{millis(h.Last.Sub(m.Last)), millis(h.Late.P50), millis(h.Late.P99)}, err
		}})
	}
	s.Rows, err = b.turns(ctx, s.Name, b.set.rounds(), variants)
	return s, err
}

// workOff lets one scheduler deliver what became due while none ran, and observe watch that.
func (b *bench) workOff(ctx context.Context, sinks int, observe func(name string, all []*child, f func() error) error) (_ []float64, err error) {
	c := &crew{dir: b.dir}
	defer func() { err = errors.Join(err, c.close()) }()
	server, url, err := c.server(ctx)
	if err != nil {
		return nil, err
	}
	sink, ans, err := c.start(ctx, roleSink, order{Count: sinks})
	if err != nil {
		return nil, err
	}
	s, _, err := c.start(ctx, roleTimers, order{URL: url, Grace: backlogGrace})
	if err != nil {
		return nil, err
	}
	n := backlog
	if b.set.quick {
		n = backlogQuick
	}
	lead := time.Second + time.Duration(n)*time.Second/10_000
	for _, step := range []struct {
		who *child
		o   order
	}{
		{sink, order{Variant: actExpect, Count: n}},
		{s, order{Variant: actTimers, Count: n, Lead: lead, URLs: ans.URLs}},
		{s, order{Variant: actBacklog, Count: n}},
	} {
		step.o.Op = opAct
		if _, err := step.who.do(step.o); err != nil {
			return nil, err
		}
	}
	processes := []*child{server, s, sink}
	before := make([]time.Duration, len(processes))
	for i, p := range processes {
		if before[i], err = cpu(p); err != nil {
			return nil, err
		}
	}
	err = observe(nameTimersHooks, processes, func() error {
		if _, err := s.do(order{Op: opAct, Variant: actRun}); err != nil {
			return err
		}
		ans, err = sink.do(order{Op: opAct, Variant: actAwait, For: sinkPatience})
		return err
	})
	if err != nil {
		return nil, err
	}
	values := []float64{float64(n) / ans.Hooks.Last.Sub(ans.Hooks.First).Seconds(), 0}
	for i, p := range processes {
		after, err := cpu(p)
		if err != nil {
			return nil, err
		}
		each := micros(after-before[i]) / float64(n)
		values[1] += each
		values = append(values, each)
	}
	return values, nil
}

// backlog returns when the server has fired n timers and none is pending.
func (t *timers) backlog(ctx context.Context, n int) error {
	streams, err := t.streams(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("not all timers were fired"))
	defer cancel()
	for {
		fired, pending := 0, 0
		for i, s := range streams {
			info, err := s.Info(ctx, jetstream.WithSubjectFilter(fmt.Sprintf("skybus.tmr.%d.*.>", i)))
			if err != nil {
				return err
			}
			for subject := range info.State.Subjects {
				if isDue(subject) {
					fired++
				} else {
					pending++
				}
			}
		}
		if fired == n && pending == 0 {
			return nil
		}
		if err := pause(ctx, 2*settle); err != nil {
			return fmt.Errorf("%d fired and %d pending of %d: %w", fired, pending, n, context.Cause(ctx))
		}
	}
}

const (
	subjectKind = 3 // the token of a timer's subject that tells what it is
	kindDue     = "f"
)

// isDue tells whether a message of a timer is one to be delivered.
func isDue(subject string) bool {
	tokens := strings.SplitN(subject, ".", subjectKind+2)
	return len(tokens) > subjectKind && tokens[subjectKind] == kindDue
}

// dueOf is when the timer of a message was due: its body has that after a version, a length and what else it has.
func dueOf(m jetstream.Msg) (time.Time, error) {
	rest := m.Data()[min(1, len(m.Data())):]
	for range 2 {
		_, n := binary.Uvarint(rest)
		rest = rest[max(n, 0):]
	}
	if len(rest) < 8 {
		return time.Time{}, fmt.Errorf("message at %q is none of a timer", m.Subject())
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(rest))), nil
}
