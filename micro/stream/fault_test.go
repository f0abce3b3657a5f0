package stream_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/stream"
)

func TestOpenRefused(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	near, far := connect(t, srv), connect(t, srv)
	m := newMux(t, near, stream.Config{})
	began := time.Now()
	_, err := m.Open(t.Context(), &nats.Msg{Subject: "nobody"})
	wantCode(t, err, bus.Unavailable)
	if !errors.Is(err, bus.ErrNoResponders) || time.Since(began) > 5*time.Second {
		t.Errorf("after %v: %v, want no responders at once", time.Since(began), err)
	}
	for subject, reply := range map[string]*nats.Msg{
		"plain":   {Data: []byte("{}")},
		"refused": bus.NewErrorReply(bus.JSON{}, bus.Errorf(bus.NotFound, "gone fishing")),
	} {
		if _, err := far.NATS().Subscribe(subject, func(msg *nats.Msg) { _ = msg.RespondMsg(reply) }); err != nil {
			t.Fatal(err)
		}
	}
	accepts(t, far, newMux(t, far, stream.Config{MaxStreams: 1}), "one", func(context.Context, *stream.Stream, *nats.Msg) {})
	if err := far.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	_, err = m.Open(t.Context(), &nats.Msg{Subject: "plain"})
	wantCode(t, err, bus.FailedPrecondition, "plain request")
	_, err = m.Open(t.Context(), &nats.Msg{Subject: "refused"})
	wantCode(t, err, bus.NotFound, "gone fishing")
	open(t, m, "one")
	_, err = m.Open(t.Context(), &nats.Msg{Subject: "one"})
	wantCode(t, err, bus.ResourceExhausted, "MaxStreams")
	if n := m.Stats().Open; n != 1 {
		t.Errorf("%d streams, want 1", n)
	}
}

// What asks for a stream in the name of another is not accepted.
func TestAcceptRefusesDeputies(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	m := newMux(t, conn, stream.Config{})
	for name, msg := range map[string]*nats.Msg{
		"no reply":      {Header: nats.Header{bus.HeaderStream: {"open 0 1 1000"}}},
		"foreign reply": {Reply: "orders.new", Header: nats.Header{bus.HeaderStream: {"open 0 1 1000"}}},
		"of a stream":   {Reply: "_INBOX.x", Header: nats.Header{bus.HeaderStream: {"open 0 1 1000"}, "Nats-Stream": {"S"}}},
		"no frame":      {Reply: "_INBOX.x"},
		"another frame": {Reply: "_INBOX.x", Header: nats.Header{bus.HeaderStream: {"data 1"}}},
		"bad time":      {Reply: "_INBOX.x", Header: nats.Header{bus.HeaderStream: {"open 0 1 1000"}, bus.HeaderTimeout: {"-1"}}},
	} {
		if _, _, err := m.Accept(t.Context(), msg, nil); bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("%s: %v, want invalid_argument", name, err)
		}
	}
}

func TestPeerKilled(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	near, far := connect(t, srv), connect(t, srv)
	a, b, _ := pair(t, near, far, stream.Config{}, stream.Config{})
	send(t, a, "hello")
	wantMsg(t, b, "hello")
	far.NATS().Close()
	began := time.Now()
	for err := error(nil); err == nil; {
		if err = a.Send(t.Context(), []byte("anybody there?")); err != nil {
			wantCode(t, err, bus.Unavailable)
		}
	}
	if took := time.Since(began); took > stream.DefaultPingInterval {
		t.Errorf("noticed after %v, want less than between two pings", took)
	}
	wantCode(t, recvErr(t, b), bus.Unavailable) // the closed side knows as well
}

func TestReconnectEndsStreams(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	near, far := connect(t, srv), connect(t, srv)
	a, b, done := pair(t, near, far, stream.Config{}, stream.Config{})
	srv.Restart(t)
	wantCode(t, recvErr(t, a), bus.Unavailable)
	wantCode(t, recvErr(t, b), bus.Unavailable)
	receive(t, done, "the ctx to end")
}

