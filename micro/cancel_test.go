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

func TestCancel(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	svc, entered, ended := waiting(t, connect(t, s))
	own, other := s.Connect(t), s.Connect(t)
	answers := make(chan *nats.Msg, 10)
	if _, err := own.ChanSubscribe(own.NewRespInbox(), answers); err != nil {
		t.Fatal(err)
	}
	inbox := own.NewRespInbox()
	if _, err := own.ChanSubscribe(inbox, answers); err != nil {
		t.Fatal(err)
	}
	begin := func(id, attempt string) {
		send(t, own, &nats.Msg{
			Subject: "default.dev.svc.slow.wait", Reply: inbox, Data: []byte(`{}`),
			Header: nats.Header{"Skybus-Request-Id": {id}, "Skybus-Attempt": {attempt}},
		})
		receive(t, entered, "the handler")
	}
	begin("r1", "2")
	mine := own.NewRespInbox()
	foreign := []*nats.Msg{
		cancelMessage("r1", "2", other.NewRespInbox(), ""), // another connection's
		cancelMessage("r1", "2", "_INBOX.x", ""),           // nobody's own
		cancelMessage("", "2", mine, ""),
		cancelMessage("r1", "0", mine, ""),
	}
	for _, m := range foreign {
		send(t, other, m)
	}
	unknown := []*nats.Msg{
		cancelMessage("r1", "1", mine, ""), cancelMessage("r1", "", mine, ""), cancelMessage("r2", "2", mine, ""),
		cancelMessage("r1", "2", mine, "other"),
	}
	for _, m := range unknown {
		send(t, own, m)
	}
	send(t, own, cancelMessage("r1", "2", "", ""))
	send(t, own, cancelMessage("r1", "2", "default.dev.svc.slow.wait", ""))
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
	send(t, own, cancelMessage("r1", "2", mine, "wait"))
	if err := receive(t, ended, "the end of the handler"); !errors.Is(err, context.Canceled) {
		t.Errorf("its ctx says %v", err)
	}
	wantError(t, receive(t, answers, "the answer"), bus.Canceled, 499, "was canceled by its caller")
	bustest.Eventually(t, "the figures", func() bool { return svc.Stats().Endpoints[0].Errors == 1 })
	// Of several with the same id the right ones end, and nothing is left of them.
	begin("r3", "1")
	begin("r3", "2")
	begin("r3", "3")
	for _, attempt := range []string{"2", "1", "3"} {
		send(t, own, cancelMessage("r3", attempt, own.NewRespInbox(), ""))
		receive(t, ended, "the end of attempt "+attempt)
		wantError(t, receive(t, answers, "the answer"), bus.Canceled, 499)
		if len(ended) > 0 {
			t.Error("another ended too")
		}
	}
	send(t, own, cancelMessage("r3", "1", own.NewRespInbox(), ""))
	bustest.Eventually(t, "one more to be dropped", func() bool {
		return svc.Stats().Dropped[micro.DropUnknownCancel] == uint64(len(unknown)+1)
	})
	if len(answers) > 0 {
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
			receive(t, entered, "the handler")
			send(t, conn.NATS(), cancelMessage("r", "", conn.NATS().NewRespInbox(), ""))
			receive(t, ended, "the end of the handler")
			wantCode(t, receive(t, failed, "the answer"), bus.Canceled)
			_ = svc.stop()
		})
	}
}
