package bus_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

func TestRequest(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	service, caller := connect(t, s, bus.Config{}), connect(t, s, bus.Config{})
	serve(t, service, "double", func(m *nats.Msg) *nats.Msg {
		return &nats.Msg{Data: append(m.Data, m.Data...), Header: nats.Header{"X": m.Header["X"]}}
	})
	msg := &nats.Msg{Subject: "double", Data: []byte("ab"), Header: nats.Header{"X": {"1", "2"}}}
	reply, err := request(t, caller, patience, msg)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%s %v", reply.Data, reply.Header["X"]), "abab [1 2]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if msg.Reply != "" || string(msg.Data) != "ab" {
		t.Errorf("the caller's message was changed: %+v", msg)
	}
}

func TestRequestNoResponders(t *testing.T) {
	t.Parallel()
	c := connect(t, bustest.Server(t), bus.Config{})
	begin := time.Now()
	_, err := request(t, c, patience, &nats.Msg{Subject: "nobody"})
	if took := time.Since(begin); took > soon {
		t.Errorf("took %v, want it at once", took)
	}
	wantCode(t, err, bus.Unavailable)
	if !errors.Is(err, bus.ErrNoResponders) || !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("%v holds not both ErrNoResponders and NATS's own", err)
	}
	if !strings.Contains(err.Error(), "nobody listens on nobody") {
		t.Errorf("text: %v", err)
	}
}

// Who listens and does not answer is no reason to send again.
func TestRequestDeadline(t *testing.T) {
	t.Parallel()
	c := connect(t, bustest.Server(t), bus.Config{})
	heard := inbox(t, c, "silent")
	_, err := request(t, c, 50*time.Millisecond, &nats.Msg{Subject: "silent"})
	wantCode(t, err, bus.DeadlineExceeded)
	if errors.Is(err, bus.ErrNoResponders) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("chain of %v: want the context's error and not ErrNoResponders", err)
	}
	bustest.Receive(t, "request", heard)
	works(t, c, clientID(t, c))
}

func TestRequestCancel(t *testing.T) {
	t.Parallel()
	c := connect(t, bustest.Server(t), bus.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	subscribe(t, c, "silent", func(*nats.Msg) { cancel() })
	_, err := c.Request(ctx, &nats.Msg{Subject: "silent"})
	wantCode(t, err, bus.Canceled)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not hold context.Canceled", err)
	}

	_, err = c.Request(ctx, &nats.Msg{Subject: "silent"})
	wantCode(t, err, bus.Canceled)
}

func TestMaxPayload(t *testing.T) {
	t.Parallel()
	const limit = 4096
	s := bustest.Server(t, bustest.MaxPayload(limit))
	c := connect(t, s, bus.Config{})
	id := clientID(t, c)
	heard := inbox(t, c, "big")
	tests := map[string]*nats.Msg{
		"body":             {Data: make([]byte, limit+1)},
		"headers":          {Header: nats.Header{"X": {strings.Repeat("x", limit)}}},
		"body and headers": {Data: make([]byte, limit-10), Header: nats.Header{"X": {"1234567890"}}},
		"far too large":    {Data: make([]byte, 100*limit)},
	}
	for name, msg := range tests {
		msg.Subject = "big"
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			_, err := request(t, c, patience, msg)
			if took := time.Since(begin); took > soon {
				t.Errorf("took %v, want it at once", took)
			}
			for how, err := range map[string]error{"request": err, "publish": c.Publish(msg)} {
				wantCode(t, err, bus.ResourceExhausted)
				if got := bus.AsError(err).HTTPStatus(); got != http.StatusRequestEntityTooLarge {
					t.Errorf("%s: status %d, want 413", how, got)
				}
				if !strings.Contains(err.Error(), "max_payload") {
					t.Errorf("%s: the error does not say what to configure: %v", how, err)
				}
			}
			works(t, c, id)
		})
	}
	if err := c.Publish(&nats.Msg{Subject: "big", Data: make([]byte, limit)}); err != nil {
		t.Errorf("the largest message: %v", err)
	}
	if got := bustest.Receive(t, "the largest message", heard); len(got.Data) != limit {
		t.Errorf("%d bytes came, want %d: what was refused was sent", len(got.Data), limit)
	}
}

