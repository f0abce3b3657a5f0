package mirror_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/mirror"
)

func TestInactiveBackendLosesItsQueue(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{TryTimeout: time.Minute})
	run(t, m)
	front := serve(t, m)
	hangs := make(chan struct{}, 100)
	r.backends[1].setRefuse(func(_ http.ResponseWriter, r *http.Request) bool {
		hangs <- struct{}{}
		<-r.Context().Done() // until it is cut off, long before its time-out
		return true
	})
	for range 10 {
		do(t, http.MethodPut, front.URL+"/old", "old")
	}
	<-hangs
	b, err := m.Get(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	b.Active = false
	if _, err := m.Set(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	do(t, http.MethodPut, front.URL+"/between", "x")
	r.backends[1].setRefuse(nil)
	b.Active = true
	if _, err := m.Set(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	got := do(t, http.MethodPut, front.URL+"/new", "new")
	eventually(t, "the new write at b", func() bool { return r.backends[1].state()["/new"] == "new" })
	if all := r.backends[1].all(); len(all) != 1 {
		t.Errorf("b applied %d writes, want the one after it became active again, %s", len(all), got.header.Get("Skybus-Seq"))
	}
}

func TestMaintenanceKeepsTheQueue(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{})
	run(t, m)
	front := serve(t, m)
	b, err := m.Get(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	b.Maintenance = true
	if _, err := m.Set(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the sender knows", func() bool {
		all := m.Conditions()
		return len(all) == 2 && all[1].State == mirror.StateMaintenance
	})
	for range 10 {
		do(t, http.MethodPut, front.URL+"/x", "x")
	}
	if got := r.backends[1].all(); len(got) != 0 {
		t.Fatalf("b applied %d writes during maintenance", len(got))
	}
	b.Maintenance = false
	if _, err := m.Set(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all at b", func() bool { return len(r.backends[1].all()) == 10 })
}

func TestBackendsLikeSpawns(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	m := r.open(t, mirror.Config{})
	for i, p := range []int{0, -2, 3, -1, 1} {
		if _, err := m.Set(t.Context(), mirror.Backend{Name: name(i), URL: "http://127.0.0.1:808" + strconv.Itoa(i), Priority: p, Active: true}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := m.Backends(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, b := range all {
		got.WriteString(b.Name)
	}
	if want := "ecadb"; got.String() != want {
		t.Errorf("order %s, want %s: 1, 3, 0, -1, -2", got.String(), want)
	}
	if of, err := m.ByHost(t.Context(), "127.0.0.1"); err != nil || len(of) != 5 {
		t.Errorf("ByHost: %d, %v, want 5", len(of), err)
	}
	if _, err := m.Set(t.Context(), mirror.Backend{Name: "x", URL: "http://127.0.0.1:8082", Active: true}); bus.CodeOf(err) != bus.AlreadyExists {
		t.Errorf("a second backend at an address: %v, want already_exists", err)
	}
	if err := m.SetAll(t.Context(), []mirror.Backend{{Name: "c", URL: "http://localhost:1", Active: true}}); err != nil {
		t.Fatal(err)
	}
	if all, err = m.Backends(t.Context()); err != nil || len(all) != 1 || all[0].URL != "http://localhost:1" {
		t.Errorf("after SetAll: %+v, %v", all, err)
	}
	if err := m.Delete(t.Context(), "nobody"); bus.CodeOf(err) != bus.NotFound {
		t.Errorf("delete one that is not there: %v, want not_found", err)
	}
	for _, b := range []mirror.Backend{{Name: "_", URL: "http://h:1"}, {Name: "a.b", URL: "http://h:1"}, {Name: "x", URL: "ftp://h:1"}, {Name: "x", URL: "http://h:1/path"}, {Name: "x", URL: "http://u@h:1"}, {Name: "x", URL: "http://h:0"}} {
		if _, err := m.Set(t.Context(), b); bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("set %+v: %v, want invalid_argument", b, err)
		}
	}
}
