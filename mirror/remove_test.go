package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/mirror"
)

// leftOf is where something of a mirror of the namespace default.dev is stored.
func leftOf(t *testing.T, r *rig, name string) (left []string) {
	t.Helper()
	for stream, filter := range map[string]string{
		"SKYBUS_MIR": "skybus.mir.default.dev.%s.>", "SKYBUS_MIRW": "skybus.mirw.default.dev.%s.>", "SKYBUS_MIRL": "skybus.mirl.default.dev.%s.>",
		"SKYBUS_DLQ": "skybus.dlq.default.dev.mirror.%s.>",
	} {
		s, err := r.conn.JetStream().Stream(t.Context(), stream)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := s.Info(t.Context(), jetstream.WithSubjectFilter(fmt.Sprintf(filter, name)))
		if err != nil {
			t.Fatal(err)
		}
		if len(info.State.Subjects) > 0 {
			left = append(left, stream)
		}
	}
	bodies, err := r.conn.JetStream().ObjectStore(t.Context(), "skybus_mirror_bodies")
	if err != nil {
		t.Fatal(err)
	}
	objects, _ := bodies.List(t.Context()) // that there are none is an error
	if slices.ContainsFunc(objects, func(o *jetstream.ObjectInfo) bool { return strings.HasPrefix(o.Name, "default.dev."+name+"/") }) {
		left = append(left, "bodies")
	}
	all, err := mirror.List(t.Context(), r.conn)
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(all, func(i mirror.Info) bool { return i.Name == name }) {
		left = append(left, "settings")
	}
	slices.Sort(left)
	return left
}

// fill gives a mirror two applied writes, one with a large body, and one that is parked for b.
func fill(t *testing.T, m *mirror.Mirror, url string) {
	t.Helper()
	put(t, url+"/x", "small")
	put(t, url+"/x", strings.Repeat("x", 1<<20))
	status(t, m, put(t, url+"/odd", "x"), 2)
	eventually(t, "a write is parked", func() bool { return len(parked(t, m, mirror.ParkedFilter{})) == 1 })
}

// A mirror is removed with all that there is of it, and nothing of another one's. Who makes it anew begins with nothing.
func TestRemove(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.backends[1].setRefuse(refuseWith(http.StatusConflict, "/odd"))
	shop, other := r.open(t, mirror.Config{Name: "shop", Ack: mirror.All, Owner: "me"}), r.open(t, mirror.Config{Name: "other", Ack: mirror.All})
	stop := run(t, shop)
	run(t, other)
	fill(t, other, serve(t, other).URL)
	fill(t, shop, serve(t, shop).URL)

	_, err := shop.Remove(t.Context())
	for _, want := range []string{"me runs it", "parked writes (1)"} {
		if bus.CodeOf(err) != bus.FailedPrecondition || !strings.Contains(err.Error(), want) {
			t.Errorf("a mirror in use: %v, want it to say %q", err, want)
		}
	}
	if want := []string{"SKYBUS_DLQ", "SKYBUS_MIR", "SKYBUS_MIRL", "SKYBUS_MIRW", "bodies", "settings"}; !slices.Equal(leftOf(t, r, "shop"), want) {
		t.Fatalf("there is %v of it, want %v", leftOf(t, r, "shop"), want)
	}
	stop()
	if err := shop.Parked().Drop(t.Context(), "b", parkedOf(t, shop)[0].Seq); err != nil {
		t.Fatal(err)
	}
	got, err := shop.Remove(t.Context())
	if err != nil || got.Backends != 2 || got.Writes != 3 || got.Parked != 0 {
		t.Errorf("removed: %+v %v", got, err)
	}
	if left := leftOf(t, r, "shop"); len(left) > 0 {
		t.Errorf("of the mirror that was removed there is left: %v", left)
	}
	if left := leftOf(t, r, "other"); len(left) != 6 {
		t.Errorf("of another mirror there is left: %v", left)
	}
	if got, err := other.Contents(t.Context()); err != nil || got.Backends != 2 || got.Writes != 3 || got.Parked != 1 {
		t.Errorf("another mirror has %+v %v", got, err)
	}

	before := len(r.backends[0].all())
	anew := r.open(t, mirror.Config{Name: "shop", Ack: mirror.All, Lanes: 3})
	run(t, anew)
	status(t, anew, put(t, serve(t, anew).URL+"/new", "x"), 2)
	if log := r.backends[0].all()[before:]; len(log) != 1 || log[0].target != "/new" {
		t.Errorf("made anew it sent %+v", log)
	}
}

