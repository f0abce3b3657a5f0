package kv_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
)

// The rights that the package comment lists are enough.
func TestPermissions(t *testing.T) {
	t.Parallel()
	const stream = "KV_widgets"
	read := []string{"$JS.API.STREAM.INFO." + stream, "$JS.API.STREAM.MSG.GET." + stream, "$JS.API.DIRECT.GET." + stream}
	follow := []string{"_INBOX.>", "skybus.kv.widgets.>", "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED." + stream}
	user := func(name string, publish, subscribe []string) *server.User {
		return &server.User{Username: name, Password: name, Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: publish},
			Subscribe: &server.SubjectPermission{Allow: subscribe},
		}}
	}
	node := bustest.Server(t, bustest.Configure(func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "admin", Password: "admin"},
			user("reader", read, follow),
			user("writer", append([]string{"$KV.widgets.mine.>"}, read...), follow[:1]),
		}
	}))
	admin := open(t, connect(t, node, nats.UserInfo("admin", "admin")), kv.Config{})
	put(t, admin, "mine.a", 1)

	conn := connect(t, node, nats.UserInfo("reader", "reader"))
	reader := open(t, conn, kv.Config{})
	c := copyOf(t, reader, "mine.*")
	writer := open(t, connect(t, node, nats.UserInfo("writer", "writer")), kv.Config{})
	put(t, writer, "mine.b", 2)
	until(t, c, "mine.b", hasSize("mine.b", 2))
	if err := writer.Delete(t.Context(), "mine.a"); err != nil {
		t.Error(err)
	}
	until(t, c, "no mine.a", lacks("mine.a"))
	if got := list(t, reader, ">"); got != "mine.b=2" {
		t.Errorf("List = %q", got)
	}
	if e, err := reader.Get(t.Context(), "mine.b"); err != nil || e.Value.Size != 2 {
		t.Errorf("Get = %v, %v", e, err)
	}
	if n := conn.AsyncErrors(); n != 0 {
		t.Errorf("%d permission errors", n)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := reader.Put(ctx, "mine.b", widget{}); err == nil {
		t.Error("a reader wrote")
	}
}
