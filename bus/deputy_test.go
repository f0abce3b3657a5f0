package bus_test

import (
	"context"
	"maps"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// oneWayHeader is what a message needs to be one-way.
func oneWayHeader(more nats.Header) nats.Header {
	h := bus.Envelope{ContentType: "application/json", OneWay: true}.Header()
	maps.Copy(h, more)
	return h
}

func TestCheckMessage(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := connect(t, s, bus.Config{
		AcceptInboxes: []string{"acme.replies."},
		Options:       []nats.Option{nats.CustomInboxPrefix("_MY.box")},
	})
	const none, stream, noReply, foreign, notOneWay = bus.Drop(""), bus.DropJetStream, bus.DropNoReply, bus.DropForeignReply, bus.DropNotOneWay
	tests := []struct {
		name    string
		reply   string
		header  nats.Header
		request bus.Drop
		oneWay  bus.Drop
	}{
		{"inbox", "_INBOX.abc.def", nil, none, notOneWay},
		{"reply across accounts", "_R_.abc.def", nil, none, notOneWay},
		{"own inbox prefix", "_MY.box.abc", nil, none, notOneWay},
		{"accepted prefix", "acme.replies.abc", nil, none, notOneWay},
		{"no reply", "", nil, noReply, notOneWay},

		{"one-way", "", oneWayHeader(nil), noReply, none},
		{"one-way that wants a reply", "_INBOX.abc", oneWayHeader(nil), none, none},
		{"one-way without a content type", "", nats.Header{"Skybus-One-Way": {"1"}}, noReply, notOneWay},
		{"content type alone", "", nats.Header{"Content-Type": {"application/json"}}, noReply, notOneWay},
		{"empty one-way header", "", nats.Header{"Skybus-One-Way": {""}, "Content-Type": {"a/b"}}, noReply, notOneWay},
		{"header in other letters", "", nats.Header{"skybus-one-way": {"1"}, "Content-Type": {"a/b"}}, noReply, notOneWay},

		{"a subject", "default.dev.svc.pay.refund", oneWayHeader(nil), foreign, foreign},
		{"JetStream API", "$JS.API.STREAM.DELETE.ORDERS", oneWayHeader(nil), foreign, foreign},
		{"key of a bucket", "$KV.skybus_routes.x", oneWayHeader(nil), foreign, foreign},
		{"system", "$SYS.REQ.SERVER.PING", oneWayHeader(nil), foreign, foreign},
		{"stream of ours", "skybus.async.default.dev.a.b", oneWayHeader(nil), foreign, foreign},
		{"inbox prefix alone", "_INBOX.", oneWayHeader(nil), foreign, foreign},
		{"inbox without a dot", "_INBOX", oneWayHeader(nil), foreign, foreign},
		{"no inbox, but begins like one", "_INBOXES.abc", oneWayHeader(nil), foreign, foreign},
		{"begins like the own prefix", "_MY.boxes.abc", oneWayHeader(nil), foreign, foreign},
		{"begins like the accepted one", "acme.repliesx.abc", oneWayHeader(nil), foreign, foreign},
		{"inbox elsewhere", "a._INBOX.abc", oneWayHeader(nil), foreign, foreign},
		{"inbox in other letters", "_inbox.abc", oneWayHeader(nil), foreign, foreign},

		{"acknowledgement", "$JS.ACK.ORDERS.c.1.1.1.1.0", oneWayHeader(nil), stream, stream},
		{"acknowledgement with a domain", "$JS.ACK.hub.hash.ORDERS.c.1.1.1.1.0.x", oneWayHeader(nil), stream, stream},
		{"stream header", "_INBOX.abc", oneWayHeader(nats.Header{"Nats-Stream": {"ORDERS"}}), stream, stream},
		{"sequence header", "_INBOX.abc", oneWayHeader(nats.Header{"Nats-Sequence": {"7"}}), stream, stream},
		{"stream header, no reply", "", oneWayHeader(nats.Header{"Nats-Stream": {""}}), stream, stream},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			msg := &nats.Msg{Subject: "default.dev.svc.a.b", Reply: tt.reply, Header: tt.header}
			if got := c.CheckRequest(msg); got != tt.request {
				t.Errorf("as a request: %q, want %q", got, tt.request)
			}
			if got := c.CheckOneWay(msg); got != tt.oneWay {
				t.Errorf("as a one-way message: %q, want %q", got, tt.oneWay)
			}
		})
	}
}

