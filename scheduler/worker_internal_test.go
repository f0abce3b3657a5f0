package scheduler

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

func TestFifo(t *testing.T) {
	t.Parallel()
	var q fifo[int]
	in, out := 0, 0
	for i := range 10_000 {
		if i%7 != 0 || q.len() == 0 {
			q.push(in)
			in++
		}
		if i%3 == 0 {
			if v := q.pop(); v != out {
				t.Fatalf("popped %d, want %d", v, out)
			}
			out++
		}
	}
	newest := in - 1
	if v := q.popNewest(); v != newest || q.len() != newest-out {
		t.Fatalf("newest %d, want %d; %d left", v, newest, q.len())
	}
	for q.len() > 0 {
		if v := q.pop(); v != out {
			t.Fatalf("popped %d, want %d", v, out)
		}
		out++
	}
	q.push(1)
	if q.popNewest() != 1 || q.len() != 0 || len(q.items) != 0 {
		t.Errorf("left: %+v", q)
	}
}

func TestParcels(t *testing.T) {
	t.Parallel()
	var l parcels
	var all [4]parcel
	for i := range all {
		l.add(&all[i], time.Time{})
	}
	l.remove(&all[1])
	l.remove(&all[0])
	l.add(&all[0], time.Time{})
	l.remove(&all[3])
	if l.first != &all[2] || l.last != &all[0] || l.first.after != l.last || l.last.before != l.first || l.n != 2 {
		t.Errorf("list %+v", l)
	}
	l.remove(&all[2])
	l.remove(&all[0])
	if l.first != nil || l.last != nil || l.n != 0 {
		t.Errorf("list %+v", l)
	}
}

func TestFinished(t *testing.T) {
	t.Parallel()
	f := newFinished()
	f.add("a")
	if !f.has("a") || f.has("b") {
		t.Error("a is not finished, or b is")
	}
	f.turned = f.turned.Add(-2 * finishedAge)
	f.add("b")
	if !f.has("a") || !f.has("b") {
		t.Error("forgotten too early")
	}
	f.turned = f.turned.Add(-2 * finishedAge)
	f.add("c")
	if f.has("a") || !f.has("b") || !f.has("c") {
		t.Error("a is still known, or others are not")
	}
}

func TestDestinationWait(t *testing.T) {
	t.Parallel()
	now := time.Now()
	d := &destination{active: 3, moved: now.Add(-10 * time.Millisecond), took: time.Second}
	for _, tt := range []struct {
		n, limit int
		later    time.Duration
		want     time.Duration
	}{
		{1, 4, 0, 0},
		{1, 2, 0, 500 * time.Millisecond},
		{6, 3, 0, 2 * time.Second},
		{3, 3, 8*time.Second - 10*time.Millisecond, 8 * time.Second}, // none has ended for long
	} {
		if got := d.wait(tt.n, tt.limit, now.Add(tt.later)); got != tt.want {
			t.Errorf("%d of %d after %s: %s, want %s", tt.n, tt.limit, tt.later, got, tt.want)
		}
	}
	d.waiting.push(nil)
	for range 8 {
		d.spill(3, now)
	}
	if got := d.spill(3, now); got < 2500*time.Millisecond || got > 4200*time.Millisecond {
		t.Errorf("the tenth of those who wait is put off for %s, want about 3.3 s", got)
	}
	d.measure(9 * time.Second)
	if d.took != 2*time.Second {
		t.Errorf("after one has ended: %+v", d)
	}
	for _, tt := range []struct {
		spilled     int
		least, most time.Duration
	}{
		{10, 3750 * time.Millisecond, 6250 * time.Millisecond},
		{10_000, 15 * time.Second, 25 * time.Second},
		{1_000_000, 90 * time.Second, 150 * time.Second},
	} {
		d.spilled = tt.spilled
		if got := d.spill(3, now); got < tt.least || got > tt.most {
			t.Errorf("one more than %d is put off for %s, want %s to %s", tt.spilled, got, tt.least, tt.most)
		}
	}
}

