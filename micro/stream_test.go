package micro_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
	wire "github.com/skybus-io/skybus/micro/stream"
)

type number struct {
	N int `json:"n"`
}

func count(ctx context.Context, req number, out *micro.Sender[number]) error {
	for i := range req.N {
		if err := out.Send(ctx, number{i + 1}); err != nil {
			return err
		}
	}
	return nil
}

func sum(_ context.Context, in iter.Seq2[number, error]) (number, error) {
	total := number{}
	for n, err := range in {
		if err != nil {
			return total, err
		}
		total.N += n.N
	}
	return total, nil
}

func double(ctx context.Context, in *micro.Receiver[*number], out *micro.Sender[*number]) error {
	for n, err := range in.All(ctx) {
		if err != nil {
			return err
		}
		if n.N < 0 {
			return bus.Errorf(bus.OutOfRange, "%d is negative", n.N).With("n", fmt.Sprint(n.N))
		}
		if err := out.Send(ctx, &number{2 * n.N}); err != nil {
			return err
		}
	}
	return nil
}

func streams(s *micro.Service) error {
	return errors.Join(
		micro.HandleServerStream(s, "count", count),
		micro.HandleClientStream(s, "sum", sum),
		micro.HandleBidi(s, "double", double),
		micro.Handle(s, "greet", greet),
	)
}

func TestTypedStreams(t *testing.T) {
	t.Parallel()
	for _, codec := range []bus.Codec{bus.MessagePack{}, bus.JSON{}} {
		t.Run(codec.ContentType(), func(t *testing.T) {
			t.Parallel()
			srv := bustest.Server(t)
			i := serve(t, connect(t, srv), micro.Config{Name: "math"}, streams)
			c := newClient(t, connect(t, srv, func(cfg *bus.Config) { cfg.Codec = codec }), micro.ClientConfig{Name: "caller"})
			want := 0
			for n, err := range micro.CallServerStream[number](t.Context(), c, "math.count", number{1000}) {
				if want++; err != nil || n.N != want {
					t.Fatalf("number %d is %v, %v", want, n, err)
				}
			}
			if want != 1000 {
				t.Errorf("%d numbers, want 1000", want)
			}
			up, err := micro.CallClientStream[number, number](t.Context(), c, "math.sum")
			if err != nil {
				t.Fatal(err)
			}
			for n := range 1001 {
				if err := up.Send(t.Context(), number{n}); err != nil {
					t.Fatal(err)
				}
			}
			if total, err := up.Finish(t.Context()); err != nil || total.N != 500500 {
				t.Errorf("the sum is %v, %v", total, err)
			}
			both, err := micro.CallBidi[number, number](t.Context(), c, "math.double")
			if err != nil {
				t.Fatal(err)
			}
			if from := both.Stream.From(); from != i.Address().String() {
				t.Errorf("from %q, want %q", from, i.Address())
			}
			for n := range 10 {
				if err := both.Send(t.Context(), number{n}); err != nil {
					t.Fatal(err)
				}
				if got, err := both.Recv(t.Context()); err != nil || got.N != 2*n {
					t.Fatalf("twice %d is %v, %v", n, got, err)
				}
			}
			if err := both.Send(t.Context(), number{-1}); err != nil {
				t.Fatal(err)
			}
			_, err = both.Recv(t.Context())
			wantCode(t, err, bus.OutOfRange, "-1 is negative")
			if got := busError(t, err).Details["n"]; got != "-1" {
				t.Errorf("detail %q, want -1", got)
			}
			bustest.Eventually(t, "the streams to be counted", func() bool { return countedOnce(i.Stats()) })
		})
	}
}

func countedOnce(s micro.Stats) bool {
	for _, ep := range s.Endpoints {
		if ep.InFlight != 0 || ep.Name != "greet" && ep.Requests != 1 || ep.Name == "double" && ep.Errors != 1 {
			return false
		}
	}
	return true
}

