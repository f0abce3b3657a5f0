package scheduler_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

func TestList(t *testing.T) {
	t.Parallel()
	s := newRig(t).open(t, scheduler.Config{})
	base := time.Now().Add(time.Hour)
	for i := range 20 {
		spec := scheduler.Spec{ID: fmt.Sprintf("a-%02d", i), At: base.Add(time.Duration(i) * time.Minute), Labels: map[string]string{"even": fmt.Sprint(i%2 == 0)}}
		spec.Paused = i < 3
		create(t, s, spec)
	}
	create(t, s, scheduler.Spec{ID: "b", After: time.Hour})
	create(t, s, scheduler.Spec{ID: "cancelled", After: time.Hour})
	if err := s.Cancel(t.Context(), "cancelled", 0); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		filter scheduler.Filter
		want   int
	}{
		"all":     {scheduler.Filter{}, 21},
		"prefix":  {scheduler.Filter{Prefix: "a-1"}, 10},
		"state":   {scheduler.Filter{States: []scheduler.State{scheduler.Paused}}, 3},
		"states":  {scheduler.Filter{States: scheduler.States()}, 21},
		"from":    {scheduler.Filter{DueFrom: base.Add(15 * time.Minute)}, 5},
		"before":  {scheduler.Filter{Prefix: "a", DueBefore: base.Add(15 * time.Minute)}, 15},
		"label":   {scheduler.Filter{Labels: map[string]string{"even": "true"}}, 10},
		"several": {scheduler.Filter{Labels: map[string]string{"even": "true"}, States: []scheduler.State{scheduler.Paused}}, 2},
		"none":    {scheduler.Filter{Prefix: "z"}, 0},
	} {
		if got := collect(t, s.List(t.Context(), tt.filter)); len(got) != tt.want {
			t.Errorf("%s: %q, want %d", name, ids(got), tt.want)
		}
	}
	for _, err := range s.List(t.Context(), scheduler.Filter{States: []scheduler.State{"odd"}}) {
		wantCode(t, err, bus.InvalidArgument, "field", "state")
	}
	for _, cursor := range []string{"x", "0", "99.1", "-1.1", "0.-1", "0.99999999999999999999"} {
		for _, err := range s.List(t.Context(), scheduler.Filter{Cursor: cursor}) {
			wantCode(t, err, bus.InvalidArgument, "field", "cursor")
		}
	}
}

// Pages one after the other have each timer once.
func TestListPages(t *testing.T) {
	t.Parallel()
	s := newRig(t).open(t, scheduler.Config{})
	const n = 2500 // more than the server answers at once
	specs := func(yield func(scheduler.Spec) bool) {
		for range n {
			if !yield(scheduler.Spec{After: time.Hour, Target: target()}) {
				return
			}
		}
	}
	var made []scheduler.Timer
	for tm, err := range s.CreateMany(t.Context(), specs) {
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, tm)
	}
	var found []scheduler.Timer
	for cursor := ""; ; {
		page := 0
		for tm, err := range s.List(t.Context(), scheduler.Filter{Cursor: cursor}) {
			if err != nil {
				t.Fatal(err)
			}
			found, cursor = append(found, tm), tm.Cursor()
			if page++; page == 700 {
				break
			}
		}
		if page < 700 {
			break
		}
	}
	if !slices.Equal(ids(made), ids(found)) {
		t.Errorf("%d made, %d found", len(made), len(found))
	}
}

func TestNamespacesAreApart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.open(t, scheduler.Config{})
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: r.node, Namespace: "default.test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	other := (&rig{r.node, conn}).open(t, scheduler.Config{})
	create(t, s, scheduler.Spec{ID: "a", After: time.Hour})
	if got := collect(t, other.List(t.Context(), scheduler.Filter{})); len(got) != 0 {
		t.Errorf("listed %q", ids(got))
	}
	wantCode(t, second(other.Get(t.Context(), "a")), bus.NotFound)
	wantCode(t, other.Cancel(t.Context(), "a", 0), bus.NotFound)
	create(t, other, scheduler.Spec{ID: "a", After: time.Hour})
}

func TestWatch(t *testing.T) {
	t.Parallel()
	s, _, _ := newRig(t).run(t, scheduler.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	kinds := make(chan scheduler.EventKind, 100)
	ended := make(chan struct{})
	listening := make(chan struct{})
	go func() {
		defer close(ended)
		for e, err := range s.Watch(ctx, scheduler.EventFilter{ID: "a"}) {
			if err != nil {
				t.Error(err)
				return
			}
			if e.ID != "a" || e.Time.IsZero() {
				t.Errorf("event %+v", e)
			}
			if e.Kind == scheduler.Updated {
				select {
				case <-listening:
				default:
					close(listening)
				}
				continue
			}
			kinds <- e.Kind
		}
	}()
	create(t, s, scheduler.Spec{ID: "a", After: time.Hour})
	eventually(t, "watched", func() bool { // which it may not have been yet at the creation
		if _, err := s.Update(t.Context(), "a", 0, scheduler.Spec{After: time.Hour, Target: target()}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-listening:
			return true
		default:
			return false
		}
	})
	for len(kinds) > 0 {
		<-kinds
	}
	if err := s.Cancel(t.Context(), "a", 0); err != nil {
		t.Fatal(err)
	}
	create(t, s, scheduler.Spec{ID: "a", After: 20 * time.Millisecond})
	create(t, s, scheduler.Spec{ID: "b", After: 20 * time.Millisecond})
	got := receive(t, kinds, 4)
	slices.Sort(got[2:]) // told by two
	if want := []scheduler.EventKind{scheduler.Cancelled, scheduler.Created, scheduler.Delivered, scheduler.Fired}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	cancel()
	<-ended
}

// A watch ends with its connection.
func TestWatchEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.open(t, scheduler.Config{})
	r.conn.NATS().Close()
	ended := make(chan error, 1)
	go func() {
		var last error
		for _, err := range s.Watch(t.Context(), scheduler.EventFilter{}) {
			last = err
		}
		ended <- last
	}()
	if err := receive(t, ended, 1)[0]; err == nil {
		t.Error("it ended without an error")
	}

	r = newRig(t)
	s, _, stop := r.run(t, scheduler.Config{})
	heard := make(chan struct{})
	go func() {
		var last error
		hear := sync.OnceFunc(func() { close(heard) })
		for _, err := range s.Watch(t.Context(), scheduler.EventFilter{}) {
			if err == nil {
				hear()
			}
			last = err
		}
		ended <- last
	}()
	eventually(t, "watched", func() bool {
		create(t, s, scheduler.Spec{After: time.Hour})
		select {
		case <-heard:
			return true
		default:
			return false
		}
	})
	stop()
	r.conn.NATS().Close()
	wantCode(t, receive(t, ended, 1)[0], bus.Unavailable)
}

