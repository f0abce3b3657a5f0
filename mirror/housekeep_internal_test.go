package mirror

import (
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// TestNothingIsRemovedThatABackendNeeds looks at the records as they are in the bucket, since what this process has heard of them may be older.
func TestNothingIsRemovedThatABackendNeeds(t *testing.T) {
	t.Parallel()
	m := mirrorWith(t, 5)
	if _, err := m.Set(t.Context(), Backend{Name: "a", URL: "http://127.0.0.1:1", Active: true}); err != nil {
		t.Fatal(err)
	}
	check := func(what string, upTo uint64, want bool) {
		t.Helper()
		if got, err := m.needs(t.Context(), upTo); err != nil || got != want {
			t.Errorf("%s: needed %t, %v, want %t", what, got, err, want)
		}
	}
	check("what it begins after", 5, false)
	check("one more", 6, true)
	if _, err := m.Set(t.Context(), Backend{Name: "b", URL: "http://127.0.0.1:2", Active: true}, From(3)); err != nil {
		t.Fatal(err)
	}
	check("what another begins after", 2, false)
	check("what another begins with", 3, true)
	known := *m.nodes.Load()
	m.nodes.Store(&[]*node{known[0]}) // as if it had not been heard of
	check("with one that is not known here", 2, true)
}

// mirrorWith is a mirror without backends in which so many writes are stored.
func mirrorWith(t *testing.T, writes int) *Mirror {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	m, err := Open(t.Context(), conn, Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	for range writes {
		if _, err := conn.JetStream().Publish(t.Context(), m.space.write(0), nil); err != nil {
			t.Fatal(err)
		}
	}
	return m
}
