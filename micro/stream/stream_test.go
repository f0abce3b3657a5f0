package stream_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/stream"
)

func TestBothWays(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	a, b, done := pair(t, connect(t, srv), connect(t, srv), stream.Config{}, stream.Config{})
	if err := b.SetHeader(nats.Header{"Color": {"red", "blue"}}); err != nil {
		t.Fatal(err)
	}
	send(t, a, "one")
	send(t, a, "")
	wantMsg(t, b, "one")
	wantMsg(t, b, "")
	send(t, b, "two")
	wantMsg(t, a, "two")
	head, err := a.Header(t.Context())
	if diff := cmp.Diff(nats.Header{"Color": {"red", "blue"}}, head); err != nil || diff != "" {
		t.Errorf("header: %v\n%s", err, diff)
	}
	if err := a.CloseSend(nats.Header{"Sum": {"3"}}); err != nil {
		t.Fatal(err)
	}
	wantEOF(t, b)
	if got := b.Trailer().Get("Sum"); got != "3" {
		t.Errorf("trailer %q, want 3", got)
	}
	wantCode(t, a.Send(t.Context(), nil), bus.FailedPrecondition, "CloseSend")
	send(t, b, "three")
	if err := b.Finish(bus.Errorf(bus.NotFound, "no\nmore").With("what", "it"), nats.Header{"Last": {"x"}}); err != nil {
		t.Fatal(err)
	}
	wantMsg(t, a, "three")
	err = recvErr(t, a)
	wantCode(t, err, bus.NotFound, "no\nmore")
	if d := bus.AsError(err).Details["what"]; d != "it" {
		t.Errorf("detail %q, want it", d)
	}
	if got := a.Trailer().Get("Last"); got != "x" {
		t.Errorf("trailer %q, want x", got)
	}
	receive(t, done, "the ctx of a finished stream to end")
}

func TestFinishWell(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	a, b, _ := pair(t, connect(t, srv), connect(t, srv), stream.Config{}, stream.Config{})
	send(t, b, "all")
	if err := errors.Join(b.Finish(nil, nil), b.Finish(nil, nil)); err != nil {
		t.Fatal(err)
	}
	wantMsg(t, a, "all")
	wantEOF(t, a)
	if err := a.Send(t.Context(), nil); !errors.Is(err, io.EOF) {
		t.Errorf("send after the end: %v, want io.EOF", err)
	}
}

func TestOrderOfMany(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	near, far := connect(t, srv), connect(t, srv)
	accepts(t, far, newMux(t, far, stream.Config{}), "many", func(ctx context.Context, s *stream.Stream, _ *nats.Msg) {
		for i := 0; ; i++ {
			data, err := s.Recv(ctx)
			if err != nil {
				_ = s.Finish(nil, nats.Header{"Count": {strconv.Itoa(i)}})
				return
			}
			if got := binary.BigEndian.Uint32(data); got != uint32(i) {
				_ = s.Finish(bus.Errorf(bus.DataLoss, "message %d is number %d", i, got), nil)
				return
			}
		}
	})
	s := open(t, newMux(t, near, stream.Config{}), "many")
	n := 100_000
	if testing.Short() {
		n /= 10
	}
	for i := range n {
		if err := s.Send(t.Context(), binary.BigEndian.AppendUint32(nil, uint32(i))); err != nil {
			t.Fatalf("send %d: %v; %v", i, err, recvErr(t, s))
		}
	}
	if err := s.CloseSend(nil); err != nil {
		t.Fatal(err)
	}
	wantEOF(t, s)
	if got := s.Trailer().Get("Count"); got != strconv.Itoa(n) {
		t.Errorf("%s messages came, want %d", got, n)
	}
}

