package scheduler

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// retryRig is a shard with deliveries that wait for their next attempt, an hour from now.
type retryRig struct {
	*Scheduler

	t *testing.T
	o *owner
}

const retryPayload = 10_000

func newRetryRig(t *testing.T, n int) *retryRig {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s, err := Open(t.Context(), conn, Config{Shards: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	r := &retryRig{Scheduler: s, t: t, o: s.newOwner(s.shards[0])}
	for i := range n {
		r.wait(i, time.Hour)
	}
	return r
}

// wait stores a delivery that waits.
func (r *retryRig) wait(i int, after time.Duration) {
	r.t.Helper()
	sh, id := r.shards[0], fmt.Sprintf("t%d", i)
	rec := record{name: sh.name(id), Gen: "g", N: 1, Target: Target{URI: "http://127.0.0.1/"}}
	body, err := rec.encode(time.Now().UnixNano(), DefaultGrace, []byte(strings.Repeat("x", retryPayload)))
	if err != nil {
		r.t.Fatal(err)
	}
	msg := &nats.Msg{Subject: sh.retry(id, rec.delivery(id)), Data: body, Header: nats.Header{
		headerSchedule:       {"@at " + time.Now().Add(after).UTC().Format(time.RFC3339Nano)},
		headerScheduleTarget: {sh.subject(kindDue, id)},
	}}
	if _, err := r.js.PublishMsg(r.t.Context(), msg); err != nil {
		r.t.Fatal(err)
	}
}

// sweep sweeps once, and returns how many bytes it read.
func (r *retryRig) sweep() uint64 {
	r.t.Helper()
	before := r.conn.NATS().Stats().InBytes
	if err := r.o.sweepRetries(r.t.Context(), sweepPatience); err != nil {
		r.t.Fatal(err)
	}
	return r.conn.NATS().Stats().InBytes - before
}

// count is how many messages of a kind there are.
func (r *retryRig) count(ctx context.Context, kind string) int {
	r.t.Helper()
	info, err := r.shards[0].stream.Info(ctx, jetstream.WithSubjectFilter(r.shards[0].all(kind)))
	if err != nil {
		r.t.Fatal(err)
	}
	return len(info.State.Subjects)
}

// Each delivery that waits is read once, however often it is looked whether the server has failed to fire it.
func TestSweepReadsRetriesOnce(t *testing.T) {
	t.Parallel()
	const n = 300
	r := newRetryRig(t, n)
	if first := r.sweep(); first < n*retryPayload {
		t.Errorf("the first sweep read %d bytes, want all %d deliveries", first, n)
	}
	if again := r.sweep(); again > retryPayload {
		t.Errorf("the second sweep read %d bytes", again)
	}
	r.wait(n, time.Hour)
	if more := r.sweep(); more < retryPayload || more > 3*retryPayload {
		t.Errorf("the third sweep read %d bytes, want one delivery", more)
	}
	// The server has fired them all but one that was put off: nothing is read of what is gone.
	if err := r.shards[0].stream.Purge(t.Context(), jetstream.WithPurgeSubject(r.shards[0].all(kindRetry))); err != nil {
		t.Fatal(err)
	}
	r.wait(0, 3*time.Hour)
	r.ahead.Store(int64(2 * time.Hour))
	if gone := r.sweep(); gone > 5*retryPayload {
		t.Errorf("the sweep of what is gone read %d bytes", gone)
	}
	if due, waiting := r.count(t.Context(), kindDue), r.count(t.Context(), kindRetry); due != 0 || waiting != 1 {
		t.Errorf("%d are due, %d wait, want none and one", due, waiting)
	}
}

// What the server failed to fire is fired, also where that needs more than one request.
func TestSweepFiresRetries(t *testing.T) {
	t.Parallel()
	const n = fetchSize + 100
	r := newRetryRig(t, n)
	r.sweep()
	r.ahead.Store(int64(time.Hour + sweepPatience/2))
	if r.sweep(); r.count(t.Context(), kindDue) != 0 {
		t.Error("the server was not given its time")
	}
	r.ahead.Store(int64(time.Hour + 2*sweepPatience))
	r.sweep()
	if due, waiting := r.count(t.Context(), kindDue), r.count(t.Context(), kindRetry); due != n || waiting != 0 {
		t.Errorf("%d are due, %d wait, want all %d due", due, waiting, n)
	}
	if swept := r.Stats().Swept; swept != n {
		t.Errorf("%d were counted, want %d", swept, n)
	}
	// A stream of that name that was made anew.
	if err := r.js.DeleteStream(t.Context(), streamName(0)); err != nil {
		t.Fatal(err)
	}
	if err := r.reopen(); err != nil {
		t.Fatal(err)
	}
	r.wait(0, time.Second)
	r.sweep()
	if due := r.count(t.Context(), kindDue); due != 1 {
		t.Errorf("%d of the new stream are due, want one", due)
	}
}

func (r *retryRig) reopen() error {
	_, err := r.openStream(r.t.Context(), 0, 1)
	return err
}
