package scheduler_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
)

func TestCreateAndGet(t *testing.T) {
	t.Parallel()
	s := newRig(t).open(t, scheduler.Config{})
	spec := scheduler.Spec{
		ID: "a-1", At: time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond), Target: target(),
		Payload: []byte{0, 1, 255, '\n'}, ContentType: "application/x-thing", Header: map[string]string{"X-A": "b"},
		Retry:  scheduler.Retry{MaxAttempts: 3, First: time.Second},
		Labels: map[string]string{"team": "shop"},
	}
	before := time.Now()
	made, err := s.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(t.Context(), "a-1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made, got, cmpopts.IgnoreUnexported(scheduler.Timer{})); diff != "" {
		t.Errorf("created and found (-created +found):\n%s", diff)
	}
	if diff := cmp.Diff(spec, got.Spec); diff != "" {
		t.Errorf("asked and found (-asked +found):\n%s", diff)
	}
	if got.State != scheduler.Scheduled || !got.Due.Equal(spec.At) || got.Revision == 0 || got.Created.Before(before.Add(-time.Second)) {
		t.Errorf("got %+v", got)
	}
	_, err = s.Get(t.Context(), "a-2")
	wantCode(t, err, bus.NotFound)
	_, err = s.Get(t.Context(), "a.2")
	wantCode(t, err, bus.InvalidArgument, "field", "id")
}

func TestAfterCountsFromNow(t *testing.T) {
	t.Parallel()
	s := newRig(t).open(t, scheduler.Config{})
	before := time.Now()
	tm := create(t, s, scheduler.Spec{After: time.Minute})
	if after := time.Now(); tm.Due.Before(before.Add(time.Minute)) || tm.Due.After(after.Add(time.Minute+time.Second)) {
		t.Errorf("due %s, made between %s and %s", tm.Due, before, after)
	}
	if len(tm.ID) < 16 {
		t.Errorf("id %q", tm.ID)
	}
}

func TestIDsAndKeysAreUnique(t *testing.T) {
	t.Parallel()
	s := newRig(t).open(t, scheduler.Config{})
	create(t, s, scheduler.Spec{ID: "a", After: time.Hour})
	_, err := s.Create(t.Context(), scheduler.Spec{ID: "a", After: time.Hour, Target: target()})
	wantCode(t, err, bus.AlreadyExists, "id", "a", "field", "id")

	first := create(t, s, scheduler.Spec{Key: "order 17", After: time.Hour})
	_, err = s.Create(t.Context(), scheduler.Spec{Key: "order 17", After: time.Hour, Target: target()})
	wantCode(t, err, bus.AlreadyExists, "id", first.ID, "field", "key")
	create(t, s, scheduler.Spec{Key: "order 18", After: time.Hour})

	// A cancelled one is free at once.
	for range 3 {
		if err := s.Cancel(t.Context(), "a", 0); err != nil {
			t.Fatal(err)
		}
		create(t, s, scheduler.Spec{ID: "a", After: time.Hour})
	}
	if err := s.Cancel(t.Context(), first.ID, 0); err != nil {
		t.Fatal(err)
	}
	create(t, s, scheduler.Spec{Key: "order 17", After: time.Hour})
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	s := newRig(t).open(t, scheduler.Config{})
	hour := time.Hour
	for name, tt := range map[string]struct {
		spec  scheduler.Spec
		field string
	}{
		"no time":            {scheduler.Spec{}, "after"},
		"two times":          {scheduler.Spec{After: hour, At: time.Now()}, "after"},
		"negative":           {scheduler.Spec{After: -1}, "after"},
		"beyond the horizon": {scheduler.Spec{After: 1 << 62}, ""},
		"too late":           {scheduler.Spec{At: time.Date(2262, 4, 11, 0, 0, 0, 0, time.UTC)}, "at"},
		"year 9999":          {scheduler.Spec{At: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, "at"},
		"long ago":           {scheduler.Spec{At: time.Now().AddDate(-2, 0, 0)}, "at"},
		"id with a dot":      {scheduler.Spec{ID: "a.b", After: hour}, "id"},
		"id with a space":    {scheduler.Spec{ID: "a b", After: hour}, "id"},
		"wildcard id":        {scheduler.Spec{ID: "*", After: hour}, "id"},
		"long id":            {scheduler.Spec{ID: strings.Repeat("a", 65), After: hour}, "id"},
		"id and key":         {scheduler.Spec{ID: "a", Key: "b", After: hour}, "id"},
		"long key":           {scheduler.Spec{Key: strings.Repeat("a", 257), After: hour}, "key"},
		"large payload":      {scheduler.Spec{After: hour, Payload: bytes.Repeat([]byte("x"), scheduler.MaxPayload+1)}, "payload"},
		"content type":       {scheduler.Spec{After: hour, ContentType: "a\r\nb"}, "content_type"},
		"no media type":      {scheduler.Spec{After: hour, ContentType: "a b c"}, "content_type"},
		"label name":         {scheduler.Spec{After: hour, Labels: map[string]string{"a b": "x"}}, "labels"},
		"label value":        {scheduler.Spec{After: hour, Labels: map[string]string{"a": strings.Repeat("x", 129)}}, "labels.a"},
		"attempts":           {scheduler.Spec{After: hour, Retry: scheduler.Retry{MaxAttempts: 51}}, "retry.max_attempts"},
		"first":              {scheduler.Spec{After: hour, Retry: scheduler.Retry{First: time.Millisecond}}, "retry.first"},
		"last":               {scheduler.Spec{After: hour, Retry: scheduler.Retry{First: time.Minute, Last: time.Second}}, "retry.last"},
		"age":                {scheduler.Spec{After: hour, Retry: scheduler.Retry{MaxAge: 31 * 24 * hour}}, "retry.max_age"},
		"transport":          {scheduler.Spec{After: hour, Target: scheduler.Target{URI: "gopher://x"}}, "target.transport"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.spec.Target.URI == "" {
				tt.spec.Target = target()
			}
			_, err := s.Create(t.Context(), tt.spec)
			if tt.field == "" {
				if err != nil {
					wantCode(t, err, bus.InvalidArgument)
				}
				return
			}
			wantCode(t, err, bus.InvalidArgument, "field", tt.field)
		})
	}
	for tm, err := range s.List(t.Context(), scheduler.Filter{}) {
		if err != nil || tm.ID != "" {
			t.Errorf("stored nevertheless: %+v %v", tm, err)
		}
	}
}

