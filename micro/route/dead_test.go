package route_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

func letters(t testing.TB, d *route.DeadLetters) []route.DeadLetter {
	t.Helper()
	var all []route.DeadLetter
	for l, err := range d.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	return all
}

// recovering serves app.later, which refuses all requests until it is well, behind a route of two asynchronous steps.
func (h *house) recovering(t testing.TB, well *atomic.Bool, done *handled) {
	t.Helper()
	h.serve(t, "app", "1.0.0", endpoint("later", func(ctx context.Context, _ []byte) ([]byte, error) {
		if !well.Load() {
			return nil, bus.Errorf(bus.NotFound, "not yet")
		}
		done.add(micro.Info(ctx).RequestID)
		return nil, nil
	}))
	h.put(t, "inner", step("app.later"))
	h.put(t, "r", step("app.later", async, version("1.0.0")), sub("inner", async))
	workWith(t, h.client, route.WorkerConfig{Runner: h.runner})
}

// A letter is listed, shown, given back and done.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	dead := route.NewDeadLetters(h.conn)
	if n := len(letters(t, dead)); n != 0 {
		t.Errorf("%d letters before any step", n)
	}
	wantCode(t, dead.Redrive(t.Context(), "x"), bus.NotFound, `"x"`)
	var well atomic.Bool
	var done handled
	h.recovering(t, &well, &done)
	h.publish(t, "r", "id", 1)
	h.idle(t)
	all := letters(t, dead)
	if len(all) != 2 {
		t.Fatalf("letters %+v, want two", all)
	}
	targets := map[string]route.DeadLetter{}
	for _, l := range all {
		targets[l.Target] = l
		if l.RequestID != "id-0000" || l.Attempts != 1 || l.Size != 2 || l.Truncated || !strings.Contains(l.Error, "not yet") ||
			time.Since(l.Died) > time.Minute || l.Origin != h.client.Address() {
			t.Errorf("letter %+v", l)
		}
		got, err := dead.Get(t.Context(), l.ID)
		if err != nil || string(got.Body) != "{}" || got.Target != l.Target || got.Error != l.Error {
			t.Errorf("letter %+v, %v", got, err)
		}
	}
	if targets["app.later"].Version != "1.0.0" || targets["route inner"].ID == "" {
		t.Errorf("letters %+v", all)
	}

	well.Store(true)
	for _, l := range all { // whatever is remembered of their first time
		if err := dead.Redrive(t.Context(), l.ID); err != nil {
			t.Fatal(err)
		}
	}
	h.idle(t)
	if n := done.times["id-0000"]; n != 2 || len(letters(t, dead)) != 0 {
		t.Errorf("%d steps were done, %d letters are left, want 2 and 0", n, len(letters(t, dead)))
	}
}

// One namespace neither sees nor removes the letters of another.
func TestDeadLettersOfOthers(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h, other := build(t, srv), build(t, srv, inNamespace("shop.prod"))
	var never atomic.Bool
	var done handled
	other.recovering(t, &never, &done)
	other.publish(t, "r", "other", 1)
	other.idle(t)
	dead, theirs := route.NewDeadLetters(h.conn), route.NewDeadLetters(other.conn)
	left := letters(t, theirs)
	if len(left) != 2 || len(letters(t, dead)) != 0 {
		t.Fatalf("the other namespace has %d letters, want 2; this one %d, want none", len(left), len(letters(t, dead)))
	}
	wantCode(t, dead.Remove(t.Context(), left[0].ID), bus.NotFound)
	wantCode(t, dead.Redrive(t.Context(), left[0].ID), bus.NotFound)
	if err := theirs.Remove(t.Context(), left[0].ID); err != nil {
		t.Error(err)
	}
	if n := len(letters(t, theirs)); n != 1 {
		t.Errorf("%d letters are left, want 1", n)
	}
	if _, err := dead.Get(t.Context(), "*"); bus.CodeOf(err) != bus.InvalidArgument {
		t.Errorf("id *: %v", err)
	}
}

