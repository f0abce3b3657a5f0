package micro_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

// bank is a service whose handlers must not run for what nobody meant as a request.
type bank struct {
	*instance

	nc       *nats.Conn
	js       jetstream.JetStream
	requests atomic.Int64
	notes    chan string // what the one-way endpoint got
	elsewhat chan string // what reached the subject of another service
}

func newBank(t *testing.T) *bank {
	t.Helper()
	s := bustest.Server(t)
	b := &bank{nc: s.Connect(t), notes: make(chan string, 10), elsewhat: make(chan string, 10)}
	b.instance = serve(t, connect(t, s), micro.Config{Name: "bank", Instance: "b1"}, endpoints(
		endpoint("pay", func(context.Context, []byte) ([]byte, error) {
			b.requests.Add(1)
			return []byte("paid"), nil
		}),
		endpoint("note", func(_ context.Context, text []byte) ([]byte, error) {
			b.notes <- string(text)
			return []byte("noted"), nil
		}, micro.OneWay()),
	))
	if _, err := b.nc.Subscribe("default.dev.svc.other.ep", func(m *nats.Msg) { b.elsewhat <- string(m.Data) }); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.js, err = jetstream.New(b.nc); err != nil {
		t.Fatal(err)
	}
	return b
}

// send publishes a message as it is.
func (b *bank) send(t *testing.T, subject, reply string, h nats.Header) {
	t.Helper()
	if err := b.nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Header: h, Data: []byte("5 to me")}); err != nil {
		t.Fatal(err)
	}
}

const (
	paySubject  = "default.dev.svc.bank.pay"
	noteSubject = "default.dev.one.bank.note"
	instancePay = "default.dev.inst.bank.b1.pay"
)

func oneWay() nats.Header {
	return nats.Header{"Skybus-One-Way": {"1"}, "Content-Type": {"application/octet-stream"}}
}

// Messages that somebody made another party deliver, or that would make us write to a third one.
func TestDeputies(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	inbox := b.nc.NewInbox()
	answers, err := b.nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	const other = "default.dev.svc.other.ep"
	stream(t, b.js, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}, AllowDirect: true})
	cases := []struct {
		what string
		drop bus.Drop
		send func()
	}{
		{"empty reply", bus.DropNoReply, func() { b.send(t, paySubject, "", nil) }},
		{"empty reply to the instance", bus.DropNoReply, func() { b.send(t, instancePay, "", nil) }},
		{"empty reply to all", bus.DropNoReply, func() { b.send(t, "default.dev.all.bank.pay", "", nil) }},
		{"empty reply to the version", bus.DropNoReply, func() { b.send(t, "default.dev.ver.bank.0_0_0.pay", "", nil) }},
		{"reply of another service", bus.DropForeignReply, func() { b.send(t, paySubject, other, nil) }},
		{"reply of another service, instance", bus.DropForeignReply, func() { b.send(t, instancePay, other, nil) }},
		{"reply that only looks like an inbox", bus.DropForeignReply, func() { b.send(t, paySubject, "_INBOXES.x", nil) }},
		{"reply to the prefix of inboxes", bus.DropForeignReply, func() { b.send(t, paySubject, "_INBOX", nil) }},
		{"reply to the JetStream API", bus.DropForeignReply, func() { b.send(t, paySubject, "$JS.API.STREAM.DELETE.ORDERS", nil) }},
		{"stream headers", bus.DropJetStream, func() { b.send(t, paySubject, inbox, nats.Header{"Nats-Stream": {"ORDERS"}}) }},
		{"sequence header", bus.DropJetStream, func() { b.send(t, paySubject, inbox, nats.Header{"Nats-Sequence": {"1"}}) }},
		{"one-way to a request endpoint", bus.DropNotOneWay, func() { b.send(t, instancePay, "", oneWay()) }},
		{"one-way to all of a request endpoint", bus.DropNotOneWay, func() { b.send(t, "default.dev.all.bank.pay", "", oneWay()) }},
		{"one-way where requests go", bus.DropNoReply, func() { b.send(t, paySubject, "", oneWay()) }},
		{"one-way without headers", bus.DropNotOneWay, func() { b.send(t, noteSubject, "", nil) }},
		{"one-way without content type", bus.DropNotOneWay, func() { b.send(t, noteSubject, "", nats.Header{"Skybus-One-Way": {"1"}}) }},
		{"one-way without mark", bus.DropNotOneWay, func() { b.send(t, noteSubject, "", nats.Header{"Content-Type": {"application/json"}}) }},
		{"one-way with a foreign reply", bus.DropForeignReply, func() { b.send(t, noteSubject, other, oneWay()) }},
		{"control without reply", bus.DropNoReply, func() { b.send(t, "default.dev.ctl.bank.b1.ping", "", nil) }},
		{"control with a foreign reply", bus.DropForeignReply, func() { b.send(t, "default.dev.ctl.bank.b1.ping", other, nil) }},
		{"discovery without reply", bus.DropNoReply, func() { b.send(t, "$SRV.INFO.bank", "", nil) }},
		{"discovery with a foreign reply", bus.DropForeignReply, func() { b.send(t, "$SRV.PING", other, nil) }},
		{"answer of the JetStream API", bus.DropNoReply, func() { b.send(t, "$JS.API.STREAM.INFO.ORDERS", paySubject, nil) }},
	}
	want := b.Stats().Dropped
	for _, c := range cases {
		c.send()
		want[c.drop]++
		b.dropped(t, c.what, want)
	}
	b.untouched(t)
	if n, _, _ := answers.Pending(); n > 0 {
		t.Errorf("%d dropped messages were answered", n)
	}
}

