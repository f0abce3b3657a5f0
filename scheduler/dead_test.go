package scheduler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
)

// failing is a transport whose deliveries fail for good until it is well.
type failing struct {
	*memory

	well atomic.Bool
}

func newFailing() *failing {
	f := &failing{}
	f.memory = newMemory(func(context.Context, *scheduler.Delivery) error {
		if f.well.Load() {
			return nil
		}
		return &scheduler.DeliveryError{Permanent: true, Unharmed: true, Err: bus.Errorf(bus.NotFound, "gone")}
	})
	return f
}

func TestDeadLettersOfNobody(t *testing.T) {
	t.Parallel()
	s := launch(t, bustest.Server(t), config(newMemory(nil)))
	if got := slices.Collect(letters(t, s, scheduler.DeadFilter{})); len(got) != 0 {
		t.Errorf("letters %+v", got)
	}
	if _, err := s.DeadLetters().Get(t.Context(), "x"); bus.CodeOf(err) != bus.NotFound {
		t.Errorf("get: %v", err)
	}
	for _, bad := range []string{"", "a.b", "*", ">", "a b", strings.Repeat("x", 200)} {
		if err := s.DeadLetters().Remove(t.Context(), bad); bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("remove %q: %v", bad, err)
		}
	}
	if err := s.DeadLetters().Redrive(t.Context(), "x"); bus.CodeOf(err) != bus.NotFound {
		t.Errorf("redrive: %v", err)
	}
	if n, err := s.DeadLetters().RemoveAll(t.Context(), scheduler.DeadFilter{}); n != 0 || err != nil {
		t.Errorf("remove all: %d, %v", n, err)
	}
}

func TestDeadLettersList(t *testing.T) {
	t.Parallel()
	s := launch(t, bustest.Server(t), config(newFailing().memory))
	for i := range 6 {
		set(t, s, scheduler.Spec{ID: fmt.Sprintf("%c%d", 'a'+i%2, i), Payload: []byte("payload")})
		bustest.Eventually(t, "the letter", func() bool { return s.Stats().Dead == uint64(i+1) })
	}
	ids := func(f scheduler.DeadFilter) (ids []string) {
		for l := range letters(t, s, f) {
			ids = append(ids, l.Timer.ID)
			if l.Size != 7 || l.Timer.Payload != nil {
				t.Errorf("letter %+v", l)
			}
		}
		return ids
	}
	all := slices.Collect(letters(t, s, scheduler.DeadFilter{}))
	if got, want := ids(scheduler.DeadFilter{}), []string{"a0", "b1", "a2", "b3", "a4", "b5"}; !slices.Equal(got, want) {
		t.Fatalf("all: %v", got)
	}
	for _, tt := range []struct {
		filter scheduler.DeadFilter
		want   []string
	}{
		{scheduler.DeadFilter{Prefix: "b"}, []string{"b1", "b3", "b5"}},
		{scheduler.DeadFilter{TimerID: "a2"}, []string{"a2"}},
		{scheduler.DeadFilter{After: all[1].ID}, []string{"a2", "b3", "a4", "b5"}},
		{scheduler.DeadFilter{Prefix: "a", After: all[1].ID}, []string{"a2", "a4"}},
		{scheduler.DeadFilter{After: all[5].ID}, nil},
	} {
		if got := ids(tt.filter); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: %v, want %v", tt.filter, got, tt.want)
		}
	}
	if n, err := s.DeadLetters().RemoveAll(t.Context(), scheduler.DeadFilter{Prefix: "b"}); n != 3 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
	if err := s.DeadLetters().Remove(t.Context(), all[0].ID); err != nil {
		t.Error(err)
	}
	if got, want := ids(scheduler.DeadFilter{}), []string{"a2", "a4"}; !slices.Equal(got, want) {
		t.Errorf("left: %v", got)
	}
	for _, err := range s.DeadLetters().List(t.Context(), scheduler.DeadFilter{After: all[0].ID}) {
		if bus.CodeOf(err) != bus.NotFound {
			t.Errorf("after a letter that is gone: %v", err)
		}
	}
}

// A redriven delivery has the same id and new attempts, although it is finished where it died, and can die again.
func TestRedrive(t *testing.T) {
	t.Parallel()
	f := newFailing()
	s := launch(t, bustest.Server(t), config(f.memory))
	set(t, s, scheduler.Spec{ID: "t1", Payload: []byte("\x00\xff")})
	for n := 1; n <= 2; n++ {
		bustest.Eventually(t, "the letter", func() bool { return s.Stats().Dead == uint64(n) })
		if n == 2 {
			f.well.Store(true)
		}
		redriveAll(t, s)
	}
	bustest.Eventually(t, "the delivery", func() bool { return s.Stats().Delivered == 1 })
	gone(t, s, "t1")
	if got := slices.Collect(letters(t, s, scheduler.DeadFilter{})); len(got) != 0 {
		t.Errorf("letters %+v", got)
	}
	all := f.all()
	if len(all) != 3 {
		t.Fatalf("%d calls", len(all))
	}
	for _, d := range all {
		if d.ID != all[0].ID || d.Attempt != 1 || string(d.Payload) != "\x00\xff" || !d.Fired.Equal(all[0].Fired) {
			t.Errorf("delivery %+v", d)
		}
	}
}

func redriveAll(t *testing.T, s *process) {
	t.Helper()
	for l := range letters(t, s, scheduler.DeadFilter{}) {
		if err := s.DeadLetters().Redrive(t.Context(), l.ID); err != nil {
			t.Error(err)
		}
	}
}