// What waited for the connection is open on the new one: that the old one was lost is none of its business.
func TestReconnectKeepsNewStreams(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	near, far := connect(t, srv), connect(t, srv)
	const subject = "echo"
	accepts(t, far, newMux(t, far, stream.Config{}), subject, func(ctx context.Context, s *stream.Stream, _ *nats.Msg) {
		if m, err := s.Recv(ctx); err == nil {
			_ = s.Send(ctx, m)
		}
	})
	mux := newMux(t, near, stream.Config{})
	for range 20 {
		old := open(t, mux, subject)
		if err := near.NATS().ForceReconnect(); err != nil {
			t.Fatal(err)
		}
		noticed := make(chan struct{})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				s, err := mux.Open(t.Context(), nats.NewMsg(subject))
				<-noticed
				if err == nil {
					err = s.Send(t.Context(), []byte("x"))
				}
				if err == nil {
					_, err = s.Recv(t.Context())
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wantCode(t, recvErr(t, old), bus.Unavailable)
		close(noticed)
		wg.Wait()
	}
}

// freezer is a dialer whose connections stop moving bytes, as those of a stopped process do.
type freezer struct {
	dialer nats.InProcessConnProvider

	mu     sync.Mutex
	frozen chan struct{} // closed while bytes move
}

type frozenConn struct {
	net.Conn

	f *freezer
}

func (f *freezer) InProcessConn() (net.Conn, error) {
	c, err := f.dialer.InProcessConn()
	return frozenConn{c, f}, err
}

func (f *freezer) wait() {
	f.mu.Lock()
	ch := f.frozen
	f.mu.Unlock()
	<-ch
}

func (f *freezer) freeze() (thaw func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ch := make(chan struct{})
	f.frozen = ch
	return sync.OnceFunc(func() { close(ch) })
}

func (c frozenConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.f.wait()
	return n, err
}

func (c frozenConn) Write(b []byte) (int, error) {
	c.f.wait()
	return c.Conn.Write(b)
}

func TestFrozenPeer(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	f := &freezer{dialer: srv}
	f.freeze()()
	cfg := stream.Config{PingInterval: 50 * time.Millisecond, DeadAfter: 500 * time.Millisecond}
	far, err := bus.Connect(t.Context(), bus.Config{InProcess: f})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() }) // as elsewhere
	a, b, done := pair(t, connect(t, srv), far, cfg, cfg)
	<-time.After(3 * cfg.DeadAfter) // idle, which is not dead
	send(t, a, "idle")
	wantMsg(t, b, "idle")
	thaw := f.freeze()
	defer thaw()
	began := time.Now()
	wantCode(t, recvErr(t, a), bus.Unavailable, "silent")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("noticed after %v, want %v", took, cfg.DeadAfter)
	}
	thaw()
	receive(t, done, "the thawed side to learn of it")
	wantCode(t, recvErr(t, b), bus.Unavailable)
}

func TestCancelBothWays(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	near, far := connect(t, srv), connect(t, srv)
	m := newMux(t, near, stream.Config{})
	type end struct {
		done     <-chan struct{}
		deadline time.Time
		s        *stream.Stream
	}
	got := make(chan end, 1)
	accepts(t, far, newMux(t, far, stream.Config{}), "s", func(ctx context.Context, s *stream.Stream, _ *nats.Msg) {
		deadline, _ := ctx.Deadline()
		got <- end{ctx.Done(), deadline, s}
	})

	ctx, cancel := context.WithCancel(t.Context())
	a, err := m.Open(ctx, &nats.Msg{Subject: "s"})
	if err != nil {
		t.Fatal(err)
	}
	b := receive(t, got, "the stream")
	cancel()
	receive(t, b.done, "the ctx of the handler to end")
	wantCode(t, recvErr(t, b.s), bus.Canceled)
	wantCode(t, recvErr(t, a), bus.Canceled)

	a = open(t, m, "s")
	b = receive(t, got, "the stream")
	send(t, b.s, "dropped")
	b.s.Cancel(bus.Errorf(bus.Aborted, "changed my mind"))
	wantCode(t, recvErr(t, a), bus.Aborted, "changed my mind")
	wantCode(t, a.Send(t.Context(), nil), bus.Aborted)

	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if a, err = m.Open(ctx, &nats.Msg{Subject: "s"}); err != nil {
		t.Fatal(err)
	}
	b = receive(t, got, "the stream")
	if left := time.Until(b.deadline); b.deadline.IsZero() || left > 100*time.Millisecond {
		t.Errorf("the handler has %v, want at most 100ms", left)
	}
	receive(t, b.done, "the handler's time to be over")
	wantCode(t, recvErr(t, b.s), bus.DeadlineExceeded)
	wantCode(t, recvErr(t, a), bus.DeadlineExceeded)
}

// An Open that was given up before it was answered leaves nothing behind at who accepts it later.
func TestOpenGivenUp(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	near, far := connect(t, srv), connect(t, srv)
	asked := make(chan *nats.Msg, 1)
	sub, err := far.NATS().ChanSubscribe("late", asked)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := far.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	m, n := newMux(t, near, stream.Config{}), newMux(t, far, stream.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		<-asked
	}()
	msg := &nats.Msg{Subject: "late"}
	_, err = m.Open(ctx, msg)
	wantCode(t, err, bus.Canceled)
	hctx, _, err := n.Accept(t.Context(), &nats.Msg{Reply: msg.Reply, Header: msg.Header}, nil)
	if err != nil {
		t.Fatal(err)
	}
	receive(t, hctx.Done(), "the accepted stream to end")
	if m.Stats().Open+n.Stats().Open != 0 {
		t.Errorf("streams left: %+v, %+v", m.Stats(), n.Stats())
	}
}

func TestCloseEndsAll(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	near, far := connect(t, srv), connect(t, srv)
	accepts(t, far, newMux(t, far, stream.Config{}), "s", func(context.Context, *stream.Stream, *nats.Msg) {})
	m, err := stream.New(near, stream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, m, "s")
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Fatal(err)
	}
	wantCode(t, recvErr(t, s), bus.Unavailable)
	_, err = m.Open(t.Context(), &nats.Msg{Subject: "s"})
	wantCode(t, err, bus.Unavailable)
	if n := near.NATS().NumSubscriptions(); n != 0 {
		t.Errorf("%d subscriptions left", n)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	for field, cfg := range map[string]stream.Config{
		"Window":       {Window: -1},
		"WindowBytes":  {WindowBytes: 10},
		"MaxMessage":   {MaxMessage: -1},
		"MaxStreams":   {MaxStreams: -1},
		"PingInterval": {PingInterval: time.Second, DeadAfter: time.Second},
	} {
		_, err := stream.New(conn, cfg)
		wantCode(t, err, bus.InvalidArgument, field)
	}
}