// JetStream itself is made to deliver: a consumer pushes to the service, a stream republishes to it, a stored message is
// fetched with the service as the reply.
func TestJetStreamDeputies(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	legacy, err := b.nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	stream(t, b.js, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}, AllowDirect: true})
	order := func(subject string, h nats.Header) {
		t.Helper()
		if _, err := b.js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: h, Data: []byte("5 to me")}); err != nil {
			t.Fatal(err)
		}
	}
	want := b.Stats().Dropped
	dropped := func(what string) {
		t.Helper()
		want[bus.DropJetStream]++
		b.dropped(t, what, want)
	}
	for _, push := range []nats.ConsumerConfig{
		{Durable: "queue", DeliverSubject: paySubject, DeliverGroup: bus.QueueService, FilterSubject: "orders.queue", AckPolicy: nats.AckExplicitPolicy},
		{Durable: "instance", DeliverSubject: instancePay, FilterSubject: "orders.instance", AckPolicy: nats.AckNonePolicy},
		{Durable: "note", DeliverSubject: noteSubject, DeliverGroup: bus.QueueOneWay, FilterSubject: "orders.note", AckPolicy: nats.AckNonePolicy},
	} {
		if _, err := legacy.AddConsumer("ORDERS", &push); err != nil {
			t.Fatal(err)
		}
		order(push.FilterSubject, oneWay())
		dropped("pushed to " + push.DeliverSubject)
	}
	stream(t, b.js, jetstream.StreamConfig{
		Name: "COPIES", Subjects: []string{"copies"}, RePublish: &jetstream.RePublish{Source: "copies", Destination: noteSubject},
	})
	order("copies", oneWay())
	dropped("republished")
	if err := b.nc.PublishRequest("$JS.API.DIRECT.GET.ORDERS.orders.note", noteSubject, nil); err != nil {
		t.Fatal(err)
	}
	dropped("fetched")
	b.untouched(t)
}