// A delivery is not lost where dead letters find no room: it stays, and is not called again.
func TestDeadLettersFull(t *testing.T) {
	t.Parallel()
	m := newFailing()
	s := launch(t, bustest.Server(t), config(m.memory))
	_, err := s.conn.JetStream().UpdateStream(t.Context(), jetstream.StreamConfig{
		Name: "SKYBUS_DLQ", Subjects: []string{"skybus.dlq.>"}, MaxMsgs: 1, Discard: jetstream.DiscardNew,
	})
	if err != nil {
		t.Fatal(err)
	}
	set(t, s, scheduler.Spec{ID: "t1"})
	bustest.Eventually(t, "the first letter", func() bool { return s.Stats().Dead == 1 })
	set(t, s, scheduler.Spec{ID: "t2"})
	var timer scheduler.Timer
	bustest.Eventually(t, "the second delivery to wait", func() bool {
		timer, err = s.Get(t.Context(), "t2")
		return err == nil && timer.State == scheduler.Retrying
	})
	if wait := time.Until(timer.NextAttempt); wait < 50*time.Minute || wait > 70*time.Minute || len(timer.Attempts) != 1 || m.count() != 2 {
		t.Errorf("in %s: %+v", wait, timer)
	}
}

// What nobody can read becomes a letter, once, and is not tried again.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	s := launch(t, bustest.Server(t), config(newMemory(nil)))
	good := body(t, `{"g":"G","n":1,"t":{"uri":"memory://a"}}`, time.Unix(0, 1), "body")
	for i, m := range []struct {
		header     nats.Header
		body, kept string
	}{
		{nil, "body", "body"},
		{nil, "\x01\xff\xff", "\x01\xff\xff"},
		{nil, body(t, `{"g":"a.b","n":1,"t":{"uri":"memory://a"}}`, time.Unix(0, 1), "body"), "body"},
		{nats.Header{"Skybus-Fired-Ns": {"x"}}, good, good},
		{nats.Header{"Skybus-Attempts": {"7"}}, good, "body"},
		{nats.Header{"Skybus-Redriven": {"1@x"}}, good, "body"},
	} {
		id, h := fmt.Sprint("t", i), m.header
		storeRaw(t, s, dueSubject(id), h, m.body)
		bustest.Eventually(t, "the letter", func() bool { return s.Stats().Dead == uint64(i+1) })
		got := slices.Collect(letters(t, s, scheduler.DeadFilter{TimerID: id}))
		if len(got) != 1 || got[0].Code != bus.DataLoss || got[0].Error == "" || got[0].Size != len(m.kept) {
			t.Errorf("%v: letters %+v", h, got)
			continue
		}
		if l, err := s.DeadLetters().Get(t.Context(), got[0].ID); err != nil || string(l.Timer.Payload) != m.kept {
			t.Errorf("%v: %+v, %v", h, l, err)
		}
		if err := s.DeadLetters().Redrive(t.Context(), got[0].ID); bus.CodeOf(err) != bus.FailedPrecondition {
			t.Errorf("%v: redrive: %v", h, err)
		}
		gone(t, s, id)
	}
}

// A payload that the letter has no room for is left out.
func TestLetterTooLarge(t *testing.T) {
	t.Parallel()
	const limit = 4096
	m := newFailing()
	s := launch(t, bustest.Server(t, bustest.MaxPayload(limit)), config(m.memory))
	payload := strings.Repeat("x", 3000)
	record := `{"g":"G","n":1,"t":{"uri":"memory://` + strings.Repeat("a", 800) + `"}}`
	storeRaw(t, s, dueSubject("t1"), nil, body(t, record, time.Now(), payload))
	bustest.Eventually(t, "the letter", func() bool { return s.Stats().Dead == 1 })
	got := slices.Collect(letters(t, s, scheduler.DeadFilter{}))
	if len(got) != 1 || !got[0].Truncated || got[0].Size != len(payload) {
		t.Fatalf("letters %+v", got)
	}
	if err := s.DeadLetters().Redrive(t.Context(), got[0].ID); bus.CodeOf(err) != bus.FailedPrecondition {
		t.Errorf("redrive: %v", err)
	}
}

// A timer may be so large that its history has no room beside it. Then it is given up after an attempt or two, and not tried for ever.
func TestHistoryTooLarge(t *testing.T) {
	t.Parallel()
	m := newMemory(func(context.Context, *scheduler.Delivery) error { return bus.Errorf(bus.Unavailable, "down") })
	s := launch(t, bustest.Server(t, bustest.MaxPayload(4096)), config(m))
	for name, size := range map[string]int{"attempts": 3600, "letter": 3900} {
		record, err := json.Marshal(map[string]any{"g": "G", "n": 1, "t": toMemory("a")})
		if err != nil {
			t.Fatal(err)
		}
		h := nats.Header{"Skybus-Fired-Ns": {strconv.FormatInt(time.Now().UnixNano(), 10)}}
		storeRaw(t, s, dueSubject(name), h, body(t, string(record), time.Now(), strings.Repeat("x", size)))
	}
	bustest.Eventually(t, "the letters", func() bool { return s.Stats().Dead == 2 })
	attempts := 0
	for l := range letters(t, s, scheduler.DeadFilter{}) {
		attempts += l.Attempts
		if l.Code != bus.ResourceExhausted || l.Timer.ID == "" {
			t.Errorf("letter of %q: code %q, %d attempts", l.Timer.ID, l.Code, l.Attempts)
		}
	}
	if n := m.count(); n != attempts || n > 4 {
		t.Errorf("%d attempts, the letters tell of %d", n, attempts)
	}
}