func TestStreamOfOtherKind(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	serve(t, connect(t, srv), micro.Config{Name: "math"}, streams)
	c := newClient(t, connect(t, srv), micro.ClientConfig{})
	_, err := micro.Call[number](t.Context(), c, "math.count", number{1})
	wantCode(t, err, bus.FailedPrecondition, "is a stream")
	_, err = micro.CallBidi[number, number](t.Context(), c, "math.greet")
	wantCode(t, err, bus.FailedPrecondition, "called as a stream")
	_, err = micro.CallBidi[number, number](t.Context(), c, "math.nothing")
	wantCode(t, err, bus.Unimplemented)
	began := time.Now()
	_, err = c.OpenStream(t.Context(), micro.Request{Service: "nobody", Endpoint: "there", Patience: 50 * time.Millisecond})
	wantCode(t, err, bus.Unavailable, "nobody serves nobody.there")
	if time.Since(began) < 50*time.Millisecond {
		t.Error("it was not tried again")
	}
	sees(t, c, "math", 1)
	for _, ep := range c.Registry().Service("math").Online[0].Endpoints {
		if ep.Streams != (ep.Name != "greet") {
			t.Errorf("endpoint %q: Streams is %v", ep.Name, ep.Streams)
		}
	}
}

// A caller that comes before the service finds it as soon as it is there.
func TestStreamWaitsForService(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	c := newClient(t, connect(t, srv), micro.ClientConfig{Patience: patience})
	opened := make(chan error, 1)
	go func() {
		st, err := c.OpenStream(t.Context(), micro.Request{Service: "math", Endpoint: "double"})
		if err == nil {
			err = st.Close()
		}
		opened <- err
	}()
	serve(t, connect(t, srv), micro.Config{Name: "math"}, streams)
	if err := bustest.Receive(t, "the stream", opened); err != nil {
		t.Error(err)
	}
}

func TestStreamHeaders(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	serve(t, connect(t, srv), micro.Config{Name: "raw"}, func(s *micro.Service) error {
		return micro.HandleStream(s, "echo", func(ctx context.Context, st *micro.ServerStream) error {
			info := micro.Info(ctx)
			if info.Endpoint != "echo" || info.RequestID == "" {
				t.Errorf("info %+v", info)
			}
			err := errors.Join(st.SetHeader(nats.Header{"Got": st.Header()["Color"]}), st.SendHeader(), st.SetTrailer(nats.Header{"Bye": {"now"}}))
			if err != nil {
				return err
			}
			if st.SetTrailer(nats.Header{"Nats-Stream": {"x"}}) == nil {
				t.Error("a reserved trailer was taken")
			}
			return st.Send(ctx, append([]byte(st.ContentType()+" "), st.Request()...))
		})
	})
	c := newClient(t, connect(t, srv), micro.ClientConfig{})
	st, err := c.OpenStream(t.Context(), micro.Request{
		Service: "raw", Endpoint: "echo", ContentType: "application/octet-stream", Body: []byte("hi"),
		Header: nats.Header{"Color": {"red"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if h, err := st.Header(t.Context()); err != nil || h.Get("Got") != "red" {
		t.Errorf("header %v, %v", h, err)
	}
	if data, err := st.Recv(t.Context()); err != nil || string(data) != "application/octet-stream hi" {
		t.Errorf("received %q, %v", data, err)
	}
	if _, err := st.Recv(t.Context()); !errors.Is(err, io.EOF) || st.Trailer().Get("Bye") != "now" {
		t.Errorf("end with %v, %v", err, st.Trailer())
	}
}

// waitsForEnd is a service whose stream waits for the end of its ctx and tells of it.
func waitsForEnd(ended chan<- error, opts ...micro.EndpointOption) func(*micro.Service) error {
	return func(s *micro.Service) error {
		return micro.HandleStream(s, "wait", func(ctx context.Context, st *micro.ServerStream) error {
			if err := st.Send(ctx, nil); err != nil {
				return err
			}
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return ctx.Err()
		}, opts...)
	}
}

func TestStreamEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	ended := make(chan error, 1)
	serve(t, connect(t, srv), micro.Config{Name: "s", Streams: wire.Config{PingInterval: 200 * time.Millisecond}}, waitsForEnd(ended))
	c := newClient(t, connect(t, srv), micro.ClientConfig{})
	for _, err := range micro.CallServerStream[[]byte](t.Context(), c, "s.wait", nil) {
		if err != nil {
			t.Error(err)
		}
		break
	}
	wantCode(t, bustest.Receive(t, "the handler to end", ended), bus.Canceled)

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	st, err := c.OpenStream(ctx, micro.Request{Service: "s", Endpoint: "wait"})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, bustest.Receive(t, "the handler to end", ended), bus.DeadlineExceeded)
	_, _ = st.Recv(t.Context())
	_, err = st.Recv(t.Context())
	wantCode(t, err, bus.DeadlineExceeded)

	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: srv})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = newClient(t, conn, micro.ClientConfig{}).OpenStream(t.Context(), micro.Request{Service: "s", Endpoint: "wait"}); err != nil {
		t.Fatal(err)
	}
	conn.NATS().Close()
	// Nothing is sent to it, so it is the pings that find out.
	wantCode(t, bustest.Receive(t, "the handler to end", ended), bus.Unavailable)
}

