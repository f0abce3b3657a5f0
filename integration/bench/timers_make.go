package main

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/scheduler"
)

const (
	plainName    = "BENCH_PLAIN"
	plainSubject = "bench.plain."
	plainWindow  = 4096 // messages under way at once, as many as CreateMany's timers
	checkEvery   = 64   // timers or messages are made between two looks at the clock
)

// create makes timers with CreateMany, and fails where one is not created.
func (t *timers) create(ctx context.Context, o order) (m made, err error) {
	begin := time.Now()
	for _, err := range t.s.CreateMany(ctx, specs(o, begin)) {
		if err != nil {
			return m, err
		}
		m.Count++
	}
	m.begin, m.Elapsed, m.Last = begin, time.Since(begin), o.due(begin, max(o.Count-1, 0))
	if time.Now().After(begin.Add(o.Lead)) {
		return m, fmt.Errorf("creating %d timers took %v: the first was due before the last was created", m.Count, m.Elapsed)
	}
	_, m.Bytes, err = t.bytes(ctx)
	return m, err
}

// due is when the i-th timer is.
func (o order) due(begin time.Time, i int) time.Time {
	return begin.Add(o.Lead + time.Duration(float64(o.Over)*float64(i)/float64(max(o.Count, 1))))
}

// specs are o.Count timers whose times due are spread over o.Over, or as many as there is time for in o.For, all due at the same
// time. The first of them is due o.Lead after begin. Those of a count have their number in the payload.
func specs(o order, begin time.Time) iter.Seq[scheduler.Spec] {
	return func(yield func(scheduler.Spec) bool) {
		spec := scheduler.Spec{At: begin.Add(o.Lead), Target: timerTarget(), Payload: bytes.Repeat([]byte("x"), timerBody)}
		if o.Count == 0 {
			for i := 0; i%checkEvery != 0 || time.Since(begin) < o.For; i++ {
				if !yield(spec) {
					return
				}
			}
			return
		}
		for i := range o.Count {
			spec.At, spec.Payload = o.due(begin, i), numbered(i)
			if len(o.URLs) > 0 {
				spec.Target.URI = o.URLs[i%len(o.URLs)]
			}
			if !yield(spec) {
				return
			}
		}
	}
}

// numbered is a body with a number, which a sink reads.
func numbered(i int) []byte {
	body := strconv.AppendInt(make([]byte, 0, timerBody), int64(i), 10)
	for len(body) < timerBody {
		body = append(body, ' ')
	}
	return body
}

func (t *timers) plainStream(ctx context.Context) (jetstream.Stream, error) {
	return t.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: plainName, Subjects: []string{plainSubject + ">"}})
}

// plain publishes messages of the size of timers, as what a schedule by hand would have: an id in the subject and three headers.
func (t *timers) plain(ctx context.Context, d time.Duration) (m made, err error) {
	stream, err := t.plainStream(ctx)
	if err != nil {
		return m, err
	}
	body := bytes.Repeat([]byte("x"), timerBody)
	begin := time.Now()
	due := begin.Add(farAway)
	for ; m.Count%checkEvery != 0 || time.Since(begin) < d; m.Count++ {
		id := nuid.Next()
		msg := &nats.Msg{Subject: plainSubject + id, Data: body, Header: nats.Header{
			"Bench-Due":    {strconv.FormatInt(due.UnixNano(), 10)},
			"Bench-At":     {"@at " + due.UTC().Format(time.RFC3339Nano)},
			"Bench-Target": {plainSubject + "fired." + id},
		}}
		if _, err := t.js.PublishMsgAsync(msg, jetstream.WithStallWait(callTimeout)); err != nil {
			return m, err
		}
	}
	select {
	case <-t.js.PublishAsyncComplete():
	case <-ctx.Done():
		return m, context.Cause(ctx)
	}
	m.Elapsed = time.Since(begin)
	select {
	case err := <-t.failed:
		return m, err
	default:
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return m, err
	}
	m.Bytes = info.State.Bytes
	return m, nil
}
