package registry_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/registry"
)

// setAttributes changes attributes: a JSON value sets one, an empty one deletes it.
func setAttributes(pairs ...string) func(*registry.Record) error {
	return func(r *registry.Record) error {
		for n := 0; n < len(pairs); n += 2 {
			if pairs[n+1] == "" {
				delete(r.Attributes, pairs[n])
				continue
			}
			if r.Attributes == nil {
				r.Attributes = map[string]json.RawMessage{}
			}
			r.Attributes[pairs[n]] = json.RawMessage(pairs[n+1])
		}
		return nil
	}
}

func TestAttribute(t *testing.T) {
	t.Parallel()
	i := &registry.Instance{Record: registry.Record{Service: "shop", Instance: "a", Attributes: map[string]json.RawMessage{
		"weight": json.RawMessage(`5`), "names": json.RawMessage(`["x","y"]`), "none": json.RawMessage(`null`),
	}}}
	if v, ok, err := registry.Attribute[int](i, "weight"); v != 5 || !ok || err != nil {
		t.Errorf("%v, %v, %v", v, ok, err)
	}
	if v, ok, err := registry.Attribute[[]string](i, "names"); strings.Join(v, " ") != "x y" || !ok || err != nil {
		t.Errorf("%v, %v, %v", v, ok, err)
	}
	if v, ok, err := registry.Attribute[int](i, "other"); v != 0 || ok || err != nil {
		t.Errorf("%v, %v, %v", v, ok, err)
	}
	if v, ok, err := registry.Attribute[map[string]int](i, "names"); v != nil || !ok || err == nil || !strings.Contains(err.Error(), `attribute "names" of shop/a`) {
		t.Errorf("%v, %v, %v", v, ok, err)
	}
}

// expectLast takes changes until each key was told as wanted; a loop may be told of several changes as one.
func expectLast(t *testing.T, changes <-chan registry.AttributeChange, want map[string]string) {
	t.Helper()
	for got := map[string]string{}; !maps.Equal(got, want); {
		select {
		case c := <-changes:
			if _, twice := got[c.Key]; twice {
				t.Errorf("%s is told again as %q", c.Key, c.Value)
			}
			got[c.Key] = string(c.Value)
			if c.Deleted {
				got[c.Key] = "deleted"
			}
		case <-time.After(patience):
			t.Fatalf("told so far: %v", got)
		}
	}
}

// Who comes late is told what there is, then only what changes.
func TestWatchAttributes(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	a := announce(t, connect(t, s), record("shop", "a"), quickly())
	watching := open(t, connect(t, s), nil)
	becomes(t, watching, "shop", "a", registry.Online)
	if err := a.Update(t.Context(), setAttributes("x", `1`, "y", `"two"`)); err != nil {
		t.Fatal(err)
	}
	r := open(t, connect(t, s), nil) // late
	changes := make(chan registry.AttributeChange)
	go func() {
		for c := range r.WatchAttributes(t.Context(), registry.Criteria{Services: []registry.ServiceCriterion{{Name: "shop"}}}) {
			select {
			case changes <- c:
			case <-t.Context().Done():
				return
			}
		}
	}()
	expect := func(id, key, value string) {
		t.Helper()
		select {
		case c := <-changes:
			if c.Instance.Instance != id || c.Key != key || string(c.Value) != value || c.Deleted != (value == "") {
				t.Fatalf("got %s %s %q, want %s %s %q", c.Instance.Instance, c.Key, c.Value, id, key, value)
			}
		case <-time.After(patience):
			t.Fatalf("%s of %s is not told", key, id)
		}
	}
	expect("a", "x", `1`)
	expect("a", "y", `"two"`)
	for _, change := range [][]string{{"y", `2`}, {"x", `1`}, {"x", ``}, {"z", `{}`}} {
		if err := a.Update(t.Context(), setAttributes(change...)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Update(t.Context(), setRegistered(false)); err != nil {
		t.Fatal(err)
	}
	expectLast(t, changes, map[string]string{"y": `2`, "z": `{}`, "x": "deleted"})
	b := record("shop", "b")
	b.Attributes = map[string]json.RawMessage{"x": json.RawMessage(`7`)}
	announce(t, connect(t, s), b, quickly())
	expect("b", "x", `7`)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	expect("a", "y", "")
	expect("a", "z", "")
}
