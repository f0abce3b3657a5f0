package route_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/route"
)

func TestRollback(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	s := openStore(t, conn)
	_, err := s.Rollback(t.Context(), "r", 0)
	wantCode(t, err, bus.NotFound)
	var revs []uint64
	put := func(n int) {
		rev, err := s.Put(t.Context(), "r", route.Route{Steps: steps(n)}, 0)
		if err != nil {
			t.Fatal(err)
		}
		revs = append(revs, rev)
	}
	put(1)
	_, err = s.Rollback(t.Context(), "r", 0)
	wantCode(t, err, bus.NotFound, "no earlier revision")
	put(2)
	put(3)
	back := func(to uint64, want int) uint64 {
		rev, err := s.Rollback(t.Context(), "r", to)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Get(t.Context(), "r")
		if err != nil || got.Revision != rev || len(got.Route.Steps) != want {
			t.Errorf("after a rollback to %d: %+v, %v, want revision %d with %d steps", to, got, err, rev, want)
		}
		return rev
	}
	back(0, 2)
	back(0, 3) // and again: the one before is the one that was rolled back
	last := back(revs[0], 1)
	_, err = s.Rollback(t.Context(), "r", last)
	wantCode(t, err, bus.FailedPrecondition, "is what is there now")
	_, err = s.Rollback(t.Context(), "r", 1000)
	wantCode(t, err, bus.NotFound, "revision 1000")

	if err := s.Delete(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	removal := last + 1
	back(0, 1) // what was removed is there again
	_, err = s.Rollback(t.Context(), "r", removal)
	wantCode(t, err, bus.FailedPrecondition, "removed it")
	bad := raw(t, conn, "r", "nonsense")
	back(0, 1) // so is what was destroyed
	_, err = s.Rollback(t.Context(), "r", bad)
	wantCode(t, err, bus.DataLoss)
}

// An old revision is checked as a new one is: the routes it names may be gone.
func TestRollbackChecks(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	h.put(t, "inner", step("s.e"))
	h.put(t, "r", sub("inner"))
	h.put(t, "r", step("s.e"))
	if err := h.store.Delete(t.Context(), "inner"); err != nil {
		t.Fatal(err)
	}
	_, err := h.store.Rollback(t.Context(), "r", 0)
	wantCode(t, err, bus.FailedPrecondition, `no route "inner"`)
	if _, err := h.store.Rollback(t.Context(), "r", 0, route.Force()); err != nil {
		t.Errorf("forced: %v", err)
	}
}

// A program that brings a route along never undoes an edit, and says when it finds one.
func TestEnsure(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	var log bytes.Buffer
	s, err := route.OpenStore(t.Context(), conn, route.StoreConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ours := route.Route{Steps: steps(1)}
	ensure := func(want, logged bool) {
		t.Helper()
		log.Reset()
		created, err := s.Ensure(t.Context(), "r", ours)
		if created != want || err != nil || strings.Contains(log.String(), "not the one") != logged {
			t.Errorf("created %v, %v, log %q; want %v", created, err, log.String(), want)
		}
	}
	ensure(true, false)
	ensure(false, false)
	same := ours
	same.Steps = []route.Step{step("s.e", func(s *route.Step) { s.Required = new(true) })}
	if _, err := s.Put(t.Context(), "r", same, 0); err != nil {
		t.Fatal(err)
	}
	ensure(false, false)
	edited, err := s.Put(t.Context(), "r", route.Route{Steps: steps(2)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	ensure(false, true)
	if got, err := s.Get(t.Context(), "r"); err != nil || got.Revision != edited {
		t.Errorf("%+v, %v: want revision %d", got, err, edited)
	}
	raw(t, conn, "r", "nonsense")
	ensure(false, true)
	if _, err := s.Ensure(t.Context(), "bad", route.Route{}); bus.CodeOf(err) != bus.InvalidArgument {
		t.Errorf("no steps: %v", err)
	}
}