// A timer that is not readable keeps nobody from seeing the others.
func TestListUnreadable(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.open(t, scheduler.Config{Shards: 1})
	create(t, s, scheduler.Spec{ID: "a", After: time.Hour})
	if _, err := r.conn.JetStream().Publish(t.Context(), "skybus.tmr.0.s.default.dev.bad", []byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	create(t, s, scheduler.Spec{ID: "b", After: time.Hour})
	var found, bad []string
	for tm, err := range s.List(t.Context(), scheduler.Filter{}) {
		if err != nil {
			wantCode(t, err, bus.DataLoss)
			bad = append(bad, tm.ID)
			continue
		}
		found = append(found, tm.ID)
	}
	if !slices.Equal(found, []string{"a", "b"}) || !slices.Equal(bad, []string{"bad"}) {
		t.Errorf("found %q, not readable are %q", found, bad)
	}
}

// A timer that is not readable is told of by its id, and cancel removes it; what is readable beside it stays as it is.
func TestUnreadableByID(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.open(t, scheduler.Config{Shards: 1})
	store := func(subject string) {
		t.Helper()
		if _, err := r.conn.JetStream().Publish(t.Context(), subject, []byte("nonsense")); err != nil {
			t.Fatal(err)
		}
	}
	store("skybus.tmr.0.s.default.dev.bad")
	store("skybus.tmr.0.r.default.dev.bad.bad-G-1")
	good := create(t, s, scheduler.Spec{ID: "good", Repeat: &scheduler.Repeat{Every: time.Hour}})
	store("skybus.tmr.0.r.default.dev.good.good-G-1")

	_, err := s.Get(t.Context(), "bad")
	wantCode(t, err, bus.DataLoss)
	if !strings.Contains(err.Error(), "skybus.tmr.0.s.default.dev.bad") || !strings.Contains(err.Error(), "cancel") {
		t.Errorf("it does not say what it is, and what to do: %v", err)
	}
	wantCode(t, second(s.Pause(t.Context(), "bad", 0)), bus.DataLoss)
	wantCode(t, second(s.FireNow(t.Context(), "bad", 0)), bus.DataLoss)
	wantCode(t, second(s.Update(t.Context(), "bad", 0, scheduler.Spec{After: time.Hour, Target: target()})), bus.DataLoss)
	wantCode(t, s.Cancel(t.Context(), "bad", 77), bus.Aborted)
	wantCode(t, second(s.Get(t.Context(), "bad")), bus.DataLoss)
	if err := s.Cancel(t.Context(), "bad", 0); err != nil {
		t.Error(err)
	}
	wantCode(t, second(s.Get(t.Context(), "bad")), bus.NotFound)
	create(t, s, scheduler.Spec{ID: "bad", After: time.Hour})

	if tm, err := s.Get(t.Context(), "good"); err != nil || tm.State != scheduler.Scheduled {
		t.Errorf("beside what is not readable: %+v, %v", tm, err)
	}
	if err := s.Cancel(t.Context(), "good", good.Revision); err != nil { // which is not that of its retry
		t.Error(err)
	}
	wantCode(t, second(s.Get(t.Context(), "good")), bus.NotFound)
	info, err := r.conn.JetStream().Stream(t.Context(), "SKYBUS_TMR_0")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "only the new timer is left", func() bool {
		i, err := info.Info(t.Context())
		return err == nil && i.State.Msgs == 1
	})
}

func receive[T any](t *testing.T, c <-chan T, n int) []T {
	t.Helper()
	var got []T
	for range n {
		select {
		case v := <-c:
			got = append(got, v)
		case <-time.After(patience):
			t.Fatalf("%v and no more, want %d", got, n)
		}
	}
	return got
}

// Who lists a few timers reads few, however many there are.
func TestListReadsLittle(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.open(t, scheduler.Config{Shards: 1})
	const n = 600
	specs := func(yield func(scheduler.Spec) bool) {
		for i := range n {
			if !yield(scheduler.Spec{ID: strconv.Itoa(i), After: time.Hour, Target: target()}) {
				return
			}
		}
	}
	for _, err := range s.CreateMany(t.Context(), specs) {
		if err != nil {
			t.Fatal(err)
		}
	}
	before := r.conn.NATS().Stats().InMsgs
	for _, err := range s.List(t.Context(), scheduler.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if read := r.conn.NATS().Stats().InMsgs - before; read > n/3 {
		t.Errorf("%d messages were read for one timer", read)
	}
	all := 0
	for _, err := range s.List(t.Context(), scheduler.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		all++
	}
	if all != n {
		t.Errorf("%d timers are listed, want %d", all, n)
	}
}
