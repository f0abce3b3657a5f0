package scheduler

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler/webhook"
)

// rights is a user who may publish these subjects beside what it takes to open a scheduler, as the roles of package auth say.
func rights(name string, subscribe []string, publish ...string) *server.User {
	return &server.User{Username: name, Password: name, Permissions: &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: append(publish, "$JS.API.STREAM.INFO.SKYBUS_TMR_0")},
		Subscribe: &server.SubjectPermission{Allow: append(subscribe, "_INBOX."+name+".>")},
	}}
}

// openAs opens schedulers of users, with some prefixes to publish under.
func openAs(t testing.TB, users ...*server.User) func(name string) *Scheduler {
	t.Helper()
	n := bustest.Server(t, bustest.Configure(func(o *server.Options) { o.Users = append(users, &server.User{Username: "admin", Password: "admin"}) }))
	return func(name string) *Scheduler {
		conn, err := bus.Connect(t.Context(), bus.Config{InProcess: n, Options: []nats.Option{nats.UserInfo(name, name), nats.CustomInboxPrefix("_INBOX." + name)}})
		if err != nil {
			t.Fatal(err)
		}
		closing(t, conn)
		s, err := Open(t.Context(), conn, Config{AllowNetworks: loopback(), Shards: 1, Publish: []string{"default.dev.pub.", "default.dev.mine."}})
		if err != nil {
			t.Fatal(err)
		}
		closing(t, s)
		return s
	}
}

// denied wants a delivery to have failed for want of rights.
func denied(t testing.TB, what string, err error) {
	t.Helper()
	if e := failed(t, err); e.Permanent || !e.Unharmed || bus.CodeOf(e) != bus.PermissionDenied {
		t.Errorf("%s: %+v, want permission_denied", what, e)
	}
}

// TestSecretRights signs with the rights that a scheduler has, and makes timers without them.
func TestSecretRights(t *testing.T) {
	t.Parallel()
	as := openAs(t,
		rights("worker", []string{"skybus.kv.skybus_secrets.default.dev.>", "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.KV_skybus_secrets"},
			"$JS.API.STREAM.INFO.KV_skybus_secrets", "$JS.API.STREAM.MSG.GET.KV_skybus_secrets", "$JS.API.DIRECT.GET.KV_skybus_secrets"),
		rights("maker", nil))
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
	if n := worker.conn.AsyncErrors(); n > 0 {
		t.Errorf("%d permission errors of who may read secrets", n)
	}
	if _, err := worker.Secrets().Put(t.Context(), "billing", key, 0); bus.CodeOf(err) != bus.PermissionDenied {
		t.Errorf("who may only read puts a secret: %v", err)
	}
	for _, target := range []Target{signed, {URI: hook.url}} {
		if err := check(t, maker, target); err != nil {
			t.Errorf("made by who may not read secrets: %v", err)
		}
	}
	if err := deliver(t, maker, attempt(Target{URI: hook.url}, "x")); err != nil {
		t.Errorf("unsigned by who may not read secrets: %v", err)
	}
	denied(t, "signed by who may not", deliver(t, maker, attempt(signed, "x")))
}

func TestPublishRights(t *testing.T) {
	t.Parallel()
	as := openAs(t, rights("worker", nil, "$JS.API.STREAM.NAMES", "default.dev.pub.>"), rights("maker", nil, "default.dev.pub.>"))
	admin := as("admin")
	worker, maker := as("worker"), as("maker")
	stream, err := admin.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "B", Subjects: []string{"default.dev.*.b"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"default.dev.pub.a", "default.dev.pub.b"} {
		target := Target{Transport: "nats", URI: subject}
		if err := deliver(t, worker, attempt(target, "x")); err != nil {
			t.Errorf("%s: %v", subject, err)
		}
		denied(t, "who may not ask for streams", deliver(t, maker, attempt(target, "x")))
		target.URI = "default.dev.mine." + subject[len(subject)-1:]
		denied(t, "what the configuration allows and the user may not", deliver(t, worker, attempt(target, "x")))
	}
	if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != 1 {
		t.Errorf("%d messages stored, %v", info.State.Msgs, err)
	}
}