func TestStreamsDrain(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	c := newClient(t, connect(t, srv), micro.ClientConfig{})
	hasty := newClient(t, c.Conn(), micro.ClientConfig{Registry: c.Registry(), Patience: -1})
	serveOne := func(drain time.Duration) (*instance, *micro.Duplex[number, number]) {
		i := serve(t, connect(t, srv), micro.Config{Name: "math", Drain: drain}, streams)
		both, err := micro.CallBidi[number, number](t.Context(), c, "math.double", micro.ToInstance(i.id))
		if err != nil {
			t.Fatal(err)
		}
		return i, both
	}
	i, both := serveOne(patience)
	stopped := make(chan error, 1)
	go func() { stopped <- i.stop() }()
	bustest.Eventually(t, "the service to take no more", func() bool {
		late, err := micro.CallBidi[number, number](t.Context(), hasty, "math.double", micro.ToInstance(i.id))
		if err == nil {
			_ = late.Close() // it would be waited for
		}
		return err != nil
	})
	for n := range 10 {
		if err := both.Send(t.Context(), number{n}); err != nil {
			t.Fatal(err)
		}
		if got, err := both.Recv(t.Context()); err != nil || got.N != 2*n {
			t.Fatalf("twice %d is %v, %v", n, got, err)
		}
	}
	if err := both.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := both.Recv(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v", err)
	}
	if err := bustest.Receive(t, "the service to stop", stopped); err != nil {
		t.Error(err)
	}

	i, both = serveOne(50 * time.Millisecond)
	if err := i.stop(); err != nil {
		t.Logf("stopped: %v", err)
	}
	_, err := both.Recv(t.Context())
	wantCode(t, err, bus.Unavailable, "stopped")
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	ended := make(chan error, 2)
	i := serve(t, connect(t, srv), micro.Config{Name: "s", Streams: wire.Config{MaxStreams: 2}}, waitsForEnd(ended, micro.Concurrency(1)))
	c := newClient(t, connect(t, srv), micro.ClientConfig{Patience: -1})
	st, err := c.OpenStream(t.Context(), micro.Request{Service: "s", Endpoint: "wait"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.OpenStream(t.Context(), micro.Request{Service: "s", Endpoint: "wait"})
	wantCode(t, err, bus.Unavailable, "handles 1 requests already")
	if shed := i.Stats().Endpoints[0].Shed; shed != 1 {
		t.Errorf("%d shed, want 1", shed)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, bustest.Receive(t, "the first to end", ended), bus.Canceled)
}

func TestStreamPanics(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	serve(t, connect(t, srv), micro.Config{Name: "s"}, func(s *micro.Service) error {
		return micro.HandleStream(s, "boom", func(context.Context, *micro.ServerStream) error { panic("boom") })
	})
	c := newClient(t, connect(t, srv), micro.ClientConfig{})
	for _, err := range micro.CallServerStream[number](t.Context(), c, "s.boom", nil) {
		wantCode(t, err, bus.Internal, "panicked")
		if strings.Contains(err.Error(), "boom;") {
			t.Errorf("%v tells too much", err)
		}
	}
}

// A large request opens a stream as a small one does, and so do large messages pass.
func TestStreamOfLargeMessages(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t, bustest.MaxPayload(16<<10))
	serve(t, connect(t, srv), micro.Config{Name: "s"}, func(s *micro.Service) error {
		return micro.HandleServerStream(s, "twice", func(ctx context.Context, req []byte, out *micro.Sender[[]byte]) error {
			return errors.Join(out.Send(ctx, req), out.Send(ctx, req))
		})
	})
	c := newClient(t, connect(t, srv), micro.ClientConfig{})
	n := 0
	for got, err := range micro.CallServerStream[[]byte](t.Context(), c, "s.twice", pattern(1<<20)) {
		if n++; err != nil || string(got) != string(pattern(1<<20)) {
			t.Fatalf("received %d bytes, %v", len(got), err)
		}
	}
	if n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}
