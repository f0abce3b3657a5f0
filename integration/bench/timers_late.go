package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/scheduler"
)

const (
	burst      = 10_000 // timers due in one second
	burstQuick = 300
	dueLead    = 7 * time.Second // more than owners have timers at hand for: they fetch them again
	quickLead  = 2 * time.Second
)

// lead is how long before timers are due they are created.
func (s settings) lead() time.Duration {
	if s.quick {
		return quickLead
	}
	return dueLead
}

// firing is a program with a server that fires and delivers, and a sink.
type firing struct {
	host, sink *child
	urls       []string // of the sink
}

// startFiring starts both. heard: the sink hears of fires too.
func startFiring(ctx context.Context, c *crew, heard bool) (f firing, err error) {
	host, url, err := c.host(ctx, order{})
	if err != nil {
		return f, err
	}
	if !heard {
		url = ""
	}
	sink, ans, err := c.start(ctx, roleSink, order{URL: url, Count: 1})
	if err != nil {
		return f, err
	}
	_, err = host.do(order{Op: opAct, Variant: actRun})
	return firing{host, sink, ans.URLs}, err
}

// due lets timers become due, spread over a time, and tells how their webhooks came in.
func (f firing) due(n int, lead, over time.Duration) (m made, h hooks, err error) {
	if _, err := f.sink.do(order{Op: opAct, Variant: actExpect, Count: n}); err != nil {
		return m, h, err
	}
	ans, err := f.host.do(order{Op: opAct, Variant: actTimers, Count: n, Lead: lead, Over: over, URLs: f.urls})
	if err != nil {
		return m, h, err
	}
	m = ans.Made
	ans, err = f.sink.do(order{Op: opAct, Variant: actAwait, For: lead + sinkPatience})
	return m, ans.Hooks, err
}

// timersLate is how long after they were due timers are fired, and reach a sink.
func (b *bench) timersLate(ctx context.Context) (_ []section, err error) {
	c := &crew{dir: b.dir}
	defer func() { err = errors.Join(err, c.close()) }()
	f, err := startFiring(ctx, c, true)
	if err != nil {
		return nil, err
	}
	rates := []int{1_000, 10_000}
	if b.set.quick {
		rates = []int{burstQuick}
	}
	if _, _, err := f.due(burstQuick, quickLead, b.set.warmUp()); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	stored := section{
		Name: nameTimersLate + ": stored", Columns: []string{"p50 ms", "p99 ms", "max ms"},
		Notes: []string{"timers-late: server and scheduler in one process, timers of 100 B due evenly, all figures after the time due. stored is when the server" +
			" stored the fire, by its time stamp, of timers that are not delivered. webhooks: of timers whose webhooks go out at the same time, fired is when another process" +
			" heard that the fire was stored, at sink when the request had arrived at the receiver."},
	}
	webhooks := section{
		Name: nameTimersLate + ": webhooks", Columns: []string{"fired p50 ms", "p99 ms", "max ms", "at sink p50 ms", "p99 ms", "max ms"},
	}
	var alone, delivered []variant
	for _, rate := range rates {
		what, n := number(float64(rate))+" a second", int(float64(rate)*b.set.window.Seconds())
		alone = append(alone, variant{what, func() ([]float64, error) {
			ans, err := f.host.do(order{Op: opAct, Variant: actStored, Count: n, Lead: b.set.lead(), Over: b.set.window})
			return ans.Hooks.Fired.millis(), err
		}})
		delivered = append(delivered, variant{what, func() ([]float64, error) {
			_, h, err := f.due(n, b.set.lead(), b.set.window)
			return append(h.Fired.millis(), h.Late.millis()...), err
		}})
	}
	if stored.Rows, err = b.turns(ctx, stored.Name, b.set.rounds(), alone); err != nil {
		return nil, err
	}
	webhooks.Rows, err = b.turns(ctx, webhooks.Name, b.set.rounds(), delivered)
	return []section{stored, webhooks}, err
}

// timersAlone is how late the server fires what no owner does.
func (b *bench) timersAlone(ctx context.Context) (_ []section, err error) {
	c := &crew{dir: b.dir}
	defer func() { err = errors.Join(err, c.close()) }()
	host, _, err := c.host(ctx, order{})
	if err != nil {
		return nil, err
	}
	s := section{
		Name: nameTimersAlone, Columns: []string{"p50 ms", "p99 ms", "max ms", "max after grace ms"},
		Notes: []string{fmt.Sprintf("timers-alone: nobody runs a scheduler, so the server fires by itself, %v after the time due: the default grace."+
			" When it stored the fires, after the time due.", scheduler.DefaultGrace)},
	}
	rates := []int{100, 1_000, burst}
	if b.set.quick {
		rates = []int{burstQuick}
	}
	var variants []variant
	for _, rate := range rates {
		variants = append(variants, variant{number(float64(rate)) + " a second", func() ([]float64, error) {
			n := int(float64(rate) * b.set.window.Seconds())
			if _, err := host.do(order{Op: opAct, Variant: actTimers, Count: n, Lead: quickLead, Over: b.set.window}); err != nil {
				return nil, err
			}
			ans, err := host.do(order{Op: opAct, Variant: actFires, Count: n})
			fired := ans.Hooks.Fired
			return append(fired.millis(), millis(fired.Max-scheduler.DefaultGrace)), err
		}})
	}
	s.Rows, err = b.turns(ctx, nameTimersAlone, b.set.rounds(), variants)
	return []section{s}, err
}

// fires takes n messages that the server has fired, and tells how long after the time due it stored them.
func (t *timers) fires(ctx context.Context, n int) (q quantiles, err error) {
	streams, err := t.streams(ctx)
	if err != nil {
		return q, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("not all timers were fired"))
	defer cancel()
	var late histogram
	for i := 0; late.total < uint64(n); i = (i + 1) % len(streams) {
		if ctx.Err() != nil {
			return q, fmt.Errorf("%d of %d: %w", late.total, n, context.Cause(ctx))
		}
		if err := t.takeFires(ctx, streams[i], i, &late); err != nil {
			return q, err
		}
	}
	return quantilesOf(&late), nil
}

// takeFires takes what a shard has fired until there is none for a while.
func (t *timers) takeFires(ctx context.Context, s jetstream.Stream, shard int, late *histogram) error {
	consumer, err := s.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: "bench", FilterSubject: fmt.Sprintf("skybus.tmr.%d.f.>", shard), MaxAckPending: -1,
	})
	if err != nil {
		return err
	}
	const atATime = 1000
	for {
		batch, err := consumer.Fetch(atATime, jetstream.FetchMaxWait(settle))
		if err != nil {
			return err
		}
		n := 0
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return err
			}
			due, err := dueOf(m)
			if err != nil {
				return err
			}
			if meta.Timestamp.Before(due) {
				return fmt.Errorf("fired %v before it was due", due.Sub(meta.Timestamp))
			}
			late.add(meta.Timestamp.Sub(due))
			n++
			if err := m.Ack(); err != nil {
				return err
			}
		}
		if err := batch.Error(); err != nil || n == 0 {
			return err
		}
	}
}
