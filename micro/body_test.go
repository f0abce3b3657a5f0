package micro_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

func echoBytes(_ context.Context, body []byte) ([]byte, error) { return body, nil }

// pattern is n bytes that differ by where they stand.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func TestLargeBodies(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t, bustest.MaxPayload(16<<10))
	serve(t, connect(t, srv), micro.Config{Name: "files", MaxBody: 1 << 20}, endpoints(
		endpoint("echo", echoBytes),
		endpoint("size", func(_ context.Context, body []byte) (int, error) { return len(body), nil }),
		endpoint("make", func(_ context.Context, n int) ([]byte, error) { return pattern(n), nil }),
	))
	c := newClient(t, connect(t, srv), micro.ClientConfig{MaxBody: 2 << 20})
	for _, n := range []int{1, 15 << 10, 16<<10 - 100, 16 << 10, 17 << 10, 100_000, 1 << 20} {
		got, err := micro.Call[[]byte](t.Context(), c, "files.echo", pattern(n))
		if err != nil || !bytes.Equal(got, pattern(n)) {
			t.Errorf("%d bytes came back as %d, %v", n, len(got), err)
		}
		size, err := micro.Call[int](t.Context(), c, "files.size", pattern(n))
		if err != nil || size != n {
			t.Errorf("%d bytes arrived as %d, %v", n, size, err)
		}
	}
	_, err := micro.Call[int](t.Context(), c, "files.size", make([]byte, 1<<20+1))
	wantTooLarge(t, err, "the request has 1048577 bytes")
	_, err = micro.Call[int](t.Context(), c, "files.size", make([]byte, 2<<20+1))
	wantTooLarge(t, err, "the request has 2097153 bytes")
	_, err = micro.Call[[]byte](t.Context(), c, "files.make", 1<<20+1)
	wantTooLarge(t, err, "the response has 1048577 bytes")
	small := newClient(t, connect(t, srv), micro.ClientConfig{MaxBody: 32 << 10})
	_, err = micro.Call[[]byte](t.Context(), small, "files.make", 33<<10)
	wantTooLarge(t, err, "the response has 33792 bytes")
}

func wantTooLarge(t *testing.T, err error, text string) {
	t.Helper()
	wantCode(t, err, bus.ResourceExhausted, text)
	if status := busError(t, err).HTTPStatus(); status != 413 {
		t.Errorf("status %d, want 413", status)
	}
}

func TestLargeBodiesOfAll(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t, bustest.MaxPayload(16<<10))
	for range 2 {
		serve(t, connect(t, srv), micro.Config{Name: "files"}, endpoint("echo", echoBytes))
	}
	c := newClient(t, connect(t, srv), micro.ClientConfig{})
	sees(t, c, "files", 2)
	n := 0
	for g, err := range micro.CallAll[[]byte](t.Context(), c, "files.echo", pattern(100_000)) {
		if n++; err != nil || !bytes.Equal(g.Resp, pattern(100_000)) {
			t.Errorf("%d bytes came from %s, %v", len(g.Resp), g.From, err)
		}
	}
	if n != 2 {
		t.Errorf("%d answers, want 2", n)
	}
}

func TestHugeBodies(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 128 MB")
	}
	srv := bustest.Server(t)
	serve(t, connect(t, srv), micro.Config{Name: "files"}, endpoint("echo", echoBytes))
	c := newClient(t, connect(t, srv), micro.ClientConfig{Timeout: time.Minute})
	want := pattern(64 << 20)
	got, err := micro.Call[[]byte](t.Context(), c, "files.echo", want)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back as %d, %v", len(want), len(got), err)
	}
}

// What does not fit within all bounds at a time is refused, and fits when the others are done.
func TestManyLargeBodies(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t, bustest.MaxPayload(16<<10))
	const size = 64 << 10
	entered, leave := make(chan struct{}, 8), make(chan struct{})
	serve(t, connect(t, srv), micro.Config{Name: "files", MaxBody: size}, endpoint("hold", func(_ context.Context, body []byte) (int, error) {
		entered <- struct{}{}
		<-leave
		return len(body), nil
	}))
	c := newClient(t, connect(t, srv), micro.ClientConfig{MaxBody: 4 * size})
	done := make(chan error, 4)
	for range 4 {
		go func() {
			_, err := micro.Call[int](t.Context(), c, "files.hold", make([]byte, size))
			done <- err
		}()
	}
	for range 4 {
		bustest.Receive(t, "a handler to have its body", entered)
	}
	_, err := micro.Call[int](t.Context(), c, "files.hold", make([]byte, size))
	wantCode(t, err, bus.ResourceExhausted, "too many large ones")
	close(leave)
	for range 4 {
		if err := bustest.Receive(t, "an answer", done); err != nil {
			t.Error(err)
		}
	}
	if _, err := micro.Call[int](t.Context(), c, "files.hold", make([]byte, size)); err != nil {
		t.Error(err)
	}
}