func TestCreateMany(t *testing.T) {
	t.Parallel()
	s := newRig(t).open(t, scheduler.Config{})
	create(t, s, scheduler.Spec{ID: "m-7", After: time.Hour})
	const n = 5000
	specs := func(yield func(scheduler.Spec) bool) {
		for i := range n {
			spec := scheduler.Spec{ID: fmt.Sprintf("m-%d", i), After: time.Hour, Target: target()}
			if i == 100 {
				spec.After = -1
			}
			if !yield(spec) {
				return
			}
		}
	}
	i := 0
	for tm, err := range s.CreateMany(t.Context(), specs) {
		switch i {
		case 7:
			wantCode(t, err, bus.AlreadyExists, "id", "m-7")
		case 100:
			wantCode(t, err, bus.InvalidArgument, "field", "after")
		default:
			if err != nil || tm.ID != fmt.Sprintf("m-%d", i) || tm.Revision == 0 {
				t.Fatalf("%d: %+v %v", i, tm, err)
			}
		}
		i++
	}
	if i != n {
		t.Errorf("%d results", i)
	}
	if got := len(collect(t, s.List(t.Context(), scheduler.Filter{}))); got != n-1 {
		t.Errorf("%d timers are stored, want %d", got, n-1)
	}
}

// A result comes as soon as it is known, whatever comes after it.
func TestCreateManyAnswersAtOnce(t *testing.T) {
	t.Parallel()
	s := newRig(t).open(t, scheduler.Config{})
	next := make(chan scheduler.Spec)
	specs := func(yield func(scheduler.Spec) bool) {
		for spec := range next {
			if !yield(spec) {
				return
			}
		}
	}
	pull, stop := iter.Pull2(s.CreateMany(t.Context(), specs))
	for range 3 {
		go func() { next <- scheduler.Spec{After: time.Hour, Target: target()} }()
		if _, err, ok := pull(); err != nil || !ok {
			t.Fatal(err, ok)
		}
	}
	close(next)
	if _, _, ok := pull(); ok {
		t.Error("one more")
	}
	stop()
}

// Who leaves the loop, or whose context ends, stores no more.
func TestCreateManyEnds(t *testing.T) {
	t.Parallel()
	s := newRig(t).open(t, scheduler.Config{})
	endless := func(yield func(scheduler.Spec) bool) {
		for yield(scheduler.Spec{After: time.Hour, Target: target()}) {
		}
	}
	n := 0
	for _, err := range s.CreateMany(t.Context(), endless) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 10 {
			break
		}
	}
}

