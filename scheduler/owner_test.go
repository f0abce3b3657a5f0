package scheduler_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/internal/jscode"
	"github.com/skybus-io/skybus/scheduler"
)

func TestFiresOnTime(t *testing.T) {
	t.Parallel()
	s, p, _ := newRig(t).run(t, scheduler.Config{})
	const n = 50
	for i := range n {
		create(t, s, scheduler.Spec{ID: fmt.Sprint("t-", i), After: time.Duration(i*20)*time.Millisecond + time.Millisecond, Payload: fmt.Append(nil, i)})
	}
	for _, d := range p.wait(t, n) {
		if d.TimerID != "t-"+string(d.Payload) || d.Attempt != 1 || d.Occurrence != 1 || d.Target != target() {
			t.Errorf("delivered %+v", d)
		}
		if d.Fired.Before(d.Due) {
			t.Errorf("%s fired at %s, %s early", d.TimerID, d.Fired, d.Due.Sub(d.Fired))
		}
	}
}

// Timers made before anybody ran, and far more than fit into one answer of the server.
func TestOwnerLoads(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	maker := r.open(t, scheduler.Config{Grace: time.Minute})
	const n = 5000
	base := time.Now().Add(time.Second)
	specs := func(yield func(scheduler.Spec) bool) {
		for i := range n {
			if !yield(scheduler.Spec{ID: strconv.Itoa(i), At: base.Add(time.Duration(i) * time.Microsecond), Target: target()}) {
				return
			}
		}
	}
	for _, err := range maker.CreateMany(t.Context(), specs) {
		if err != nil {
			t.Fatal(err)
		}
	}
	_, p, _ := r.run(t, scheduler.Config{Grace: time.Minute}) // the server would be a minute late
	seen := map[string]int{}
	for _, d := range p.wait(t, n) {
		seen[d.TimerID]++
	}
	if len(seen) != n {
		t.Errorf("%d timers were delivered, want %d", len(seen), n)
	}
}

// Without an owner the server fires, a grace late; a worker that comes later delivers.
func TestServerFiresWithoutOwner(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.open(t, scheduler.Config{Grace: 200 * time.Millisecond})
	tm := create(t, s, scheduler.Spec{ID: "a", After: 10 * time.Millisecond})
	eventually(t, "fired by the server", func() bool {
		got, err := s.Get(t.Context(), "a")
		return err == nil && got.State == scheduler.Firing
	})
	if late := time.Since(tm.Due); late < 200*time.Millisecond {
		t.Errorf("fired %s after it was due, before the grace", late)
	}
	_, p, _ := r.run(t, scheduler.Config{Grace: 200 * time.Millisecond})
	if d := p.wait(t, 1)[0]; d.TimerID != "a" || d.Fired.Before(d.Due) {
		t.Errorf("delivered %+v", d)
	}
}

func TestOwnersTakeOver(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, p1, stop := r.run(t, scheduler.Config{Name: "one"})
	second := &rig{r.node, connect(t, r.node)}
	s, p2, _ := second.run(t, scheduler.Config{Name: "two"})
	for i := range 20 {
		create(t, s, scheduler.Spec{ID: fmt.Sprint("before-", i), After: 10 * time.Millisecond})
	}
	eventually(t, "delivered", func() bool { return len(p1.all())+len(p2.all()) == 20 })
	stop()
	for i := range 20 {
		create(t, s, scheduler.Spec{ID: fmt.Sprint("after-", i), After: 10 * time.Millisecond})
	}
	eventually(t, "delivered by who is left", func() bool { return len(p1.all())+len(p2.all()) == 40 })
}