// Callers of other makes are told that the response does not fit, and are not waited for.
func TestLargeResponseToOthers(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t, bustest.MaxPayload(16<<10))
	i := serve(t, connect(t, srv), micro.Config{Name: "files"}, endpoint("make", func(_ context.Context, n int) ([]byte, error) { return pattern(n), nil }))
	nc := srv.Connect(t)
	reply, err := nc.Request("default.dev.svc.files.make", []byte("20000"), patience)
	if err != nil {
		t.Fatal(err)
	}
	if got := reply.Header.Get(bus.HeaderServiceErrorCode); got != "413" || reply.Header.Get(bus.HeaderBody) != "" {
		t.Errorf("reply with the headers %v, want a 413 alone", reply.Header)
	}
	// One that claims to be a client and fetches nothing is dropped at its deadline.
	msg := &nats.Msg{Subject: "default.dev.svc.files.make", Data: []byte("20000"), Header: nats.Header{bus.HeaderRequestID: {"x"}, bus.HeaderTimeout: {"50"}}}
	if reply, err = nc.RequestMsg(msg, patience); err != nil {
		t.Fatal(err)
	}
	if reply.Header.Get(bus.HeaderServiceErrorCode) != "413" || reply.Header.Get(bus.HeaderBody) == "" {
		t.Errorf("reply with the headers %v, want a 413 and where the body is", reply.Header)
	}
	bustest.Eventually(t, "the response to be given up", func() bool { return i.Stats().Endpoints[0].Errors == 2 })
}

// Where a body is said to be is an inbox, or the service would ask for streams in its own name.
func TestBodyOfForeignSubject(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	serve(t, connect(t, srv), micro.Config{Name: "files"}, endpoint("echo", echoBytes))
	nc := srv.Connect(t)
	for header, code := range map[string]bus.Code{
		"10 orders.new":          bus.InvalidArgument,
		"ten _INBOX.x":           bus.InvalidArgument,
		"-1 _INBOX.x":            bus.InvalidArgument,
		"10":                     bus.InvalidArgument,
		"99999999999 _INBOX.x":   bus.ResourceExhausted,
		"10 _INBOX.gone.already": bus.Unavailable,
	} {
		msg := &nats.Msg{Subject: "default.dev.svc.files.echo", Header: nats.Header{bus.HeaderBody: {header}}}
		reply, err := nc.RequestMsg(msg, patience)
		if err != nil {
			t.Fatal(err)
		}
		if got := reply.Header.Get(bus.HeaderErrorCode); got != string(code) {
			t.Errorf("%q: %s, want %s", header, got, code)
		}
	}
}

// A response that the caller does not want holds nobody up.
func TestLargeResponseRefused(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t, bustest.MaxPayload(16<<10))
	i := serve(t, connect(t, srv), micro.Config{Name: "files"}, endpoint("make", func(_ context.Context, n int) ([]byte, error) { return pattern(n), nil }))
	c := newClient(t, connect(t, srv), micro.ClientConfig{MaxBody: 32 << 10})
	_, err := micro.Call[[]byte](t.Context(), c, "files.make", 33<<10)
	wantTooLarge(t, err, "the response has 33792 bytes")
	began := time.Now()
	if err := i.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > micro.DefaultDrain/2 {
		t.Errorf("the service took %v to stop", took)
	}
}

// A caller that goes while its response waits is no longer waited for.
func TestLargeResponseToNobody(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t, bustest.MaxPayload(16<<10))
	entered, leave := make(chan struct{}), make(chan struct{})
	i := serve(t, connect(t, srv), micro.Config{Name: "files"}, endpoint("make", func(context.Context, []byte) ([]byte, error) {
		entered <- struct{}{}
		<-leave
		return pattern(100_000), nil
	}))
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: srv})
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, conn, micro.ClientConfig{})
	done := make(chan error, 1)
	go func() {
		_, err := micro.Call[[]byte](t.Context(), c, "files.make", []byte{})
		done <- err
	}()
	bustest.Receive(t, "the handler", entered)
	connected := srv.Server().NumClients()
	conn.NATS().Close()
	bustest.Eventually(t, "the server to know that the caller is gone", func() bool { return srv.Server().NumClients() < connected })
	close(leave)
	if err := bustest.Receive(t, "the call to fail", done); err == nil {
		t.Error("the call succeeded")
	}
	began := time.Now()
	if err := i.stop(); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if took := time.Since(began); took > micro.DefaultDrain/2 {
		t.Errorf("the service took %v to stop", took)
	}
}