// While all servers are away nothing is stored, and whoever asks is told that he may try again: whether the clock was measured a moment
// ago or long before. Nothing of it is stored once they are back. What is sent before the loss is noticed is another matter: nobody knows.
func TestNothingIsStoredWithoutServer(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		n := bustest.Server(t)
		conn := connect(t, n)
		s := (&rig{n, conn}).open(t, scheduler.Config{Shards: 1})
		create(t, s, scheduler.Spec{ID: "a", After: 24 * time.Hour})
		n.Stop()
		eventually(t, "the loss is noticed", func() bool { return !conn.NATS().IsConnected() })
		for _, away := range []time.Duration{0, 5 * time.Minute} {
			time.Sleep(away) // fake time: the connection has given up, or has not
			for _, tt := range []struct {
				what string
				do   func(ctx context.Context) error
			}{
				{"create", func(ctx context.Context) error {
					return second(s.Create(ctx, scheduler.Spec{ID: "b", After: time.Hour, Target: target()}))
				}},
				{"create many", func(context.Context) error { return createMany(t.Context(), s, "b", "c") }},
				{"update", func(ctx context.Context) error {
					return second(s.Update(ctx, "a", 0, scheduler.Spec{After: time.Hour, Target: target()}))
				}},
				{"cancel", func(ctx context.Context) error { return s.Cancel(ctx, "a", 0) }},
				{"pause", func(ctx context.Context) error { return second(s.Pause(ctx, "a", 0)) }},
				{"fire", func(ctx context.Context) error { return second(s.FireNow(ctx, "a", 0)) }},
			} {
				ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
				if err := tt.do(ctx); bus.CodeOf(err) != bus.Unavailable {
					t.Errorf("%s, %s after the loss: %v", tt.what, away, err)
				}
				cancel()
			}
		}
		n.Start(t)
		eventually(t, "the server is back", func() bool { return second(s.Get(t.Context(), "a")) == nil })
		time.Sleep(time.Minute) // fake time: what was still under way would be stored by now
		wantCode(t, second(s.Get(t.Context(), "b")), bus.NotFound)
		wantCode(t, second(s.Get(t.Context(), "c")), bus.NotFound)
		if tm, err := s.Get(t.Context(), "a"); err != nil || tm.State != scheduler.Scheduled || tm.Revision != 1 {
			t.Errorf("the timer from before is %+v, %v", tm, err)
		}
	})
}

// Timers that wait for the servers do so side by side.
func TestCreateManyWithoutServer(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		n := bustest.Server(t)
		conn := connect(t, n)
		s := (&rig{n, conn}).open(t, scheduler.Config{Shards: 1})
		n.Stop()
		eventually(t, "the loss is noticed", func() bool { return !conn.NATS().IsConnected() })
		begin := time.Now()
		err := createMany(t.Context(), s, "a", "b", "c", "d")
		wantCode(t, err, bus.Unavailable)
		if took := time.Since(begin); took > 15*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// What was not stored at the first attempt is looked after at once, whoever takes the results at what pace: later it could not be told any more from what has
// been delivered.
func TestCreateManyLooksAtOnce(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		n := bustest.Server(t)
		conn := connect(t, n)
		s := (&rig{n, conn}).open(t, scheduler.Config{Shards: 1})
		create(t, s, scheduler.Spec{ID: "before", After: time.Hour})
		n.Stop()
		eventually(t, "the loss is noticed", func() bool { return !conn.NATS().IsConnected() })
		const many = 200
		specs := func(yield func(scheduler.Spec) bool) {
			for i := range many {
				if !yield(scheduler.Spec{ID: fmt.Sprint(i), After: time.Hour, Target: target()}) {
					return
				}
			}
		}
		next, stop := iter.Pull2(s.CreateMany(t.Context(), specs))
		defer stop()
		n.Start(t)
		if tm, err, ok := next(); !ok || err != nil || tm.ID != "0" {
			t.Fatal(tm, err, ok)
		}
		// Nobody takes the rest.
		eventually(t, "all are stored", func() bool { return second(s.Get(t.Context(), fmt.Sprint(many-1))) == nil })
	})
}

// createMany makes timers of those ids, and returns an error if one of them is not refused as the others are.
func createMany(ctx context.Context, s *scheduler.Scheduler, ids ...string) (last error) {
	var specs []scheduler.Spec
	for _, id := range ids {
		specs = append(specs, scheduler.Spec{ID: id, After: time.Hour, Target: target()})
	}
	for tm, err := range s.CreateMany(ctx, slices.Values(specs)) {
		if err == nil || last != nil && bus.CodeOf(err) != bus.CodeOf(last) {
			return fmt.Errorf("%+v: %w, before it %w", tm, err, last)
		}
		last = err
	}
	return last
}

func collect(t *testing.T, seq iter.Seq2[scheduler.Timer, error]) []scheduler.Timer {
	t.Helper()
	var all []scheduler.Timer
	for tm, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, tm)
	}
	return all
}

func ids(timers []scheduler.Timer) []string {
	var all []string
	for _, tm := range timers {
		all = append(all, tm.ID)
	}
	slices.Sort(all)
	return all
}