func TestLargeMessages(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t, bustest.MaxPayload(16<<10))
	cfg := stream.Config{WindowBytes: 32 << 10, Window: 3, MaxMessage: 1 << 20}
	a, b, _ := pair(t, connect(t, srv), connect(t, srv), cfg, cfg)
	var sizes []int
	for n := 1; n <= 1<<20; n *= 3 {
		sizes = append(sizes, n)
	}
	sizes = append(sizes, 1<<20, 0, 15<<10, 16<<10, 17<<10)
	go func() {
		for i, n := range sizes {
			if err := a.Send(t.Context(), bytes.Repeat([]byte{byte(i)}, n)); err != nil {
				t.Errorf("send %d bytes: %v", n, err)
			}
		}
	}()
	for i, n := range sizes {
		got, err := b.Recv(t.Context())
		if err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte(i)}, n)) {
			t.Fatalf("%d bytes came as %d, or as others; %v", n, len(got), err)
		}
	}
	go func() { _ = a.Send(t.Context(), make([]byte, 1<<20+1)) }()
	_, err := b.Recv(t.Context())
	wantCode(t, err, bus.ResourceExhausted)
	wantCode(t, recvErr(t, a), bus.ResourceExhausted, "1048576")
}

// A reader that does not read holds a window and no more, however much there is to send.
func TestSlowReader(t *testing.T) {
	srv := bustest.Server(t)
	cfg := stream.Config{Window: 1 << 16, WindowBytes: 256 << 10}
	near := connect(t, srv)
	a, b, _ := pair(t, near, connect(t, srv), cfg, cfg)
	const size = 8 << 10
	sent := 0
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		err := a.Send(ctx, make([]byte, size))
		cancel()
		if err != nil {
			wantCode(t, err, bus.DeadlineExceeded)
			break
		}
		sent++
	}
	if want := cfg.WindowBytes / size; sent != want {
		t.Errorf("%d messages went out unread, want %d", sent, want)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const n = 5_000 // 40 MB
	go func() {
		for range n {
			if err := a.Send(t.Context(), make([]byte, size)); err != nil {
				t.Errorf("send: %v", err)
				return
			}
		}
	}()
	peak := uint64(0)
	for i := range n + sent {
		if _, err := b.Recv(t.Context()); err != nil {
			t.Fatal(err)
		}
		if i%500 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&after)
			peak = max(peak, after.HeapAlloc)
		}
	}
	if grown := int64(peak) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("the heap grew by %d KiB while 40 MB passed", grown>>10)
	} else {
		t.Logf("the heap grew by %d KiB at most", grown>>10)
	}
}

func TestStreamsDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	srv := bustest.Server(t)
	near, far := connect(t, srv), connect(t, srv)
	stuck := make(chan *stream.Stream, 1)
	mux := newMux(t, far, stream.Config{Window: 4})
	accepts(t, far, mux, "echo", func(ctx context.Context, s *stream.Stream, msg *nats.Msg) {
		if string(msg.Data) == "stuck" {
			stuck <- s
			return
		}
		for {
			data, err := s.Recv(ctx)
			if err != nil || s.Send(ctx, data) != nil {
				_ = s.Finish(nil, nil)
				return
			}
		}
	})
	m := newMux(t, near, stream.Config{})
	blocked, err := m.Open(t.Context(), &nats.Msg{Subject: "echo", Data: []byte("stuck")})
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		send(t, blocked, "nobody reads")
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			s, err := m.Open(t.Context(), &nats.Msg{Subject: "echo"})
			if err != nil {
				t.Error(err)
				return
			}
			for i := range 100 {
				want := binary.BigEndian.AppendUint32(nil, uint32(i))
				if err := s.Send(t.Context(), want); err != nil {
					t.Error(err)
					return
				}
				if got, err := s.Recv(t.Context()); err != nil || !bytes.Equal(got, want) {
					t.Errorf("message %d came as %x, %v", i, got, err)
					return
				}
			}
			_ = s.CloseSend(nil)
			if _, err := s.Recv(t.Context()); !errors.Is(err, io.EOF) {
				t.Errorf("end: %v", err)
			}
		})
	}
	all.Wait()
	receive(t, stuck, "the stuck stream").Cancel(nil)
	wantCode(t, recvErr(t, blocked), bus.Canceled)
	bustest.Eventually(t, "all streams to be forgotten", func() bool { return m.Stats().Open == 0 && mux.Stats().Open == 0 })
}
