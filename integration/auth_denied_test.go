//go:build unix

package integration_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/election"
	"github.com/skybus-io/skybus/micro/registry"
	"github.com/skybus-io/skybus/micro/route"
	"github.com/skybus-io/skybus/micro/stream"
)

// quickly is how soon a refusal is told, on a busy machine.
const quickly = 5 * time.Second

// denied wants f to end with permission_denied, and quickly.
func denied(t *testing.T, what string, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	err := f(ctx)
	if took := time.Since(began); bus.CodeOf(err) != bus.PermissionDenied || took > quickly {
		t.Errorf("%s: after %v: %v", what, took, err)
	}
}

// TestRolesRefuse tries as a service, and as a client, what is another's.
func TestRolesRefuse(t *testing.T) {
	t.Parallel()
	s := startSecured(t)
	admin, orders, web := s.admin(t, "shop.prod"), s.service(t, "orders"), s.client(t, "orders")
	serveTickets(t, s.service(t, "pay"), "pay", "p1", nil)
	serveTickets(t, orders, "orders", "o1", nil)
	serveTickets(t, s.admin(t, "shop.dev"), "orders", "d1", nil)

	t.Run("serve another service", func(t *testing.T) { refusedToServe(t, orders, "pay") })
	t.Run("serve as a client", func(t *testing.T) { refusedToServe(t, web, "orders") })
	t.Run("keys of others", func(t *testing.T) { refusedKeys(t, orders, web) })
	t.Run("another namespace's feed", func(t *testing.T) {
		for _, bucket := range []string{registry.InstancesBucket, registry.LivenessBucket, configBucket, route.Bucket} {
			for _, pattern := range []string{"shop.dev.>", ">", "*.prod.>"} {
				refusedToFollow(t, orders, bucket, pattern)
				refusedToFollow(t, web, bucket, pattern)
			}
		}
	})
	t.Run("another namespace's registry", func(t *testing.T) {
		moved := s.loginAs(t, web, "shop.dev")
		denied(t, "a client", func(ctx context.Context) error {
			_, err := micro.NewClient(ctx, moved, micro.ClientConfig{})
			return err
		})
	})
	t.Run("calls", func(t *testing.T) { refusedCalls(t, web) })
	t.Run("streams", func(t *testing.T) { refusedStream(t, web) })
	t.Run("election", func(t *testing.T) { refusedElection(t, orders, web) })
	t.Run("JetStream API", func(t *testing.T) { refusedAPI(t, admin, orders, web) })
	t.Run("inboxes of others", func(t *testing.T) { refusedInboxes(t, orders, web) })
}

