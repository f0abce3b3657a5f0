package scheduler

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/auth"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler/webhook"
)

// userOf is a user with what package auth allows a role.
func userOf(name string, p auth.Permissions) *server.User {
	fill := strings.NewReplacer("{{tag(app)}}", "default", "{{tag(env)}}", "dev", "{{tag(call)}}", "*", "{{tag(timers)}}", "tmr", "{{tag(event)}}", "timer",
		"{{tag(shard)}}", "SKYBUS_TMR_0", "{{subject()}}", name)
	filled := func(subjects []string) (all []string) {
		for _, s := range subjects {
			if s = fill.Replace(s); !strings.Contains(s, "{{") {
				all = append(all, s)
			}
		}
		return all
	}
	return &server.User{Username: name, Password: name, Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Allow: filled(p.Publish)}, Subscribe: &server.SubjectPermission{Allow: filled(p.Subscribe)},
	}}
}

// TestTransportsOfRoles delivers as `skybus scheduler` does, and makes timers as a user who may not read secrets.
func TestTransportsOfRoles(t *testing.T) {
	t.Parallel()
	scheduler := auth.Scheduler.Permissions()
	without := auth.Permissions{Subscribe: scheduler.Subscribe}
	for _, subject := range scheduler.Publish {
		if !strings.Contains(subject, "skybus_secrets") && !strings.Contains(subject, "STREAM.NAMES") {
			without.Publish = append(without.Publish, subject)
		}
	}
	n := bustest.Server(t, bustest.Configure(func(o *server.Options) {
		o.Users = []*server.User{{Username: "admin", Password: "admin"}, userOf("worker", scheduler), userOf("maker", without)}
	}))
	as := func(name string) *Scheduler {
		conn, err := bus.Connect(t.Context(), bus.Config{InProcess: n, Options: []nats.Option{nats.UserInfo(name, name), nats.CustomInboxPrefix("_INBOX." + name)}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		s, err := Open(t.Context(), conn, Config{AllowNetworks: loopback(), Shards: 1, Publish: []string{"default.dev.pub.", "default.dev.mine."}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	admin := as("admin")
	worker, maker := as("worker"), as("maker")
	hook := newSignedHook(t)
	signed := Target{URI: hook.url, Secret: "billing"}
	wantField(t, check(t, worker, signed), bus.InvalidArgument, "target.secret")
	key := webhook.NewSecret()
	putSecret(t, admin, "billing", key, 0)
	if err := deliver(t, worker, attempt(signed, "x")); err != nil || !hook.fits(t, string(key)) {
		t.Errorf("signed by the role: %v", err)
	}
	if _, err := worker.Secrets().Put(t.Context(), "billing", key, 0); bus.CodeOf(err) != bus.PermissionDenied {
		t.Errorf("the role puts a secret: %v", err)
	}
	if err := check(t, maker, signed); err != nil {
		t.Errorf("who may not read secrets: %v", err)
	}
	if err := check(t, maker, Target{URI: hook.url}); err != nil {
		t.Errorf("unsigned: %v", err)
	}
	if err := deliver(t, maker, attempt(Target{URI: hook.url}, "x")); err != nil {
		t.Errorf("unsigned: %v", err)
	}
	if e := failed(t, deliver(t, maker, attempt(signed, "x"))); e.Permanent || !e.Unharmed || bus.CodeOf(e) != bus.PermissionDenied {
		t.Errorf("signed by who may not: %+v", e)
	}

	publish := Target{URI: "nats://default.dev.pub.a"}
	if err := deliver(t, worker, attempt(publish, "x")); err != nil {
		t.Errorf("published by the role: %v", err)
	}
	if _, err := admin.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "B", Subjects: []string{"default.dev.pub.b"}}); err != nil {
		t.Fatal(err)
	}
	if err := deliver(t, worker, attempt(Target{URI: "nats://default.dev.pub.b"}, "x")); err != nil {
		t.Errorf("stored by the role: %v", err)
	}
	for name, err := range map[string]error{
		"a subject that the configuration allows and the role does not": deliver(t, worker, attempt(Target{URI: "nats://default.dev.mine.a"}, "x")),
		"who may not ask for streams":                                   deliver(t, maker, attempt(publish, "x")),
	} {
		if e := failed(t, err); e.Permanent || !e.Unharmed || bus.CodeOf(e) != bus.PermissionDenied {
			t.Errorf("%s: %+v", name, e)
		}
	}
}