// A process that stood still takes nobody for slow or dead because of that.
func TestStandstill(t *testing.T) {
	t.Parallel()
	c, x := workbench(t)
	limit := c.s.cfg.PerDestination
	began := time.Now()
	to := &destination{key: x.destination, active: limit, moved: began, took: time.Millisecond}
	c.destinations[to.key], c.busy = to, c.s.cfg.Workers
	for range 5 {
		to.waiting.push(x)
	}
	c.held.add(x, began)
	x.to = to
	c.waiting = 5
	c.beat = began
	c.look(t.Context(), began.Add(100*time.Millisecond))
	if c.stoodStillLocked(began.Add(200*time.Millisecond), began) {
		t.Error("a process that runs stands still")
	}

	woken := began.Add(10 * time.Second)
	if !c.stoodStillLocked(woken, began) {
		t.Error("what ends first after the standstill counts")
	}
	c.look(t.Context(), woken)
	if to.waiting.len() != 5 || c.aside.len() != 0 {
		t.Errorf("%d wait, %d are put off", to.waiting.len(), c.aside.len())
	}
	if got := to.wait(5, limit, woken.Add(50*time.Millisecond)); got > time.Second {
		t.Errorf("the fifth is thought to wait for %s", got)
	}
	if !c.stoodStillLocked(woken.Add(time.Second), began) || c.stoodStillLocked(woken.Add(time.Second), woken.Add(time.Millisecond)) {
		t.Error("what began before the end of the standstill counts, or what began after it does not")
	}
}

