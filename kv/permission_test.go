package kv_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
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

	refused(t, "write by a reader", func() error {
		_, err := reader.Put(t.Context(), "mine.b", widget{})
		return err
	})
	refused(t, "delete by a reader", func() error { return reader.Delete(t.Context(), "mine.b") })
	refused(t, "write of another's key", func() error {
		_, err := writer.Create(t.Context(), "theirs.b", widget{})
		return err
	})
	refused(t, "follow without the feed", func() error {
		return writer.Follow(t.Context(), "mine.*", func([]kv.Entry[widget]) {})
	})
	if e, err := reader.Get(t.Context(), "mine.b"); err != nil || e.Value.Size != 2 {
		t.Errorf("afterwards Get = %v, %v", e, err)
	}
}

// refused wants f to end soon with permission_denied, though its context has no end.
func refused(t *testing.T, what string, f func() error) {
	t.Helper()
	began := time.Now()
	err := f()
	if took := time.Since(began); bus.CodeOf(err) != bus.PermissionDenied || took > 5*time.Second {
		t.Errorf("%s: after %v: %v", what, took, err)
	}
}

// Each right that is missing is told at once, by what Open and a follower need first.
func TestMissingRights(t *testing.T) {
	t.Parallel()
	info, get, direct := "$JS.API.STREAM.INFO.KV_widgets", "$JS.API.STREAM.MSG.GET.KV_widgets", "$JS.API.DIRECT.GET.KV_widgets"
	node := bustest.Server(t, bustest.Configure(func(o *server.Options) {
		user := func(name string, publish ...string) *server.User {
			return &server.User{Username: name, Password: name, Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: publish}}}
		}
		o.Users = []*server.User{
			{Username: "admin", Password: "admin"},
			user("nothing", "x"), user("info", info), user("getter", info, get), user("lister", info, direct),
		}
	}))
	login := func(name string) *bus.Conn { return connect(t, node, nats.UserInfo(name, name)) }
	put(t, open(t, login("admin"), kv.Config{}), "a", 1)
	for _, bind := range []bool{true, false} {
		refused(t, "open", func() error {
			_, err := kv.Open[widget](t.Context(), login("nothing"), "widgets", kv.Config{Bind: bind})
			return err
		})
	}
	refused(t, "create the bucket", func() error {
		_, err := kv.Open[widget](t.Context(), login("info"), "missing", kv.Config{})
		return err
	})
	infoOnly, getter, lister := open(t, login("info"), kv.Config{}), open(t, login("getter"), kv.Config{}), open(t, login("lister"), kv.Config{})
	refused(t, "get", func() error {
		_, err := infoOnly.Get(t.Context(), "a")
		return err
	})
	for name, table := range map[string]*kv.Table[widget]{"info": infoOnly, "getter": getter} {
		refused(t, "list as "+name, func() error {
			for _, err := range table.List(t.Context(), ">") {
				return err
			}
			return nil
		})
		refused(t, "follow as "+name, func() error { return table.Follow(t.Context(), ">", func([]kv.Entry[widget]) {}) })
	}
	if e, err := getter.Get(t.Context(), "a"); err != nil || e.Value.Size != 1 {
		t.Errorf("Get = %v, %v", e, err)
	}
	if got := list(t, lister, ">"); got != "a=1" {
		t.Errorf("List = %q", got)
	}
}

// Followers that are refused beside each other are each told before they hear of anything.
func TestRefusedSideBySide(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, bustest.Configure(func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "admin", Password: "admin"},
			{Username: "deaf", Password: "deaf", Permissions: &server.Permissions{
				Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
			}},
		}
	}))
	put(t, open(t, connect(t, node, nats.UserInfo("admin", "admin")), kv.Config{}), "a", 1)
	conn := connect(t, node, nats.UserInfo("deaf", "deaf"))
	table := open(t, conn, kv.Config{})
	var heard atomic.Int64
	for range 50 {
		var following sync.WaitGroup
		for _, pattern := range []string{"a", ">", "a.*", "b"} {
			following.Go(func() {
				refused(t, "follow "+pattern, func() error {
					return table.Follow(t.Context(), pattern, func([]kv.Entry[widget]) { heard.Add(1) })
				})
			})
		}
		following.Wait()
	}
	if n := heard.Load(); n > 0 {
		t.Errorf("%d followers heard of what is there, and then no more", n)
	}
}

// Who may write one key cannot remove others with it.
func TestNoRollup(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	for _, history := range []int{1, 5} {
		table, err := kv.Open[widget](t.Context(), conn, fmt.Sprintf("widgets%d", history), kv.Config{History: history, NoExpiry: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := table.Put(t.Context(), "x", widget{}, kv.TTL(time.Minute)); err == nil {
			t.Error("a TTL was taken")
		}
		put(t, table, "theirs", 1)
		for _, rollup := range []string{"all", "sub"} {
			msg := &nats.Msg{Subject: "$KV." + table.Bucket() + ".mine", Header: nats.Header{"Nats-Rollup": {rollup}}, Data: []byte(`{}`)}
			ack, err := conn.NATS().RequestMsg(msg, 10*time.Second)
			if err != nil || !strings.Contains(string(ack.Data), "error") {
				t.Errorf("rollup %s: %v, %v", rollup, ack, err)
			}
		}
		if e, err := table.Get(t.Context(), "theirs"); err != nil || e.Value.Size != 1 {
			t.Errorf("history %d: the other key is %+v, %v", history, e, err)
		}
		if err := table.Delete(t.Context(), "theirs"); err != nil {
			t.Error(err)
		}
	}
}
