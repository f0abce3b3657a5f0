package micro_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

const cancelSubject = "default.dev.ctl.slow.all.cancel"

// waiting is a service whose handler tells how its ctx ended.
func waiting(t *testing.T, conn *bus.Conn) (svc *instance, entered chan string, ended chan error) {
	t.Helper()
	entered, ended = make(chan string, 10), make(chan error, 10)
	svc = serve(t, conn, micro.Config{Name: "slow"}, endpoint("wait", func(ctx context.Context, req hello) (greeting, error) {
		entered <- req.Name
		<-ctx.Done()
		ended <- ctx.Err()
		return greeting{}, ctx.Err()
	}))
	return svc, entered, ended
}

func cancelMessage(id, attempt, reply, endpoint string) *nats.Msg {
	h := nats.Header{}
	if id != "" {
		h.Set("Skybus-Request-Id", id)
	}
	if attempt != "" {
		h.Set("Skybus-Attempt", attempt)
	}
	return &nats.Msg{Subject: cancelSubject, Reply: reply, Header: h, Data: []byte(endpoint)}
}

func send(t *testing.T, nc *nats.Conn, m *nats.Msg) {
	t.Helper()
	if err := nc.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// caller is a connection with an inbox of its own for requests to a service that waits.
type caller struct {
	*nats.Conn

	inbox   string
	answers chan *nats.Msg
	entered chan string
}

func newCaller(t *testing.T, s *bustest.Node, entered chan string) *caller {
	t.Helper()
	c := &caller{Conn: s.Connect(t), answers: make(chan *nats.Msg, 10), entered: entered}
	c.inbox = c.NewRespInbox()
	if _, err := c.ChanSubscribe(c.inbox, c.answers); err != nil {
		t.Fatal(err)
	}
	return c
}

// begin sends a request and returns when its handler runs.
func (c *caller) begin(t *testing.T, id, attempt string) {
	t.Helper()
	send(t, c.Conn, &nats.Msg{
		Subject: "default.dev.svc.slow.wait", Reply: c.inbox, Data: []byte(`{}`),
		Header: nats.Header{"Skybus-Request-Id": {id}, "Skybus-Attempt": {attempt}},
	})
	bustest.Receive(t, "the handler", c.entered)
}

// ends waits for the end of one handler, and for what its caller is told.
func (c *caller) ends(t *testing.T, ended <-chan error) {
	t.Helper()
	if err := bustest.Receive(t, "the end of the handler", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("its ctx says %v", err)
	}
	wantError(t, bustest.Receive(t, "the answer", c.answers), bus.Canceled, 499, "was canceled by its caller")
}

func TestCancel(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	svc, entered, ended := waiting(t, connect(t, s))
	own, other := newCaller(t, s, entered), newCaller(t, s, entered)
	own.begin(t, "r1", "2")
	mine := own.NewRespInbox()
	foreign := []*nats.Msg{
		cancelMessage("r1", "2", other.NewRespInbox(), ""), // another connection's
		cancelMessage("r1", "2", "_INBOX.x", ""),           // nobody's own
		cancelMessage("", "2", mine, ""),
		cancelMessage("r1", "0", mine, ""),
	}
	for _, m := range foreign {
		send(t, other.Conn, m)
	}
	unknown := []*nats.Msg{
		cancelMessage("r1", "1", mine, ""), cancelMessage("r1", "", mine, ""), cancelMessage("r2", "2", mine, ""),
		cancelMessage("r1", "2", mine, "other"),
	}
	for _, m := range unknown {
		send(t, own.Conn, m)
	}
	send(t, own.Conn, cancelMessage("r1", "2", "", ""))
	send(t, own.Conn, cancelMessage("r1", "2", "default.dev.svc.slow.wait", ""))
	bustest.Eventually(t, "the count of what is dropped", func() bool { return total(svc.Stats().Dropped) == uint64(len(foreign)+len(unknown)+2) })
	dropped := svc.Stats().Dropped
	if dropped[micro.DropForeignCancel] != uint64(len(foreign)) || dropped[micro.DropUnknownCancel] != uint64(len(unknown)) {
		t.Errorf("dropped %v", dropped)
	}
	select {
	case err := <-ended:
		t.Fatalf("the handler was ended by another: %v", err)
	default:
	}
	send(t, own.Conn, cancelMessage("r1", "2", mine, "wait"))
	own.ends(t, ended)
	bustest.Eventually(t, "the figures", func() bool { return svc.Stats().Endpoints[0].Errors == 1 })
}

// Of several requests with the same id the right ones end, and nothing is left of them.
func TestCancelOneOfSeveral(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	svc, entered, ended := waiting(t, connect(t, s))
	own := newCaller(t, s, entered)
	attempts := []string{"2", "1", "3"}
	for _, attempt := range []string{"1", "2", "3"} {
		own.begin(t, "r", attempt)
	}
	for _, attempt := range attempts {
		send(t, own.Conn, cancelMessage("r", attempt, own.NewRespInbox(), ""))
		own.ends(t, ended)
		if len(ended) > 0 {
			t.Error("another ended too")
		}
	}
	bustest.Eventually(t, "the handlers to be done", func() bool { return svc.Stats().Endpoints[0].InFlight == 0 })
	for _, attempt := range attempts {
		send(t, own.Conn, cancelMessage("r", attempt, own.NewRespInbox(), ""))
	}
	bustest.Eventually(t, "them to be dropped", func() bool { return svc.Stats().Dropped[micro.DropUnknownCancel] == uint64(len(attempts)) })
	if len(own.answers) > 0 {
		t.Error("a cancel message was answered")
	}
}

// What nats.go's own requests have as reply is the inbox that NewRespInbox is in.
func TestCancelRequest(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	for _, opts := range [][]nats.Option{nil, {nats.CustomInboxPrefix("_INBOX_me")}} {
		t.Run("", func(t *testing.T) {
			conn := connect(t, s, func(cfg *bus.Config) { cfg.Options = opts })
			svc, entered, ended := waiting(t, conn)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			failed := make(chan error, 1)
			go func() {
				_, err := conn.Request(ctx, &nats.Msg{
					Subject: "default.dev.svc.slow.wait", Header: bus.Envelope{RequestID: "r", Timeout: time.Minute}.Header(), Data: []byte(`{}`),
				})
				failed <- err
			}()
			bustest.Receive(t, "the handler", entered)
			send(t, conn.NATS(), cancelMessage("r", "", conn.NATS().NewRespInbox(), ""))
			if err := bustest.Receive(t, "the end of the handler", ended); !errors.Is(err, context.Canceled) {
				t.Errorf("its ctx says %v", err)
			}
			wantCode(t, bustest.Receive(t, "the answer", failed), bus.Canceled)
			_ = svc.stop()
		})
	}
}