func TestRedriveRefuses(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	if _, err := h.conn.OpenStream(t.Context(), jetstream.StreamConfig{Name: route.DeadLetterStream, Subjects: []string{"skybus.dlq.>"}}); err != nil {
		t.Fatal(err)
	}
	for id, header := range map[string]nats.Header{
		"large":   {route.HeaderDeadSubject: {"skybus.async.default.dev.a.b"}, route.HeaderDeadTruncated: {"9000"}},
		"foreign": {route.HeaderDeadSubject: {"skybus.async.shop.prod.a.b"}},
		"nothing": {},
	} {
		msg := &nats.Msg{Subject: h.conn.Namespace().DeadLetterSubject("async", id), Header: header}
		if _, err := h.conn.JetStream().PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
		wantCode(t, route.NewDeadLetters(h.conn).Redrive(t.Context(), id), bus.FailedPrecondition, id)
	}
	if n := len(letters(t, route.NewDeadLetters(h.conn))); n != 3 {
		t.Errorf("%d letters are left, want 3", n)
	}
}

// More letters than one batch are all listed.
func TestDeadLettersMany(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	fillDeadLetters(t, h.conn, 600, 0)
	if n := len(letters(t, route.NewDeadLetters(h.conn))); n != 600 {
		t.Errorf("%d letters, want 600", n)
	}
}

// fillDeadLetters stores so many letters, in a stream that takes no more where there is a limit.
func fillDeadLetters(t testing.TB, conn *bus.Conn, n int, limit int64) {
	t.Helper()
	cfg := jetstream.StreamConfig{Name: route.DeadLetterStream, Subjects: []string{"skybus.dlq.>"}, MaxMsgs: limit, Discard: jetstream.DiscardNew}
	if _, err := conn.JetStream().CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		msg := &nats.Msg{Subject: conn.Namespace().DeadLetterSubject("async", fmt.Sprint("old-", i)), Header: nats.Header{}}
		if _, err := conn.JetStream().PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
}

// What happens when there is no room for one more letter, and that another namespace's letters are not touched.
func TestDeadLetterPolicies(t *testing.T) {
	for policy, name := range map[route.FullPolicy]string{route.Keep: "keep", route.DropOldest: "drop oldest"} {
		t.Run(name, func(t *testing.T) {
			bustest.Bubble(t, func(t *testing.T) {
				srv := bustest.Server(t)
				h := build(t, srv)
				other := connect(t, srv, inNamespace("shop.prod"))
				fillDeadLetters(t, h.conn, 20, 21)
				msg := &nats.Msg{Subject: other.Namespace().DeadLetterSubject("async", "theirs")}
				if _, err := other.JetStream().PublishMsg(t.Context(), msg); err != nil {
					t.Fatal(err)
				}
				var calls atomic.Int64
				h.serve(t, "app", "", endpoint("later", func(context.Context, []byte) ([]byte, error) {
					calls.Add(1)
					return nil, bus.Errorf(bus.InvalidArgument, "no")
				}))
				h.put(t, "r", step("app.later", async))
				h.publish(t, "r", "id", 2)
				workWith(t, h.client, route.WorkerConfig{DeadLetters: policy})
				time.Sleep(30 * time.Minute)
				queued, all := messages(t, h.conn, route.AsyncStream), letters(t, route.NewDeadLetters(h.conn))
				if len(letters(t, route.NewDeadLetters(other))) != 1 {
					t.Error("the other namespace's letter is gone")
				}
				if policy == route.DropOldest {
					if queued != 0 || len(all) != 20 || all[0].ID != "old-2" || all[19].RequestID == "" {
						t.Errorf("%d steps queued, %d letters from %q on, want 0 and 20 from old-2 on", queued, len(all), all[0].ID)
					}
					return
				}
				if queued != 2 || len(all) != 20 || calls.Load() != 2 {
					t.Errorf("%d steps queued, %d letters, %d calls, want 2, 20, 2", queued, len(all), calls.Load())
				}
				for _, id := range []string{"old-0", "old-1"} { // somebody makes room
					if err := route.NewDeadLetters(h.conn).Remove(t.Context(), id); err != nil {
						t.Fatal(err)
					}
				}
				h.untilDone(t, 2*time.Hour)
				if all := letters(t, route.NewDeadLetters(h.conn)); len(all) != 20 || all[0].ID != "old-2" {
					t.Errorf("%d letters from %q on, want 20 from old-2 on", len(all), all[0].ID)
				}
			})
		})
	}
}
