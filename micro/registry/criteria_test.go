package registry_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/registry"
)

// fleet puts four instances into the registry, of which d is unregistered, and opens it.
func fleet(t *testing.T) *registry.Registry {
	t.Helper()
	conn := connect(t, bustest.Server(t))
	records, liveness := tables(t, conn)
	for _, r := range []registry.Record{
		{Service: "shop", Instance: "a", Version: "1.0.0", Region: "eu", Host: "h1", Registered: true},
		{Service: "shop", Instance: "b", Version: "1.1.0", Region: "us", Host: "h2", Registered: true},
		{Service: "bank", Instance: "c", Version: "1.0.0", Region: "eu", Host: "h2", Registered: true},
		{Service: "bank", Instance: "d", Version: "2.0.0", Host: "h3"},
	} {
		key := conn.Namespace().Key(r.Service, r.Instance)
		if _, err := liveness.Put(t.Context(), key, registry.Load{}); err != nil {
			t.Fatal(err)
		}
		if _, err := records.Put(t.Context(), key, r); err != nil {
			t.Fatal(err)
		}
	}
	return open(t, conn, nil)
}

func TestCriteria(t *testing.T) {
	t.Parallel()
	r := fleet(t)
	service := func(s string) registry.ServiceCriterion {
		c, err := registry.ParseServiceCriterion(s)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, test := range map[string]struct {
		criteria registry.Criteria
		want     string // instances by service and id
	}{
		"none":               {registry.Criteria{}, "c d a b"},
		"service":            {registry.Criteria{Services: []registry.ServiceCriterion{service("shop")}}, "a b"},
		"version":            {registry.Criteria{Services: []registry.ServiceCriterion{service("shop:1.1.0")}}, "b"},
		"services or":        {registry.Criteria{Services: []registry.ServiceCriterion{service("shop:1.1.0"), service("bank:1.0.0")}}, "c b"},
		"region":             {registry.Criteria{Regions: []string{"eu"}}, "c a"},
		"regions or":         {registry.Criteria{Regions: []string{"eu", "us"}}, "c a b"},
		"region and host":    {registry.Criteria{Regions: []string{"eu"}, Hosts: []string{"h2"}}, "c"},
		"instance":           {registry.Criteria{Instances: []string{"a", "d"}}, "d a"},
		"registered":         {registry.Criteria{Registered: new(true)}, "c a b"},
		"unregistered":       {registry.Criteria{Registered: new(false)}, "d"},
		"no such region":     {registry.Criteria{Regions: []string{"mars"}}, ""},
		"all but met by one": {registry.Criteria{Services: []registry.ServiceCriterion{service("bank")}, Hosts: []string{"h3"}, Registered: new(false)}, "d"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, i := range r.Instances(test.criteria) {
				got = append(got, i.Instance)
			}
			if s := strings.Join(got, " "); s != test.want {
				t.Errorf("got %q, want %q", s, test.want)
			}
		})
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	r := fleet(t)
	all, eu := registry.Criteria{}, registry.Criteria{Regions: []string{"eu"}}
	for name, test := range map[string]struct{ got, want []string }{
		"services":    {r.ServiceNames(all), []string{"bank", "shop"}},
		"versions":    {r.Versions(all), []string{"1.0.0", "1.1.0", "2.0.0"}},
		"regions":     {r.Regions(all), []string{"eu", "us"}},
		"hosts":       {r.Hosts(all), []string{"h1", "h2", "h3"}},
		"versions eu": {r.Versions(eu), []string{"1.0.0"}},
		"hosts eu":    {r.Hosts(eu), []string{"h1", "h2"}},
	} {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestServiceCriterion(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"shop", "shop:1.2.3", "shop:1.2.3-rc.1+b"} {
		c, err := registry.ParseServiceCriterion(s)
		if err != nil || c.String() != s {
			t.Errorf("%q is read as %q, %v", s, c, err)
		}
	}
	for _, s := range []string{"", ":", "shop:", "shop:1", ":1.0.0", "a.b", "a b:1.0.0", strings.Repeat("x", 65), "shop:1.0.0:2.0.0"} {
		var c registry.ServiceCriterion
		if err := c.UnmarshalText([]byte(s)); bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("%q is read as %+v, %v", s, c, err)
		}
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	records, liveness := tables(t, conn)
	key := func(id string) string { return conn.Namespace().Key("shop", id) }
	put := func(id, version string) {
		r := record("shop", id)
		r.Version = version
		if _, err := records.Put(t.Context(), key(id), r); err != nil {
			t.Fatal(err)
		}
	}
	live := func(id string) {
		if _, err := liveness.Put(t.Context(), key(id), registry.Load{}); err != nil {
			t.Fatal(err)
		}
	}
	live("a")
	live("b")
	put("a", "1.0.0")
	put("b", "1.0.0")
	r := open(t, conn, nil)

	changes := make(chan registry.Change)
	go func() {
		defer close(changes)
		for c := range r.Watch(t.Context(), registry.Criteria{Services: []registry.ServiceCriterion{{Name: "shop"}}}) {
			select {
			case changes <- c:
			case <-t.Context().Done():
				return
			}
		}
	}()
	expect := func(kind registry.ChangeKind, id string, state registry.State) {
		t.Helper()
		c := <-changes
		if c.Kind != kind || c.Instance.Instance != id || c.Instance.State != state {
			t.Fatalf("got %s %s %s, want %s %s %s", c.Kind, c.Instance.Instance, c.Instance.State, kind, id, state)
		}
	}
	expect(registry.Added, "a", registry.Online)
	expect(registry.Added, "b", registry.Online)

	if _, err := liveness.Put(t.Context(), key("a"), registry.Load{InFlight: 1}); err != nil { // no change
		t.Fatal(err)
	}
	put("a", "1.1.0")
	expect(registry.Changed, "a", registry.Online)
	if err := liveness.Delete(t.Context(), key("b")); err != nil {
		t.Fatal(err)
	}
	expect(registry.Changed, "b", registry.Offline)
	if err := records.Delete(t.Context(), key("b")); err != nil {
		t.Fatal(err)
	}
	expect(registry.Removed, "b", registry.Offline)
	live("c")
	put("c", "1.0.0")
	expect(registry.Added, "c", registry.Online)
}

// Criteria that an instance meets and then does not.
func TestWatchLeavesCriteria(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	records, _ := tables(t, conn)
	a := record("shop", "a")
	a.Region = "eu"
	put := func() {
		t.Helper()
		if _, err := records.Put(t.Context(), conn.Namespace().Key("shop", "a"), a); err != nil {
			t.Fatal(err)
		}
	}
	put()
	r := open(t, conn, nil)
	var kinds []registry.ChangeKind
	for c := range r.Watch(t.Context(), registry.Criteria{Regions: []string{"eu"}}) {
		kinds = append(kinds, c.Kind)
		if len(kinds) == 3 {
			break
		}
		a.Region = map[registry.ChangeKind]string{registry.Added: "us", registry.Removed: "eu"}[c.Kind]
		put()
	}
	if want := []registry.ChangeKind{registry.Added, registry.Removed, registry.Added}; !slices.Equal(kinds, want) {
		t.Errorf("got %v, want %v", kinds, want)
	}
}