// A received message knows its size on the wire, which is another one when it goes on to a shorter subject.
func TestMaxPayloadOfForwardedMessage(t *testing.T) {
	t.Parallel()
	const limit = 4096
	c := connect(t, bustest.Server(t, bustest.MaxPayload(limit)), bus.Config{})
	long, short := inbox(t, c, "long."+strings.Repeat("x", 64)), inbox(t, c, "s")
	if err := c.Publish(&nats.Msg{Subject: "long." + strings.Repeat("x", 64), Data: make([]byte, limit)}); err != nil {
		t.Fatal(err)
	}
	msg := bustest.Receive(t, "message", long)
	msg.Subject = "s"
	if err := c.Publish(msg); err != nil {
		t.Fatalf("forward: %v", err)
	}
	if got := bustest.Receive(t, "forwarded message", short); len(got.Data) != limit {
		t.Errorf("got %d bytes, want %d", len(got.Data), limit)
	}
}

// One such name, sent, closes the connection for good: see TestClosedByServer.
func TestLongSubject(t *testing.T) {
	t.Parallel()
	c := connect(t, bustest.Server(t), bus.Config{})
	id := clientID(t, c)
	long := strings.Repeat("n", 5000)
	tests := map[string]*nats.Msg{
		"one token":         {Subject: long},
		"in a service":      {Subject: c.Namespace().ServiceSubject(long, "get")},
		"many tokens":       {Subject: strings.Repeat("a.", 2500) + "a"},
		"reply":             {Subject: "a", Reply: "_INBOX." + long},
		"subject and reply": {Subject: long[:2500], Reply: "_INBOX." + long[:2500]},
		"5 MB":              {Subject: strings.Repeat(long, 1000)},
	}
	for name, msg := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := request(t, c, patience, msg)
			wantRefused(t, err)
			wantRefused(t, c.Publish(msg))
			works(t, c, id)
		})
	}
}

// The longest subject that is taken leaves room for the reply inbox, also a long one.
func TestLongestSubject(t *testing.T) {
	t.Parallel()
	c := connect(t, bustest.Server(t), bus.Config{Options: []nats.Option{nats.CustomInboxPrefix("_INBOX_" + strings.Repeat("p", 200))}})
	id := clientID(t, c)
	longest := 0
	for n := 3500; ; n++ {
		msg := &nats.Msg{Subject: strings.Repeat("n", n), Header: nats.Header{"X": {"1"}}, Data: make([]byte, 1<<19)}
		_, err := request(t, c, patience, msg)
		if bus.CodeOf(err) == bus.InvalidArgument {
			break
		}
		if !errors.Is(err, bus.ErrNoResponders) {
			t.Fatalf("subject of %d bytes: %v", n, err)
		}
		longest = n
	}
	if longest < 3500 {
		t.Error("a subject of 3,500 bytes is refused")
	}
	works(t, c, id)
}

func TestBadSubject(t *testing.T) {
	t.Parallel()
	c := connect(t, bustest.Server(t), bus.Config{})
	id := clientID(t, c)
	for _, subject := range []string{"", " ", "a b", "a\tb", "a\r\nPUB x 1\r\n1\r\n", "\n"} {
		_, err := request(t, c, patience, &nats.Msg{Subject: subject})
		wantCode(t, err, bus.InvalidArgument)
		wantCode(t, c.Publish(&nats.Msg{Subject: subject}), bus.InvalidArgument)
	}
	// These are legal for NATS, and nobody listens there.
	for _, subject := range []string{"a\x00b", "é", "a..b"} {
		if _, err := request(t, c, patience, &nats.Msg{Subject: subject}); !errors.Is(err, bus.ErrNoResponders) {
			t.Errorf("%q: %v, want no responders", subject, err)
		}
	}
	works(t, c, id)
}

