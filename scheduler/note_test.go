package scheduler_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
)

// muted is a scheduler that runs, and another one whose notes do not come through.
func muted(t *testing.T, cfg scheduler.Config) (running, mute *scheduler.Scheduler, p *probe) {
	t.Helper()
	r := newRig(t, bustest.Configure(func(o *server.Options) {
		deny := &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"skybus.tmrn.>"}}}
		o.Users = []*server.User{{Username: "mute", Password: "mute", Permissions: deny}, {Username: "any", Password: "any"}}
		o.NoAuthUser = "any"
	}))
	running, p, _ = r.run(t, cfg)
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: r.node, Options: []nats.Option{nats.UserInfo("mute", "mute")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	mute = (&rig{r.node, conn}).open(t, cfg)
	create(t, running, scheduler.Spec{ID: "first", After: time.Millisecond})
	p.wait(t, 1) // so it runs
	return running, mute, p
}

// What owners are not told of the server fires.
func TestNotesLost(t *testing.T) {
	t.Parallel()
	const grace = 300 * time.Millisecond
	_, mute, p := muted(t, scheduler.Config{Grace: grace, Shards: 1})
	create(t, mute, scheduler.Spec{ID: "created", After: 10 * time.Millisecond})
	for tm, err := range mute.CreateMany(t.Context(), func(yield func(scheduler.Spec) bool) {
		yield(scheduler.Spec{ID: "many", After: 10 * time.Millisecond, Target: target()})
	}) {
		if err != nil {
			t.Fatal(tm, err)
		}
	}
	for _, d := range p.wait(t, 3)[1:] {
		if late := d.Fired.Sub(d.Due); late < grace || late > grace+10*time.Second {
			t.Errorf("%s fired %s after it was due, want the grace of %s", d.TimerID, late, grace)
		}
	}
}

// An owner that was not told of a change finds out when it fires, and fires on time what was made of the timer.
func TestNotesOfChangesLost(t *testing.T) {
	t.Parallel()
	running, mute, p := muted(t, scheduler.Config{Grace: time.Minute, Shards: 1}) // the server would be a minute late
	create(t, running, scheduler.Spec{ID: "updated", After: time.Second})
	create(t, running, scheduler.Spec{ID: "cancelled", After: time.Second})
	every := &scheduler.Repeat{Every: time.Second}
	create(t, running, scheduler.Spec{ID: "recurring", Repeat: every})
	for id, spec := range map[string]scheduler.Spec{
		"updated":   {After: 1500 * time.Millisecond, Target: target(), Payload: []byte("new")},
		"recurring": {After: 1500 * time.Millisecond, Target: target(), Payload: []byte("new"), Repeat: every},
	} {
		if _, err := mute.Update(t.Context(), id, 0, spec); err != nil {
			t.Fatal(err)
		}
	}
	if err := mute.Cancel(t.Context(), "cancelled", 0); err != nil {
		t.Fatal(err)
	}
	for _, d := range p.wait(t, 3)[1:] {
		if d.TimerID == "cancelled" || string(d.Payload) != "new" || d.Fired.Sub(d.Due) > 30*time.Second {
			t.Errorf("%s with %q fired %s after it was due", d.TimerID, d.Payload, d.Fired.Sub(d.Due))
		}
	}
}
