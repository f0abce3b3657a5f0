package main

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/skybus-io/skybus/bus/bustest"
)

// A login without rights is told so at once, by every command, and what to do about it.
func TestLoginWithoutRights(t *testing.T) {
	t.Parallel()
	nothing := &server.SubjectPermission{Deny: []string{">"}}
	inboxes := &server.SubjectPermission{Allow: []string{"_INBOX.>"}}
	s := bustest.Server(t, bustest.TCP(), bustest.Configure(func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "mute", Password: "x", Permissions: &server.Permissions{Publish: nothing, Subscribe: inboxes}},
			{Username: "deaf", Password: "x", Permissions: &server.Permissions{Subscribe: nothing}},
		}
	}))
	for _, user := range []string{"mute", "deaf"} {
		for _, command := range []string{"services", "instances", "routes", "config", "call a.b {}", "config put a.b c", "up --http 127.0.0.1:0 --admin 127.0.0.1:0"} {
			t.Run(user+" "+command, func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				args := append(strings.Fields(command), "-s", s.URL(), "--user", user, "--password", "x", "-o", "json")
				code, _, stderr := runs(t.Context(), &cli{}, args...)
				if took := time.Since(began); took > 3*time.Second {
					t.Errorf("it took %v", took)
				}
				if code != exitFailed || !strings.Contains(stderr, `"permission_denied"`) || !strings.Contains(stderr, `"hint"`) {
					t.Errorf("exit %d, stderr %s", code, stderr)
				}
			})
		}
	}
}

// Whoever may not send a one-way message hears of it, though nobody answers one.
func TestOneWayDenied(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP(), bustest.Configure(func(o *server.Options) {
		denied := &server.SubjectPermission{Deny: []string{"default.dev.one.log.>", "default.dev.all.log.>", "default.dev.inst.log.>"}}
		o.Users = []*server.User{{Username: "some", Password: "x", Permissions: &server.Permissions{Publish: denied}}}
	}))
	for _, flags := range []string{"", "--all", "--to-instance x"} {
		args := append([]string{"call", "log.write", "--one-way", "-s", s.URL(), "--user", "some", "--password", "x"}, strings.Fields(flags)...)
		code, _, stderr := runs(t.Context(), &cli{}, args...)
		if code != exitFailed || !strings.HasPrefix(stderr, "skybus: permission_denied: ") {
			t.Errorf("%s: exit %d, stderr %q", flags, code, stderr)
		}
		args[1] = "other.write"
		if code, _, stderr := runs(t.Context(), &cli{}, args...); code != exitOK {
			t.Errorf("%s: what is allowed: exit %d, stderr %q", flags, code, stderr)
		}
	}
}