func stream(t *testing.T, js jetstream.JetStream, cfg jetstream.StreamConfig) {
	t.Helper()
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

// dropped waits until as many messages were dropped as wanted, and compares the reasons.
func (b *bank) dropped(t *testing.T, what string, want map[bus.Drop]uint64) {
	t.Helper()
	bustest.Eventually(t, what+" to be dropped", func() bool { return total(b.Stats().Dropped) >= total(want) })
	if diff := cmp.Diff(want, b.Stats().Dropped); diff != "" {
		t.Fatalf("%s: (-want +got)\n%s", what, diff)
	}
}

func total(counts map[bus.Drop]uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// untouched checks that no handler ran and nobody else was written to, and that an honest request still works.
func (b *bank) untouched(t *testing.T) {
	t.Helper()
	if reply := request(t, b.nc, paySubject, nil, "1"); string(reply.Data) != "paid" {
		t.Errorf("answer %q %v", reply.Data, reply.Header)
	}
	if n := b.requests.Load(); n != 1 || len(b.notes) > 0 {
		t.Errorf("the handlers ran %d times besides, %d notes", n-1, len(b.notes))
	}
	if err := b.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if len(b.elsewhat) > 0 {
		t.Errorf("the other service was sent %q", <-b.elsewhat)
	}
}

// What is meant is taken: one-way messages on each of their subjects, and requests.
func TestHonestMessages(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	for _, subject := range []string{noteSubject, "default.dev.inst.bank.b1.note", "default.dev.all.bank.note"} {
		b.send(t, subject, "", oneWay())
		if got := bustest.Receive(t, "the note", b.notes); got != "5 to me" {
			t.Errorf("note %q by %s", got, subject)
		}
	}
	for _, subject := range []string{"default.dev.svc.bank.note", "default.dev.inst.bank.b1.note", "default.dev.all.bank.note", "default.dev.ver.bank.0_0_0.note"} {
		if reply := request(t, b.nc, subject, nil, "x"); string(reply.Data) != "noted" {
			t.Errorf("%s answers %q %v", subject, reply.Data, reply.Header)
		}
		bustest.Receive(t, "the request's note", b.notes)
	}
	if n := total(b.Stats().Dropped); n != 0 {
		t.Errorf("%d were dropped: %v", n, b.Stats().Dropped)
	}
}

// A request from another account comes with a reply that the server made.
func TestRequestAcrossAccounts(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, accounts(t, `accounts {
		A { jetstream: enabled, users: [{user: a, password: a}], exports: [{service: "default.dev.svc.>"}] }
		B { users: [{user: b, password: b}], imports: [{service: {account: A, subject: "default.dev.svc.greeter.>"}, to: "greet.>"}] }
	}`))
	conn := connect(t, s, func(cfg *bus.Config) { cfg.Options = []nats.Option{nats.UserInfo("a", "a")} })
	svc := serve(t, conn, micro.Config{Name: "greeter"}, endpoint("hello", greet))
	inboxes := make(chan string, 1)
	if _, err := conn.NATS().Subscribe(helloSubject, func(m *nats.Msg) { inboxes <- m.Reply }); err != nil {
		t.Fatal(err)
	}
	if err := conn.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	reply := request(t, s.Connect(t, nats.UserInfo("b", "b")), "greet.hello", nil, `{"name":"you"}`)
	if string(reply.Data) != `{"text":"Hello you"}` {
		t.Errorf("answer %s %v", reply.Data, reply.Header)
	}
	if inbox := bustest.Receive(t, "the request", inboxes); !strings.HasPrefix(inbox, "_R_.") || total(svc.Stats().Dropped) != 0 {
		t.Errorf("reply %q, dropped %v", inbox, svc.Stats().Dropped)
	}
}

// accounts takes the accounts of a server's configuration file.
func accounts(t *testing.T, config string) bustest.Option {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return bustest.Configure(func(o *server.Options) {
		conf, err := server.ProcessConfigFile(file)
		if err != nil {
			t.Fatal(err)
		}
		o.Accounts, o.Users = conf.Accounts, conf.Users
	})
}

func TestAcceptInboxes(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s, func(cfg *bus.Config) { cfg.AcceptInboxes = []string{"answers."} })
	serve(t, conn, micro.Config{Name: "greeter"}, endpoint("hello", greet))
	serve(t, connect(t, s, func(cfg *bus.Config) { cfg.Options = []nats.Option{nats.CustomInboxPrefix("own")} }),
		micro.Config{Name: "own"}, endpoint("hello", greet))
	for _, c := range []struct{ subject, prefix string }{
		{helloSubject, "answers"}, {"default.dev.svc.own.hello", "own"},
	} {
		nc := s.Connect(t, nats.CustomInboxPrefix(c.prefix))
		if reply := request(t, nc, c.subject, nil, `{"name":"you"}`); string(reply.Data) != `{"text":"Hello you"}` {
			t.Errorf("%s: answer %s", c.prefix, reply.Data)
		}
		nc = s.Connect(t, nats.CustomInboxPrefix("foreign"))
		ctx, cancel := context.WithTimeout(t.Context(), patience/50)
		if reply, err := nc.RequestWithContext(ctx, c.subject, []byte(`{}`)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an inbox that nobody configured was answered: %v, %v", reply, err)
		}
		cancel()
	}
}
