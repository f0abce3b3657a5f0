package route_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/route"
)

func openStore(t testing.TB, conn *bus.Conn) *route.Store {
	t.Helper()
	s, err := route.OpenStore(t.Context(), conn, route.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStorePutAndGet(t *testing.T) {
	t.Parallel()
	s := openStore(t, connect(t, bustest.Server(t)))
	first := route.Route{Description: "one", Steps: []route.Step{step("a.b", async, retry, optional, version("1.0.0"), within(time.Second))}}
	rev, err := s.Put(t.Context(), "orders", first, 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	if age := time.Since(got.Updated); age < -time.Minute || age > time.Minute {
		t.Errorf("updated %v ago", age)
	}
	got.Updated = time.Time{}
	if diff := cmp.Diff(route.Stored{Name: "orders", Route: first, Revision: rev}, got); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	second, err := s.Put(t.Context(), "orders", route.Route{Steps: steps(1)}, 0)
	if err != nil || second <= rev {
		t.Errorf("put again: revision %d after %d, %v", second, rev, err)
	}
}

func TestStoreCompareAndSet(t *testing.T) {
	t.Parallel()
	s := openStore(t, connect(t, bustest.Server(t)))
	_, err := s.Put(t.Context(), "r", route.Route{Steps: steps(1)}, 7)
	wantCode(t, err, bus.Aborted)
	first, err := s.Put(t.Context(), "r", route.Route{Steps: steps(1)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Put(t.Context(), "r", route.Route{Steps: steps(2)}, first)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Put(t.Context(), "r", route.Route{Steps: steps(3)}, first)
	wantCode(t, err, bus.Aborted, "somebody else changed it")
	got, err := s.Get(t.Context(), "r")
	if err != nil || got.Revision != second || len(got.Route.Steps) != 2 {
		t.Errorf("after the conflict: %+v, %v", got, err)
	}
}

// Of many that change the same revision one wins.
func TestStoreCompareAndSetRace(t *testing.T) {
	t.Parallel()
	s := openStore(t, connect(t, bustest.Server(t)))
	rev, err := s.Put(t.Context(), "r", route.Route{Steps: steps(1)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	results := make(chan error)
	for i := range 8 {
		go func() {
			_, err := s.Put(t.Context(), "r", route.Route{Steps: steps(i + 2)}, rev)
			results <- err
		}()
	}
	won := 0
	for range 8 {
		err := <-results
		if err == nil {
			won++
			continue
		}
		wantCode(t, err, bus.Aborted)
	}
	if won != 1 {
		t.Errorf("%d writers won, want 1", won)
	}
}

func TestStoreCreateNeverOverwrites(t *testing.T) {
	t.Parallel()
	s := openStore(t, connect(t, bustest.Server(t)))
	if _, err := s.Create(t.Context(), "r", route.Route{Steps: steps(1)}); err != nil {
		t.Fatal(err)
	}
	rev, err := s.Put(t.Context(), "r", route.Route{Steps: steps(2)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Create(t.Context(), "r", route.Route{Steps: steps(1)})
	wantCode(t, err, bus.AlreadyExists, `"r"`)
	got, err := s.Get(t.Context(), "r")
	if err != nil || got.Revision != rev {
		t.Errorf("after create: %+v, %v, want revision %d", got, err, rev)
	}
	wantCode(t, s.Delete(t.Context(), "r", route.IfRevision(1000)), bus.Aborted)
	if err := s.Delete(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), "r", route.Route{Steps: steps(3)}); err != nil {
		t.Errorf("create after delete: %v", err)
	}
}

func TestStoreDeleteAndHistory(t *testing.T) {
	t.Parallel()
	s := openStore(t, connect(t, bustest.Server(t)))
	_, err := s.Get(t.Context(), "r")
	wantCode(t, err, bus.NotFound, `there is no route "r"`)
	wantCode(t, s.Delete(t.Context(), "r"), bus.NotFound)
	for n := range 3 {
		if _, err := s.Put(t.Context(), "r", route.Route{Steps: steps(n + 1)}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	_, err = s.Get(t.Context(), "r")
	wantCode(t, err, bus.NotFound)
	wantCode(t, s.Delete(t.Context(), "r"), bus.NotFound)
	if all := list(t, s); len(all) != 0 {
		t.Errorf("listed after delete: %+v", all)
	}
	var history []string
	for e, err := range s.History(t.Context(), "r") {
		if err != nil {
			t.Fatal(err)
		}
		history = append(history, fmt.Sprintf("%s %d %v", e.Name, len(e.Route.Steps), e.Deleted))
	}
	if diff := cmp.Diff([]string{"r 1 false", "r 2 false", "r 3 false", "r 0 true"}, history); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	for e, err := range s.History(t.Context(), "never") {
		t.Errorf("history of what never was: %+v, %v", e, err)
	}
}

func TestStoreKeeps64Revisions(t *testing.T) {
	t.Parallel()
	s := openStore(t, connect(t, bustest.Server(t)))
	var last uint64
	for n := range 70 {
		var err error
		if last, err = s.Put(t.Context(), "r", route.Route{Steps: steps(n%64 + 1)}, 0); err != nil {
			t.Fatal(err)
		}
	}
	var revisions []uint64
	for e, err := range s.History(t.Context(), "r") {
		if err != nil {
			t.Fatal(err)
		}
		revisions = append(revisions, e.Revision)
	}
	if len(revisions) != 64 || revisions[63] != last || revisions[0] != last-63 {
		t.Errorf("%d revisions kept: %v, want the 64 up to %d", len(revisions), revisions, last)
	}
}

func list(t testing.TB, s *route.Store) map[string]route.Stored {
	t.Helper()
	all := map[string]route.Stored{}
	last := ""
	for e, err := range s.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Name <= last {
			t.Errorf("%q is listed after %q", e.Name, last)
		}
		last = e.Name
		all[e.Name] = e
	}
	return all
}

func TestStoreListsItsNamespace(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	s, other := openStore(t, connect(t, srv)), openStore(t, connect(t, srv, inNamespace("default.test")))
	for _, name := range []string{"b", "a", "c-1"} {
		if _, err := s.Put(t.Context(), name, route.Route{Steps: steps(1)}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := other.Put(t.Context(), "x", route.Route{Steps: steps(1)}, 0); err != nil {
		t.Fatal(err)
	}
	if got := list(t, s); len(got) != 3 || got["a"].Name != "a" || got["c-1"].Revision == 0 {
		t.Errorf("listed %+v, want a, b, c-1", got)
	}
	if got := list(t, other); len(got) != 1 {
		t.Errorf("the other namespace lists %+v", got)
	}
	for _, err := range s.List(t.Context()) {
		if err != nil {
			t.Error(err)
		}
		break // leaving the loop early is fine
	}
}

// A newer version's field is no reason to refuse a stored route.
func TestStoreReadsUnknownFields(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	s := openStore(t, conn)
	raw(t, conn, "newer", `{"steps":[{"service":"a","endpoint":"b","colour":"red"}],"owner":"ann"}`)
	if got, err := s.Get(t.Context(), "newer"); err != nil || len(got.Route.Steps) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestStoreRefusesBadInput(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	s := openStore(t, conn)
	good := route.Route{Steps: steps(1)}
	for _, name := range []string{"", "a.b", "*", ">", "a b", "a\x00", "..", strings.Repeat("x", 65), strings.Repeat("x", 5000)} {
		_, err := s.Put(t.Context(), name, good, 0)
		wantCode(t, err, bus.InvalidArgument, "route")
		_, err = s.Create(t.Context(), name, good)
		wantCode(t, err, bus.InvalidArgument, "route")
		_, err = s.Get(t.Context(), name)
		wantCode(t, err, bus.InvalidArgument, "route")
		wantCode(t, s.Delete(t.Context(), name), bus.InvalidArgument, "route")
		for _, err := range s.History(t.Context(), name) {
			wantCode(t, err, bus.InvalidArgument, "route")
		}
	}
	bad := route.Route{Steps: []route.Step{step("a.b"), step("a.*")}}
	_, err := s.Put(t.Context(), "r", bad, 0)
	wantCode(t, err, bus.InvalidArgument, "steps[1].endpoint")
	_, err = s.Create(t.Context(), "r", bad)
	wantCode(t, err, bus.InvalidArgument, "steps[1].endpoint")
	if all := list(t, s); len(all) != 0 {
		t.Errorf("stored all the same: %+v", all)
	}
	if conn.NATS().Stats().Reconnects != 0 {
		t.Error("the connection was lost")
	}
}

// The largest route that is valid can be stored, and run.
func TestStoreLargestRoute(t *testing.T) {
	t.Parallel()
	s := openStore(t, connect(t, bustest.Server(t)))
	r := route.Route{Description: strings.Repeat("<", 1024)}
	for range route.MaxSteps {
		r.Steps = append(r.Steps, step(strings.Repeat("s", 64)+"."+strings.Repeat("e", 64),
			async, retry, optional, within(time.Hour-1), version("1.0.0-"+strings.Repeat("a", 58))))
	}
	if _, err := s.Put(t.Context(), "large", r, 0); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(t.Context(), "large")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, got.Route); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

func TestStoreFull(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t, bustest.Configure(func(o *server.Options) { o.JetStreamMaxStore = 8 << 20 })))
	s := openStore(t, conn)
	r := route.Route{Description: strings.Repeat("d", 1000)}
	r.Steps = steps(64)
	var err error
	for n := 0; err == nil && n < 10_000; n++ {
		_, err = s.Put(t.Context(), fmt.Sprint("r", n), r, 0)
	}
	wantCode(t, err, bus.ResourceExhausted, `route: put "r`, "the bucket is full", "nats stream edit KV_skybus_routes")
	if status := bus.AsError(err).HTTPStatus(); status != http.StatusInsufficientStorage {
		t.Errorf("status %d, want 507", status)
	}
	if derr := s.Delete(t.Context(), "r0", route.Force()); derr != nil {
		t.Errorf("delete frees nothing: %v", derr)
	}
}

func TestStoreErrorsAreErrors(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	s := openStore(t, connect(t, srv))
	srv.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := s.Get(ctx, "r")
	wantCode(t, err, bus.DeadlineExceeded, "route")
	_, err = s.Put(ctx, "r", route.Route{Steps: steps(1)}, 0)
	wantCode(t, err, bus.DeadlineExceeded, "route")
	for _, err := range s.List(ctx) {
		wantCode(t, err, bus.DeadlineExceeded, "route")
	}
	srv.Start(t)
	if _, err := s.Put(t.Context(), "r", route.Route{Steps: steps(1)}, 0); err != nil {
		t.Errorf("after the server came back: %v", err)
	}
}

func TestUnserved(t *testing.T) {
	t.Parallel()
	h := build(t, bustest.Server(t))
	h.serve(t, "app", "1.0.0", endpoints(says("a", "{}"), says("b", "{}")))
	h.serve(t, "app", "2.0.0", says("a", "{}"))
	stop := h.serve(t, "gone", "", says("a", "{}"))
	stop()
	bustest.Eventually(t, "the service to be gone", func() bool { return h.online("gone") == 0 })
	r := route.Route{Steps: []route.Step{
		step("app.a"), step("app.b"), step("app.c"), step("app.a", version("2.0.0")), step("app.b", version("2.0.0")),
		step("app.a", version("3.0.0")), step("nowhere.a"), step("gone.a", async),
	}}
	want := []string{
		`steps[2]: no online instance serves app.c`,
		`steps[4]: no online instance serves app.b in version 2.0.0`,
		`steps[5]: no online instance serves app.a in version 3.0.0`,
		`steps[6]: no instance of service "nowhere" is online`,
		`steps[7]: no instance of service "gone" is online`,
	}
	if diff := cmp.Diff(want, route.Unserved(r, h.client.Registry())); diff != "" {
		t.Errorf("unserved (-want +got):\n%s", diff)
	}
	if got := route.Unserved(route.Route{Steps: r.Steps[:2]}, h.client.Registry()); len(got) != 0 {
		t.Errorf("all is served, but %q", got)
	}
}