func TestIsInbox(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	plain := connect(t, s, bus.Config{})
	own := connect(t, s, bus.Config{Options: []nats.Option{nats.CustomInboxPrefix("_MY")}})
	tests := []struct {
		name    string
		conn    *bus.Conn
		subject string
		want    bool
	}{
		{"an inbox", plain, plain.NATS().NewInbox(), true},
		{"an own inbox", own, own.NATS().NewInbox(), true},
		{"an inbox of the usual kind", own, plain.NATS().NewInbox(), true},
		{"somebody else's prefix", plain, own.NATS().NewInbox(), false},
		{"across accounts", plain, "_R_.x.y", true},
		{"nothing", plain, "", false},
		{"a subject", plain, "a.b", false},
	}
	for _, tt := range tests {
		if got := tt.conn.IsInbox(tt.subject); got != tt.want {
			t.Errorf("%s: IsInbox(%q) = %v", tt.name, tt.subject, got)
		}
	}
}

// A prefix that does not end in a dot, or is empty, would let other subjects in.
func TestAcceptInboxesRefuses(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	for _, prefix := range []string{"", ".", "acme", "acme.replies"} {
		c, err := bus.Connect(t.Context(), bus.Config{InProcess: s, AcceptInboxes: []string{"fine.", prefix}})
		if err == nil {
			_ = c.Close()
			t.Errorf("%q: accepted", prefix)
			continue
		}
		wantRefused(t, err)
	}
}

// Real requests and one-way messages, as they arrive.
func TestCheckRealMessages(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	service, caller := connect(t, s, bus.Config{}), connect(t, s, bus.Config{})
	dropped := make(chan bus.Drop, 1)
	subscribe(t, service, "svc", func(m *nats.Msg) {
		dropped <- service.CheckRequest(m)
		_ = m.Respond(nil)
	})
	if _, err := request(t, caller, patience, &nats.Msg{Subject: "svc"}); err != nil {
		t.Fatal(err)
	}
	if got := bustest.Receive(t, "request", dropped); got != "" {
		t.Errorf("a request was dropped: %s", got)
	}
	heard := inbox(t, service, "one")
	if err := caller.Publish(&nats.Msg{Subject: "one", Header: oneWayHeader(nil)}); err != nil {
		t.Fatal(err)
	}
	if got := service.CheckOneWay(bustest.Receive(t, "one-way message", heard)); got != "" {
		t.Errorf("a one-way message was dropped: %s", got)
	}
}

const lootSubject = "default.dev.svc.pay.refund"

// loot is a message in a stream, and somebody who has JetStream deliver it to lootSubject.
type loot struct {
	attacker *bus.Conn
	stream   jetstream.Stream
}

type attack func(context.Context, loot) error

// push makes a consumer that delivers there.
func push(cfg jetstream.ConsumerConfig) attack {
	return func(ctx context.Context, l loot) error {
		cfg.DeliverSubject = lootSubject
		_, err := l.attacker.JetStream().CreateOrUpdatePushConsumer(ctx, "LOOT", cfg)
		return err
	}
}

// pull asks a consumer for a message in the name of the service.
func pull(ctx context.Context, l loot) error {
	if _, err := l.stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{Durable: "d"}); err != nil {
		return err
	}
	return ask("$JS.API.CONSUMER.MSG.NEXT.LOOT.d", `{"batch":1}`)(ctx, l)
}

// republish makes a stream that sends there what it stores.
func republish(headersOnly bool) attack {
	return func(ctx context.Context, l loot) error {
		js := l.attacker.JetStream()
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{
			Name: "AGAIN", Subjects: []string{"again"},
			RePublish: &jetstream.RePublish{Source: "again", Destination: lootSubject, HeadersOnly: headersOnly},
		})
		if err != nil {
			return err
		}
		_, err = js.PublishMsg(ctx, &nats.Msg{Subject: "again", Header: oneWayHeader(nil)})
		return err
	}
}

// ask sends a request whose reply goes there.
func ask(subject, body string) attack {
	return func(_ context.Context, l loot) error {
		return l.attacker.Publish(&nats.Msg{Subject: subject, Reply: lootSubject, Data: []byte(body)})
	}
}