// A full store refuses new timers at once; those that were stored fire as soon as there is room, also those that the server itself
// could not store when they were due.
func TestStoreFull(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Configure(func(o *server.Options) { o.JetStreamMaxStore = 8 << 20 }))
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: r.node, Store: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	js := conn.JetStream()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "FILL", Subjects: []string{"fill"}}); err != nil {
		t.Fatal(err)
	}
	s, p, _ := (&rig{r.node, conn}).run(t, scheduler.Config{Grace: 100 * time.Millisecond})
	const n = 30
	for i := range n {
		create(t, s, scheduler.Spec{ID: fmt.Sprint("stored-", i), After: 3 * time.Second, Payload: make([]byte, 20<<10)})
	}
	fillStore(t, js)
	begin := time.Now()
	_, err = s.Create(t.Context(), scheduler.Spec{ID: "refused", After: time.Second, Target: target(), Payload: make([]byte, 64<<10)})
	wantCode(t, err, bus.ResourceExhausted)
	if e := bus.AsError(err); e.HTTPStatus() != 507 || time.Since(begin) > 5*time.Second {
		t.Errorf("refused with %d after %s: %v", e.HTTPStatus(), time.Since(begin), err)
	}
	// Their time passes while nothing can be stored.
	eventually(t, "overdue", func() bool { return time.Since(begin) > 4*time.Second })
	stream, err := js.Stream(t.Context(), "FILL")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	eventually(t, "all that was stored is delivered", func() bool {
		for _, d := range p.all() {
			seen[d.TimerID] = true
		}
		return len(seen) == n
	})
	if seen["refused"] {
		t.Error("a refused timer was delivered")
	}
}

// In a store that is full, and of which nobody said how large it is, a cancel does what it says, and what cannot be done says why.
func TestCancelInFullStore(t *testing.T) {
	t.Parallel()
	r := newRig(t, bustest.Configure(func(o *server.Options) { o.JetStreamMaxStore = 24 << 20 }))
	js := r.conn.JetStream()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "FILL", Subjects: []string{"fill"}}); err != nil {
		t.Fatal(err)
	}
	s, p, _ := r.run(t, scheduler.Config{})
	p.answer = func(d *scheduler.Delivery) error {
		if d.TimerID == "retrying" {
			return bus.Errorf(bus.Unavailable, "down")
		}
		return nil
	}
	createOfAllKinds(t, s)
	fillStore(t, js)
	_, err := s.Create(t.Context(), scheduler.Spec{ID: "refused", After: time.Second, Target: target()})
	wantCode(t, err, bus.ResourceExhausted)
	if status := bus.AsError(err).HTTPStatus(); status != 507 || !strings.Contains(err.Error(), "the store of the servers is full") {
		t.Errorf("refused with %d: %v", status, err)
	}
	listed := 0
	for _, err := range s.List(t.Context(), scheduler.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		listed++
	}
	if listed != 6 {
		t.Errorf("%d are listed, want 6", listed)
	}
	wantCode(t, s.Cancel(t.Context(), "once", 1<<40), bus.Aborted)
	for _, id := range []string{"retrying", "once", "soon", "often", "paused"} {
		if err := s.Cancel(t.Context(), id, 0); err != nil {
			t.Errorf("cancel %s: %v", id, err)
		}
		wantCode(t, second(s.Get(t.Context(), id)), bus.NotFound)
		wantCode(t, s.Cancel(t.Context(), id, 0), bus.NotFound)
		fillStore(t, js) // what a cancel made free
	}
	stream, err := js.Stream(t.Context(), "FILL")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	create(t, s, scheduler.Spec{ID: "after", After: 21 * time.Second}) // when all others were due
	seen := func(id string) bool {
		return slices.ContainsFunc(p.all(), func(d scheduler.Delivery) bool { return d.TimerID == id })
	}
	eventually(t, "what was kept, and what is new, fires", func() bool { return seen("kept") && seen("after") })
	for _, id := range []string{"once", "soon", "often", "paused", "refused"} {
		if seen(id) {
			t.Errorf("%s fired", id)
		}
	}
}