func TestEncodeAttempts(t *testing.T) {
	t.Parallel()
	var tried []Attempt
	for range MaxAttempts {
		tried = append(tried, Attempt{At: time.Now().UTC(), Took: time.Hour, Status: 599, Code: bus.ResourceExhausted, Error: strings.Repeat("\"", maxAttemptError)})
	}
	text, err := encodeAttempts(tried)
	if err != nil || len(text) > maxHistory || strings.ContainsAny(text, "\r\n") {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	var back []Attempt
	if err := json.Unmarshal([]byte(text), &back); err != nil || len(back) != len(tried) {
		t.Fatalf("%d attempts, %v", len(back), err)
	}
	if back[0].Error != "" || back[0].Status != 599 || back[len(back)-1].Error != tried[0].Error || tried[0].Error == "" {
		t.Errorf("the oldest should lose their reasons: %+v", back)
	}
}

// The code of an error is told beside its text, and not in it once more.
func TestReasonText(t *testing.T) {
	t.Parallel()
	refused := bus.Errorf(bus.PermissionDenied, "10.0.0.1 is no public address")
	for want, err := range map[string]error{
		"10.0.0.1 is no public address":       &DeliveryError{Err: refused},
		"dial: 10.0.0.1 is no public address": fmt.Errorf("dial: %w", refused),
		"plain":                               errors.New("plain"),
	} {
		if got := reasonText(err); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func FuzzExcerpt(f *testing.F) {
	f.Add("plain", 200)
	f.Add("a\r\nb\x00\xff\u00e4\u20ac", 5)
	f.Fuzz(func(t *testing.T, text string, n int) {
		n &= 0xff
		got := excerpt(text, n)
		if len(got) > n || !utf8.ValidString(got) || strings.ContainsAny(got, "\r\n\x00\x7f") {
			t.Errorf("%q", got)
		}
	})
}

func FuzzReadLetter(f *testing.F) {
	f.Add(`{"g":"G","n":1}`, "1", `[{"at":"2026-01-01T00:00:00Z"}]`, "1@2")
	f.Add(`{`, "", "x", "@")
	f.Fuzz(func(t *testing.T, record, due, attempts, redriven string) {
		h := nats.Header{
			headerTimer: {record}, headerDue: {due}, headerAttempts: {attempts}, headerRedriven: {redriven},
			headerDeadSubject: {"skybus.tmr.0.f.a.b.t1"},
		}
		l := readLetter("skybus.dlq.a.b.timer.x", h, time.Unix(1, 0), []byte("p"))
		if l.ID != "x" || l.Timer.ID != "t1" {
			t.Errorf("%+v", l)
		}
		m, err := readDead(1, time.Unix(1, 0), h, nil)
		if err != nil {
			return
		}
		x := &parcel{stored: m, pipe: &pipe{shard: &shard{}}}
		if x.readHistory() != nil || checkDelivery(x.record.delivery(x.id)) != nil {
			return
		}
		if _, err := x.retryMessage(time.Unix(1, 0), 1); err != nil {
			t.Error(err)
		}
	})
}

// workbench is a scheduler that runs nothing, with one message that is due.
func workbench(t *testing.T) (*courier, *parcel) {
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
	c := newCourier(s)
	sh := s.shards[0]
	if _, err := c.openConsumer(t.Context(), sh); err != nil {
		t.Fatal(err)
	}
	return c, due(t, c, "t1")
}

// due stores and takes a message.
func due(t *testing.T, c *courier, id string) *parcel {
	t.Helper()
	sh := c.s.shards[0]
	body, err := Body(`{"g":"G","n":1,"t":{"uri":"memory://a"}}`, time.Unix(0, 1), "")
	if err != nil {
		t.Fatal(err)
	}
	h := nats.Header{headerFired: {"1"}}
	if _, err := c.s.js.PublishMsg(t.Context(), &nats.Msg{Subject: sh.subject(kindDue, id), Header: h, Data: body}); err != nil {
		t.Fatal(err)
	}
	return fetch(t, c)
}

// fetch takes the next message.
func fetch(t *testing.T, c *courier) *parcel {
	t.Helper()
	x := c.read(t.Context(), c.newPipe(c.s.shards[0]), fetchMessage(t, c))
	if x == nil {
		t.Fatal("the message is not a delivery")
	}
	return x
}

func fetchMessage(t *testing.T, c *courier) *nats.Msg {
	t.Helper()
	nc := c.s.conn.NATS()
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+streamName(0)+"."+consumerName(c.s.conn.Namespace()), sub.Subject, nil); err != nil {
		t.Fatal(err)
	}
	msg, err := sub.NextMsg(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func (x *parcel) scheduled(t *testing.T) (seq uint64, at time.Time) {
	t.Helper()
	raw, err := x.pipe.stream.GetLastMsgForSubject(t.Context(), x.pipe.retry(x.id, x.delivery))
	if err != nil {
		t.Fatal(err)
	}
	m, err := readStored(raw.Subject, raw.Sequence, raw.Time, raw.Header, raw.Data)
	if err != nil {
		t.Fatal(err)
	}
	return raw.Sequence, m.timer().NextAttempt
}

// Two processes may have the same message, where one is slow. What the first of them scheduled stays.
func TestScheduleOnce(t *testing.T) {
	t.Parallel()
	c, x := workbench(t)
	twin := *x
	hour := time.Now().Add(time.Hour)
	if !c.again(t.Context(), x, hour, 0) {
		t.Fatal("not scheduled")
	}
	seq, _ := x.scheduled(t)
	if !c.again(t.Context(), &twin, hour.Add(time.Hour), 0) {
		t.Fatal("the other is not settled")
	}
	if now, at := x.scheduled(t); now != seq || !at.Equal(hour) {
		t.Errorf("scheduled for %s by message %d, want %s by %d", at, now, hour, seq)
	}
}

// Between the attempt that is over and its acknowledgement a delivery is there twice. A cancel that is refused then ends nothing: the delivery would be lost
// although its owner was told that it goes on.
func TestCancelRefusedBetweenAttempts(t *testing.T) {
	t.Parallel()
	c, x := workbench(t)
	hour := time.Now().Add(time.Hour)
	msg, err := x.retryMessage(hour, 0)
	if err == nil {
		err = c.schedule(t.Context(), x, msg)
	}
	if err != nil {
		t.Fatal(err)
	}
	seq, _ := x.scheduled(t)
	if err := c.s.Cancel(t.Context(), x.id, 0); reason(err) != "already_due" {
		t.Errorf("between two attempts a cancel ends with %v, want already_due", err)
	}
	if now, at := x.scheduled(t); now != seq || !at.Equal(hour) {
		t.Errorf("after a cancel that was refused, message %d is there for %s, want %d for %s", now, at, seq, hour)
	}
	c.acknowledge(t.Context(), x)
	bustest.Eventually(t, "the cancel to be in time", func() bool { return c.s.Cancel(t.Context(), x.id, 0) == nil })
}

// A retry that is older than the message is what the message came from: it may be there for a moment, or was left by a crash.
func TestScheduleReplacesOlder(t *testing.T) {
	t.Parallel()
	c, x := workbench(t)
	hour := time.Now().Add(time.Hour)
	if !c.again(t.Context(), x, hour, 0) {
		t.Fatal("not scheduled")
	}
	later := due(t, c, "t1")
	if !c.again(t.Context(), later, hour.Add(time.Hour), 0) {
		t.Fatal("not scheduled")
	}
	if _, at := x.scheduled(t); !at.Equal(hour.Add(time.Hour)) {
		t.Errorf("scheduled for %s, want an hour later than %s", at, hour)
	}
}

// What is finished, or settled, is acknowledged without a call when its message comes again.
func TestFinishedIsNotDelivered(t *testing.T) {
	t.Parallel()
	c, x := workbench(t)
	c.done.add(x.finish())
	nc := c.s.conn.NATS()
	if again := c.read(t.Context(), x.pipe, x.msg); again != nil {
		t.Errorf("delivered again: %+v", again)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "the message to be gone", func() bool {
		info, err := x.pipe.stream.Info(t.Context())
		return err == nil && info.State.Msgs == 0
	})
	y := due(t, c, "t2")
	y.redrives = 1
	c.done.add(y.delivery)
	if c.done.has(y.finish()) {
		t.Error("a redriven delivery counts as the finished one")
	}
}