// Whoever may use JetStream can have it deliver to a subject that he may not publish to. Nothing JetStream delivers is
// taken, whatever headers it was stored with.
func TestJetStreamAsDeputy(t *testing.T) {
	t.Parallel()
	const stored = bus.DropJetStream
	const queueCase = "consumer with a queue group"
	tests := []struct {
		name            string
		attack          attack
		request, oneWay bus.Drop
	}{
		{"consumer with acks", push(jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy}), stored, stored},
		{"consumer without acks", push(jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy}), stored, stored},
		{"consumer of headers", push(jetstream.ConsumerConfig{HeadersOnly: true, AckPolicy: jetstream.AckAllPolicy}), stored, stored},
		{queueCase, push(jetstream.ConsumerConfig{DeliverGroup: bus.QueueService}), stored, stored},
		{"pull", pull, stored, stored},
		{"republished", republish(false), stored, stored},
		{"republished headers", republish(true), stored, stored},
		{"direct get", ask("$JS.API.DIRECT.GET.LOOT", `{"seq":1}`), stored, stored},
		{"last of a subject", ask("$JS.API.DIRECT.GET.LOOT.loot.a", ""), stored, stored},
		{"message get", ask("$JS.API.STREAM.MSG.GET.LOOT", `{"seq":1}`), bus.DropNoReply, bus.DropNotOneWay},
		{"API", ask("$JS.API.INFO", ""), bus.DropNoReply, bus.DropNotOneWay},
		{"acknowledgement of a publish", ask("loot.b", `{}`), bus.DropNoReply, bus.DropNotOneWay},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := bustest.Server(t)
			service, attacker := connect(t, s, bus.Config{}), connect(t, s, bus.Config{})
			heard := make(chan *nats.Msg, 16)
			queue := "" // a consumer delivers to its own kind of subscription only
			if tt.name == queueCase {
				queue = bus.QueueService
			}
			if _, err := service.NATS().ChanQueueSubscribe(lootSubject, queue, heard); err != nil {
				t.Fatal(err)
			}
			flush(t, service)
			if err := tt.attack(t.Context(), newLoot(t, attacker)); err != nil {
				t.Fatal(err)
			}
			msg := bustest.Receive(t, "message", heard)
			if got := service.CheckRequest(msg); got != tt.request {
				t.Errorf("as a request: %q, want %q: %+v", got, tt.request, msg)
			}
			if got := service.CheckOneWay(msg); got != tt.oneWay {
				t.Errorf("as a one-way message: %q, want %q: %+v", got, tt.oneWay, msg)
			}
		})
	}
}

func newLoot(t *testing.T, attacker *bus.Conn) loot {
	t.Helper()
	js := attacker.JetStream()
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "LOOT", Subjects: []string{"loot.>"}, AllowDirect: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "loot.a", Data: []byte(`{}`), Header: oneWayHeader(nil)}); err != nil {
		t.Fatal(err)
	}
	return loot{attacker, stream}
}

// A request through an account's import arrives with a reply of another kind, and is answered.
func TestRequestAcrossAccounts(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.Configure(func(o *server.Options) {
		shop, web := server.NewAccount("SHOP"), server.NewAccount("WEB")
		o.Accounts = []*server.Account{shop, web}
		o.Users = []*server.User{{Username: "shop", Account: shop}, {Username: "web", Account: web}}
	}))
	export(t, s, "SHOP", "WEB", "shop.svc")
	service := connect(t, s, bus.Config{Options: []nats.Option{nats.UserInfo("shop", "")}})
	caller := connect(t, s, bus.Config{Options: []nats.Option{nats.UserInfo("web", "")}})
	arrived := make(chan *nats.Msg, 1)
	subscribe(t, service, "shop.svc", func(m *nats.Msg) {
		arrived <- m
		_ = m.Respond([]byte("done"))
	})
	reply, err := request(t, caller, patience, &nats.Msg{Subject: "shop.svc"})
	if err != nil || string(reply.Data) != "done" {
		t.Fatalf("got %v, %v", reply, err)
	}
	msg := bustest.Receive(t, "request", arrived)
	if got := service.CheckRequest(msg); got != "" {
		t.Errorf("dropped: %s, reply %q", got, msg.Reply)
	}
	if !strings.HasPrefix(msg.Reply, "_R_.") {
		t.Errorf("reply is %q: this test shows nothing", msg.Reply)
	}
}

func export(t *testing.T, s *bustest.Node, from, to, subject string) {
	t.Helper()
	exporter, err := s.Server().LookupAccount(from)
	if err != nil {
		t.Fatal(err)
	}
	importer, err := s.Server().LookupAccount(to)
	if err != nil {
		t.Fatal(err)
	}
	if err := exporter.AddServiceExport(subject, nil); err != nil {
		t.Fatal(err)
	}
	if err := importer.AddServiceImport(exporter, subject, subject); err != nil {
		t.Fatal(err)
	}
}