// createOfAllKinds makes six timers, one of which waits to be tried again; the others are due in 20 s or later.
func createOfAllKinds(t *testing.T, s *scheduler.Scheduler) {
	t.Helper()
	create(t, s, scheduler.Spec{ID: "retrying", After: time.Millisecond, Retry: scheduler.Retry{First: 24 * time.Hour, Last: 24 * time.Hour, MaxAge: 30 * 24 * time.Hour}})
	eventually(t, "it waits for its next attempt", func() bool {
		tm, err := s.Get(t.Context(), "retrying")
		return err == nil && tm.State == scheduler.Retrying && time.Until(tm.NextAttempt) > time.Minute
	})
	create(t, s, scheduler.Spec{ID: "once", After: time.Minute})
	create(t, s, scheduler.Spec{ID: "soon", After: 20 * time.Second})
	create(t, s, scheduler.Spec{ID: "often", Repeat: &scheduler.Repeat{Every: 20 * time.Second}})
	create(t, s, scheduler.Spec{ID: "paused", After: 20 * time.Second, Paused: true})
	create(t, s, scheduler.Spec{ID: "kept", After: 20 * time.Second})
}

// fillStore fills the store until not even a small message fits.
func fillStore(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	for size := 256 << 10; size > 0; {
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "fill", Data: make([]byte, size)}); err != nil {
			if !jscode.Full(err) {
				t.Fatal(err)
			}
			size /= 4
		}
	}
}

// Timers alone do not fill a store to where none of them could fire.
func TestTimersLeaveRoomToFire(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	r := newRig(t, bustest.Configure(func(o *server.Options) { o.JetStreamMaxStore = size }))
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: r.node, Store: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s, p, _ := (&rig{r.node, conn}).run(t, scheduler.Config{})
	p.answer = func(d *scheduler.Delivery) error {
		if d.TimerID == "dead" {
			return &scheduler.DeliveryError{Permanent: true, Err: errors.New("gone")}
		}
		return nil
	}
	const large = 200 << 10
	create(t, s, scheduler.Spec{ID: "dead", After: time.Millisecond, Payload: make([]byte, large)})
	eventually(t, "the dead letter", func() bool { return s.Stats().Dead == 1 })
	create(t, s, scheduler.Spec{ID: "small", After: time.Hour})
	create(t, s, scheduler.Spec{ID: "often", Repeat: &scheduler.Repeat{Every: time.Hour}, Payload: make([]byte, large)})
	at, n := time.Now().Add(20*time.Second), 0
	for { // until it is full
		if time.Now().After(at) {
			t.Fatal("they fire as fast as they are made: this machine is too busy to fill a store")
		}
		_, err := s.Create(t.Context(), scheduler.Spec{At: at, Target: target(), Payload: make([]byte, 100<<10)})
		if err != nil {
			wantCode(t, err, bus.ResourceExhausted)
			if status := bus.AsError(err).HTTPStatus(); status != 507 {
				t.Errorf("status %d, want 507", status)
			}
			break
		}
		n++
	}
	if n < 20 {
		t.Errorf("only %d fitted", n)
	}
	// Nor do timers that grow, those that are fired beside their schedule, and those that come back.
	wantCode(t, second(s.Update(t.Context(), "small", 0, scheduler.Spec{After: time.Hour, Target: target(), Payload: make([]byte, large)})), bus.ResourceExhausted)
	wantCode(t, second(s.FireNow(t.Context(), "often", 0)), bus.ResourceExhausted)
	for l, err := range s.DeadLetters().List(t.Context(), scheduler.DeadFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, s.DeadLetters().Redrive(t.Context(), l.ID), bus.ResourceExhausted)
		if _, err := s.DeadLetters().Get(t.Context(), l.ID); err != nil {
			t.Errorf("the letter that was not redriven: %v", err)
		}
	}
	for what, err := range map[string]error{
		"pause":  second(s.Pause(t.Context(), "small", 0)),
		"cancel": s.Cancel(t.Context(), "often", 0),
		"fire":   second(s.FireNow(t.Context(), "small", 0)),
	} {
		if err != nil {
			t.Errorf("%s, which takes no room: %v", what, err)
		}
	}
	p.wait(t, n+2)
}
