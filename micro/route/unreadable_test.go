package route_test

import (
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/route"
)

// raw writes to the bucket of routes what any NATS client could.
func raw(t testing.TB, conn *bus.Conn, name, value string) uint64 {
	t.Helper()
	bucket, err := conn.JetStream().KeyValue(t.Context(), route.Bucket)
	if err != nil {
		t.Fatal(err)
	}
	rev, err := bucket.PutString(t.Context(), conn.Namespace().Key("chain", name), value)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// What is stored and is no valid route is listed as such, can be replaced and can be deleted.
func TestStoreUnreadable(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	s := openStore(t, conn)
	if _, err := s.Put(t.Context(), "fine", route.Route{Steps: steps(1)}, 0); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"garbage": "{", "empty": "", "array": "[]", "no-steps": `{"steps":[]}`,
		"wild":     `{"steps":[{"service":"a.>","endpoint":"*"}]}`,
		"too-many": `{"steps":[` + strings.Repeat(`{"service":"a","endpoint":"b"},`, 64) + `{"service":"a","endpoint":"b"}]}`,
		"long":     `{"steps":[{"service":"` + strings.Repeat("s", 5000) + `","endpoint":"b"}]}`,
		"hour":     `{"steps":[{"service":"a","endpoint":"b","timeout":"2h"}]}`,
	} {
		rev := raw(t, conn, name, value)
		got, err := s.Get(t.Context(), name)
		wantCode(t, err, bus.DataLoss, name)
		if got.Err == nil || got.Revision != rev || len(got.Route.Steps) != 0 {
			t.Errorf("get %s: %+v, want Err, revision %d and no route", name, got, rev)
		}
		if e := list(t, s)[name]; e.Err == nil || e.Revision != rev {
			t.Errorf("list %s: %+v, want Err", name, e)
		}
		if name == "garbage" {
			if _, err := s.Put(t.Context(), name, route.Route{Steps: steps(1)}, rev); err != nil {
				t.Errorf("replace %s: %v", name, err)
			}
			continue
		}
		if err := s.Delete(t.Context(), name); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
	}
	if all := list(t, s); len(all) != 2 || all["fine"].Err != nil || all["garbage"].Err != nil {
		t.Errorf("in the end: %+v, want fine and garbage, both readable", all)
	}
	var errs int
	for e, err := range s.History(t.Context(), "garbage") {
		if err != nil {
			t.Fatal(err)
		}
		if e.Err != nil {
			errs++
		}
	}
	if errs != 1 {
		t.Errorf("%d unreadable revisions in the history, want 1", errs)
	}
}

// A stored value that is no route fails its own runs and nobody else's, and is mended by an edit.
func TestRunUnreadable(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	h := build(t, srv)
	h.serve(t, "app", "", says("get", `{"a":1}`))
	h.put(t, "fine", step("app.get"))
	for name, value := range map[string]string{
		"garbage": "\x00{", "none": `{"steps":[]}`, "wild": `{"steps":[{"service":"app","endpoint":"*","async":true}]}`,
		"long": `{"steps":[{"service":"` + strings.Repeat("s", 5000) + `","endpoint":"e","async":true}]}`,
	} {
		rev := raw(t, h.conn, name, value)
		bustest.Eventually(t, "the runner to hear of "+name, func() bool {
			_, err := h.runner.Run(t.Context(), name, route.Request{})
			return bus.CodeOf(err) != bus.NotFound
		})
		res, err := h.runner.Run(t.Context(), name, route.Request{})
		wantCode(t, err, bus.DataLoss, name)
		if len(res.Hops) != 0 {
			t.Errorf("%s was run: %+v", name, res.Hops)
		}
		if _, ok := h.runner.Route(name); ok {
			t.Errorf("%s is told as a route", name)
		}
		h.run(t, "fine", "")
		fixed, err := h.store.Put(t.Context(), name, route.Route{Steps: []route.Step{step("app.get")}}, rev)
		if err != nil {
			t.Fatal(err)
		}
		h.follows(t, name, fixed)
		h.run(t, name, "")
	}
	// Another process that starts now finds all of it.
	raw(t, h.conn, "garbage", "}")
	other := newRunner(t, h.client)
	if _, err := other.Run(t.Context(), "garbage", route.Request{}); bus.CodeOf(err) != bus.DataLoss {
		t.Errorf("garbage: %v", err)
	}
	if _, err := other.Run(t.Context(), "fine", route.Request{}); err != nil {
		t.Errorf("fine: %v", err)
	}
	if n := len(other.Names()); n != 5 {
		t.Errorf("%d names: %q, want 5", n, other.Names())
	}
	if h.conn.NATS().Stats().Reconnects != 0 {
		t.Error("the connection was lost")
	}
}