// loginAs is a connection of the user of conn that claims another namespace.
func (s *secured) loginAs(t *testing.T, conn *bus.Conn, namespace string) *bus.Conn {
	t.Helper()
	o := conn.NATS().Opts
	moved, err := bus.Connect(t.Context(), bus.Config{
		InProcess: s, Namespace: namespace, Options: []nats.Option{nats.UserJWT(o.UserJWT, o.SignatureCB)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { moved.NATS().Close() })
	return moved
}

func refusedToServe(t *testing.T, conn *bus.Conn, name string) {
	t.Helper()
	svc, err := micro.NewService(conn, micro.Config{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	err = micro.Handle(svc, "hello", func(context.Context, ticket) (ticket, error) { return ticket{Text: "stolen"}, nil })
	if err != nil {
		t.Fatal(err)
	}
	denied(t, name, svc.Run)
}

func refusedToWrite(t *testing.T, conn *bus.Conn, bucket, key string) {
	t.Helper()
	table, err := kv.Open[[]byte](t.Context(), conn, bucket, kv.Config{Bind: true, Codec: bus.Raw{}})
	if err != nil {
		t.Fatal(err)
	}
	for op, f := range map[string]func(context.Context) error{
		"put":    func(ctx context.Context) error { _, err := table.Put(ctx, key, []byte("{}")); return err },
		"create": func(ctx context.Context) error { _, err := table.Create(ctx, key, []byte("{}")); return err },
		"delete": func(ctx context.Context) error { return table.Delete(ctx, key, kv.IfRevision(1)) },
	} {
		denied(t, fmt.Sprintf("%s %s in %s", op, key, bucket), f)
	}
}

func refusedToFollow(t *testing.T, conn *bus.Conn, bucket, pattern string) {
	t.Helper()
	table, err := kv.Open[[]byte](t.Context(), conn, bucket, kv.Config{Bind: true, Codec: bus.Raw{}})
	if err != nil {
		t.Fatal(err)
	}
	denied(t, "follow "+pattern+" in "+bucket, func(ctx context.Context) error {
		return table.Follow(ctx, pattern, func([]kv.Entry[[]byte]) {})
	})
}

func refusedAPI(t *testing.T, admin, orders, web *bus.Conn) {
	t.Helper()
	stream := jetstream.StreamConfig{Name: "INVOICES", Subjects: []string{"invoices.>"}}
	if _, err := admin.OpenStream(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
	missing := stream
	missing.Name, missing.Subjects = "KV_skybus_missing", []string{"missing"}
	for _, conn := range []*bus.Conn{orders, web} {
		denied(t, "open a stream of somebody else", func(ctx context.Context) error {
			_, err := conn.OpenStream(ctx, stream)
			return err
		})
		denied(t, "open a bucket nobody made", func(ctx context.Context) error {
			_, err := kv.Open[[]byte](ctx, conn, "widgets", kv.Config{})
			return err
		})
		for _, request := range []string{
			"INFO", "STREAM.NAMES", "STREAM.LIST", "STREAM.DELETE.KV_skybus_config", "STREAM.PURGE.KV_skybus_instances",
			"STREAM.UPDATE.KV_skybus_config", "STREAM.MSG.DELETE.KV_skybus_config", "STREAM.MSG.GET.INVOICES", "DIRECT.GET.INVOICES",
			"CONSUMER.CREATE.KV_skybus_config", "CONSUMER.DURABLE.CREATE.KV_skybus_config.c", "CONSUMER.MSG.NEXT.SKYBUS_ASYNC.shop=prod",
		} {
			denied(t, request, func(ctx context.Context) error {
				_, err := conn.Request(ctx, &nats.Msg{Subject: "$JS.API." + request, Data: []byte("{}")})
				return err
			})
		}
	}
}

// refusedInboxes shows that nobody hears what others are answered, and that who chooses inboxes its role does not allow is
// told so.
func refusedInboxes(t *testing.T, orders, web *bus.Conn) {
	t.Helper()
	for _, subject := range []string{"_INBOX.>", orders.NATS().Opts.InboxPrefix + ".>", ">", "*.*"} {
		denied(t, subject, func(ctx context.Context) error {
			return web.Permitted(ctx, bus.Access{Subscribe: []string{subject}}, func(ctx context.Context) error {
				sub, err := web.NATS().Subscribe(subject, func(*nats.Msg) {})
				if err != nil {
					return err
				}
				defer func() { _ = sub.Unsubscribe() }()
				return web.Flush(ctx)
			})
		})
	}
	if prefix := web.NATS().Opts.InboxPrefix; !strings.HasPrefix(prefix, "_INBOX.U") {
		t.Errorf("inboxes begin with %q", prefix)
	}
}

func refusedKeys(t *testing.T, orders, web *bus.Conn) {
	t.Helper()
	for _, conn := range []*bus.Conn{orders, web} {
		for bucket, key := range map[string]string{
			registry.InstancesBucket: "shop.prod.pay.p1",
			registry.LivenessBucket:  "shop.prod.pay.p1",
			configBucket:             "shop.prod.orders._.log",
			route.Bucket:             "shop.prod.chain.tickets",
			"skybus_leases":          "shop.prod.election.pay",
		} {
			refusedToWrite(t, conn, bucket, key)
		}
	}
	refusedToWrite(t, orders, registry.InstancesBucket, "shop.dev.orders.o1")
	refusedToWrite(t, web, "skybus_leases", "shop.prod.election.orders")
}

func refusedCalls(t *testing.T, web *bus.Conn) {
	t.Helper()
	client := newClient(t, web, micro.ClientConfig{})
	for _, opts := range [][]micro.CallOption{nil, {micro.ToInstance("p1")}, {micro.ToVersion("0.0.0")}} {
		denied(t, "a call", func(ctx context.Context) error {
			_, err := micro.Call[ticket](ctx, client, "pay.hello", ticket{}, opts...)
			return err
		})
	}
	denied(t, "a broadcast", func(ctx context.Context) error {
		for _, err := range micro.CallAll[ticket](ctx, client, "pay.hello", ticket{}) {
			return err
		}
		return nil
	})
	for _, subject := range []string{"shop.dev.svc.orders.check", "shop.prod.ctl.orders.o1.stop", "$SYS.REQ.SERVER.PING"} {
		denied(t, subject, func(ctx context.Context) error {
			_, err := web.Request(ctx, &nats.Msg{Subject: subject})
			return err
		})
	}
}

func refusedStream(t *testing.T, web *bus.Conn) {
	t.Helper()
	mux, err := stream.New(web, stream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mux.Close() }()
	denied(t, "a stream", func(ctx context.Context) error {
		_, err := mux.Open(ctx, &nats.Msg{Subject: "shop.prod.svc.pay.hello"})
		return err
	})
}

func refusedElection(t *testing.T, orders, web *bus.Conn) {
	t.Helper()
	for _, conn := range []*bus.Conn{orders, web} {
		e, err := election.Open(t.Context(), conn, election.Config{})
		if err != nil {
			t.Fatal(err)
		}
		denied(t, "a campaign for another service", func(ctx context.Context) error {
			_, err := e.Campaign(ctx, "pay", "o1")
			return err
		})
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