// Writes that wait for a backend keep a mirror from being removed, also while nobody sends them.
func TestRemoveWhereWritesWait(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	m := r.open(t, mirror.Config{Ack: mirror.Queued})
	b, err := m.Get(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	b.Active = false // it lacks nothing
	if _, err := m.Set(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	put(t, serve(t, m).URL+"/x", "x")
	if _, err := m.Remove(t.Context()); bus.CodeOf(err) != bus.FailedPrecondition || !strings.HasSuffix(err.Error(), "is not removed: writes wait for a") {
		t.Errorf("while a write waits: %v", err)
	}
	if _, err := m.Remove(t.Context(), mirror.Force()); err != nil {
		t.Errorf("by force: %v", err)
	}
	if left := leftOf(t, r, m.Info().Name); len(left) > 0 {
		t.Errorf("there is left: %v", left)
	}
}

// A process whose mirror is removed says so, once, to its clients too, and neither sends nor ends, while another one makes the mirror anew.
func TestRemovedUnderAProcess(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	seen := &logged{n: map[string]int{}}
	m := r.open(t, mirror.Config{Name: "shop", Ack: mirror.All, Logger: slog.New(seen)})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	front := serve(t, m)
	put(t, front.URL+"/x", "x")
	operator, err := mirror.Open(t.Context(), r.conn, mirror.Config{Name: "shop", Observe: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = operator.Close() }()
	if _, err := operator.Remove(t.Context(), mirror.Force()); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{http.MethodPut, http.MethodGet} {
		eventually(t, method+" is refused", func() bool {
			got := do(t, method, front.URL+"/x", "y")
			return got.status == http.StatusServiceUnavailable && strings.Contains(got.body, "the mirror was removed")
		})
	}
	if _, err := m.Set(t.Context(), mirror.Backend{Name: "z", URL: "http://127.0.0.1:1", Active: true}); bus.CodeOf(err) != bus.FailedPrecondition {
		t.Errorf("a backend of a mirror that was removed: %v", err)
	}
	eventually(t, "nobody sends", func() bool {
		owner, err := operator.Sender(t.Context())
		return owner == "" && err == nil
	})

	anew := r.open(t, mirror.Config{Name: "shop", Ack: mirror.All, Owner: "next"})
	run(t, anew)
	put(t, serve(t, anew).URL+"/x", "new")
	if owner, err := operator.Sender(t.Context()); owner != "next" || err != nil {
		t.Errorf("%q sends: %v", owner, err)
	}
	if got := do(t, http.MethodGet, front.URL+"/x", ""); got.status != http.StatusServiceUnavailable {
		t.Errorf("the old process serves the new mirror: %d %q", got.status, got.body)
	}
	if n := seen.count("the mirror was removed"); n != 1 {
		t.Errorf("it was said %d times", n)
	}
	select {
	case err := <-ended:
		t.Errorf("Run ended: %v", err)
	default:
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("Run does not end")
	}
}

// Who may send the writes of a mirror, and remove those that all have applied, is not let remove it, not by half either.
func TestRemoveTakesAnAdmin(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, bustest.Configure(func(o *server.Options) {
		deny := &server.SubjectPermission{Deny: []string{"$JS.API.STREAM.PURGE.SKYBUS_MIRW", "$JS.API.STREAM.PURGE.SKYBUS_MIRL", "$JS.API.STREAM.PURGE.SKYBUS_DLQ"}}
		o.Users = []*server.User{{Username: "admin", Password: "x"}, {Username: "mirror", Password: "x", Permissions: &server.Permissions{Publish: deny}}}
	}))
	as := func(user string) *mirror.Mirror {
		t.Helper()
		conn, err := bus.Connect(t.Context(), bus.Config{InProcess: node, Options: []nats.Option{nats.UserInfo(user, "x")}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		m, err := mirror.Open(t.Context(), conn, mirror.Config{Ack: mirror.Queued})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Close() })
		return m
	}
	admin, other := as("admin"), as("mirror")
	if _, err := admin.Set(t.Context(), mirror.Backend{Name: "a", URL: "http://127.0.0.1:1", Active: true}); err != nil {
		t.Fatal(err)
	}
	put(t, serve(t, admin).URL+"/x", "x")
	if _, err := other.Remove(t.Context(), mirror.Force()); bus.CodeOf(err) != bus.PermissionDenied {
		t.Errorf("removed by who may not: %v", err)
	}
	if got, err := admin.Contents(t.Context()); err != nil || got.Backends != 1 || got.Writes != 1 {
		t.Errorf("then there is %+v %v", got, err)
	}
	if _, err := admin.Remove(t.Context(), mirror.Force()); err != nil {
		t.Errorf("removed by an admin: %v", err)
	}
}

// onceSent is a cable that calls f before a process sends a text for the nth time.
func onceSent(r *rig, text string, nth int, f func()) *cable {
	n := 0
	return &cable{node: r.node, before: func(sent []byte) {
		for range bytes.Count(sent, []byte(text)) {
			if n++; n == nth {
				f()
			}
		}
	}}
}

// While a mirror is removed nobody gets to send, who would be told nothing of what he stores: neither does one that waits for its turn.
func TestRemoveKeepsSendersOut(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	leases, err := kv.OpenLeases(t.Context(), r.conn)
	if err != nil {
		t.Fatal(err)
	}
	tried := make(chan error, 1)
	m := openOver(t, onceSent(r, "$JS.API.STREAM.PURGE.SKYBUS_MIR ", 1, func() {
		_, err := leases.Acquire(t.Context(), "default.dev.mirror.shop", "another", 2*time.Second)
		tried <- err
	}), mirror.Config{Name: "shop", Observe: true})
	if _, err := m.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := bustest.Receive(t, "it is tried to send", tried); !errors.Is(err, kv.ErrHeld) {
		t.Errorf("to send meanwhile: %v", err)
	}
	if owner, err := m.Sender(t.Context()); owner != "" || err != nil {
		t.Errorf("then %q sends: %v", owner, err)
	}
}

// What is interrupted, be it at the very end, is found again, and can be ended by another process; nobody uses the mirror before that.
func TestRemoveInterrupted(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.backends[1].setRefuse(refuseWith(http.StatusConflict, "/odd"))
	shop := r.open(t, mirror.Config{Name: "shop", Ack: mirror.All})
	stop := run(t, shop)
	front := serve(t, shop)
	fill(t, shop, front.URL)
	stop()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	half := openOver(t, onceSent(r, "$JS.API.STREAM.PURGE.SKYBUS_MIR ", 2, cancel), mirror.Config{Name: "shop", Observe: true})
	if _, err := half.Remove(ctx, mirror.Force()); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	eventually(t, "nothing more is taken", func() bool { return do(t, http.MethodPut, front.URL+"/x", "y").status == http.StatusServiceUnavailable })
	if all, err := mirror.List(t.Context(), r.conn); err != nil || len(all) != 1 || !all[0].Removing {
		t.Errorf("there are %+v %v", all, err)
	}
	if _, err := mirror.Open(t.Context(), r.conn, mirror.Config{Name: "shop"}); bus.CodeOf(err) != bus.FailedPrecondition {
		t.Errorf("it is opened: %v", err)
	}
	rest := openOver(t, &cable{node: r.node}, mirror.Config{Name: "shop", Observe: true})
	if _, err := rest.Set(t.Context(), mirror.Backend{Name: "z", URL: "http://127.0.0.1:1", Active: true}); bus.CodeOf(err) != bus.FailedPrecondition {
		t.Errorf("it is changed: %v", err)
	}
	if got, err := rest.Remove(t.Context()); err != nil || !got.Removing {
		t.Errorf("the rest is removed: %+v %v", got, err)
	}
	if left := leftOf(t, r, "shop"); len(left) > 0 {
		t.Errorf("there is left: %v", left)
	}
	anew := r.open(t, mirror.Config{Name: "shop", Lanes: 3, Ack: mirror.All})
	stop = run(t, anew)
	status(t, anew, put(t, serve(t, anew).URL+"/new", "x"), 2)
	stop()
	if _, err := rest.Remove(t.Context(), mirror.Force()); bus.CodeOf(err) != bus.Aborted {
		t.Errorf("one that is made anew is removed as the old one: %v", err)
	}
	if got, err := anew.Contents(t.Context()); err != nil || got.Backends != 2 || !slices.Equal(leftOf(t, r, "shop"), []string{"SKYBUS_MIR", "SKYBUS_MIRL", "SKYBUS_MIRW", "settings"}) {
		t.Errorf("then there is %+v %v: %v", got, err, leftOf(t, r, "shop"))
	}
}