// A header must not become two, or end the headers.
func TestHeaderValueWithLines(t *testing.T) {
	t.Parallel()
	c := connect(t, bustest.Server(t), bus.Config{})
	got := inbox(t, c, "h")
	h := bus.Envelope{RequestID: "a\r\nSkybus-Attempt: 7\r\n\r\nbody"}.Header()
	if err := c.Publish(&nats.Msg{Subject: "h", Header: h, Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	msg := bustest.Receive(t, "message", got)
	e, err := bus.ReadEnvelope(msg.Header)
	if err != nil || e.Attempt != 1 || string(msg.Data) != "x" {
		t.Errorf("got %+v, body %q, %v", e, msg.Data, err)
	}
}

func TestRequestWaitsForTheServer(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := connect(t, s, bus.Config{})
	echo(t, c)
	stopServer(t, s, c)

	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		reply, err := c.Request(ctx, &nats.Msg{Subject: "echo", Data: []byte("x")})
		if err == nil && string(reply.Data) != "x" {
			err = fmt.Errorf("reply %q", reply.Data)
		}
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("request returned while the server was down: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	s.Start(t)
	if err := bustest.Receive(t, "reply", done); err != nil {
		t.Errorf("request: %v", err)
	}
}

// Nobody knows whether it was handled, so it is not sent again.
func TestRequestInFlightWhenTheConnectionBreaks(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := connect(t, s, bus.Config{})
	heard := inbox(t, c, "silent")
	loss := make(chan struct{}, 1)
	defer c.NotifyLoss(loss)()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := c.Request(ctx, &nats.Msg{Subject: "silent"})
		done <- err
	}()
	bustest.Receive(t, "request", heard)
	s.Restart(t)
	bustest.Receive(t, "notice of the loss", loss)
	flush(t, c)
	if len(heard) != 0 {
		t.Error("the request was sent again")
	}
	select {
	case err := <-done:
		t.Errorf("the request ended with the connection: %v", err)
	default:
	}
	cancel()
	wantCode(t, bustest.Receive(t, "error", done), bus.Canceled)
}

// Nothing was sent, so it is unavailable, which says that it is safe to try again, and not deadline_exceeded.
func TestRequestWhileTheServerIsDown(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	c := connect(t, s, bus.Config{})
	stopServer(t, s, c)
	waitLost(t, c)

	begin := time.Now()
	_, err := request(t, c, 100*time.Millisecond, &nats.Msg{Subject: "echo"})
	wantCode(t, err, bus.Unavailable)
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, bus.ErrNoResponders) {
		t.Errorf("chain of %v: want the context's error and not ErrNoResponders", err)
	}
	if took := time.Since(begin); took < 100*time.Millisecond || took > soon {
		t.Errorf("took %v, want its deadline of 100 ms", took)
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the user left"))
	_, err = c.Request(ctx, &nats.Msg{Subject: "echo"})
	wantCode(t, err, bus.Canceled)

	if _, err := request(t, c, patience, &nats.Msg{Subject: "echo", Data: make([]byte, 2<<20)}); bus.CodeOf(err) != bus.ResourceExhausted {
		t.Errorf("too large a message: %v, want resource_exhausted at once", err)
	}
}

// waitLost waits until c itself has been told that the connection is lost, which is a moment after it is.
func waitLost(t *testing.T, c *bus.Conn) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	bustest.Eventually(t, "told of the loss", func() bool { return c.WaitConnected(ctx) != nil })
}

// nats.go tells of a lost connection a moment after it is lost.
func TestRequestJustAfterLoss(t *testing.T) {
	t.Parallel()
	server := bustest.Server(t)
	c := connect(t, server, bus.Config{})
	for range 5 {
		server.Stop()
		for c.NATS().IsConnected() {
			runtime.Gosched()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := c.Request(ctx, &nats.Msg{Subject: "x.y"})
		cancel()
		if code := bus.CodeOf(err); code != bus.Unavailable {
			t.Errorf("%v, want %s", err, bus.Unavailable)
		}
		server.Start(t)
		bustest.Eventually(t, "the connection to be back", c.NATS().IsConnected)
	}
}
