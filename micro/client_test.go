package micro_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro"
)

type everything struct {
	Text   string            `json:"text"`
	Number int64             `json:"number"`
	Ratio  float64           `json:"ratio"`
	Yes    bool              `json:"yes"`
	Bytes  []byte            `json:"bytes"`
	List   []hello           `json:"list"`
	Map    map[string]string `json:"map"`
	Maybe  *int              `json:"maybe,omitempty"`
}

func TestCallRoundTrip(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serve(t, connect(t, s), micro.Config{Name: "echo"}, endpoints(
		endpoint("value", func(_ context.Context, v everything) (everything, error) { return v, nil }),
		endpoint("pointer", func(_ context.Context, v *everything) (*everything, error) { return v, nil }),
		endpoint("map", func(_ context.Context, v map[string]any) (map[string]any, error) { return v, nil }),
		endpoint("text", func(_ context.Context, v string) (string, error) { return v, nil }),
		endpoint("none", func(context.Context, struct{}) (*everything, error) { return nil, nil }),
	))
	for _, codec := range []bus.Codec{bus.MessagePack{}, bus.JSON{}} {
		t.Run(codec.ContentType(), func(t *testing.T) {
			t.Parallel()
			c := newClient(t, connect(t, s, func(cfg *bus.Config) { cfg.Codec = codec }), micro.ClientConfig{})
			want := everything{
				Text: "Grüße\x00", Number: -1 << 62, Ratio: 0.1, Yes: true, Bytes: []byte{0, 255},
				List: []hello{{Name: "a", Times: 1}, {}}, Map: map[string]string{"": "x"}, Maybe: new(7),
			}
			roundTrip(t, c, "echo.value", want, want)
			roundTrip(t, c, "echo.value", &want, want)
			roundTrip(t, c, "echo.pointer", want, want)
			roundTrip(t, c, "echo.pointer", &want, &want)
			roundTrip(t, c, "echo.text", "", "")
			roundTrip(t, c, "echo.map", map[string]any{"a": "b"}, map[string]any{"a": "b"})
			// Nothing at all is the zero value, and never a nil pointer for the handler.
			roundTrip(t, c, "echo.value", nil, everything{})
			roundTrip(t, c, "echo.pointer", nil, everything{})
			roundTrip(t, c, "echo.value", []byte{}, everything{})
			roundTrip(t, c, "echo.pointer", []byte(nil), everything{})
			roundTrip(t, c, "echo.pointer", (*everything)(nil), everything{})
			roundTrip(t, c, "echo.none", nil, everything{})
			roundTrip(t, c, "echo.none", nil, (*everything)(nil))
		})
	}
}

func roundTrip[Resp any](t *testing.T, c *micro.Client, target string, req any, want Resp) {
	t.Helper()
	got, err := micro.Call[Resp](t.Context(), c, target, req)
	if err != nil {
		t.Errorf("%s: %v", target, err)
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: (-want +got)\n%s", target, diff)
	}
}

// Bytes pass both sides as they are, whatever the codec.
func TestCallBytes(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serve(t, connect(t, s), micro.Config{Name: "echo"}, endpoints(
		endpoint("bytes", func(_ context.Context, b []byte) ([]byte, error) { return append(b, b...), nil }),
		endpoint("pointer", func(_ context.Context, b *[]byte) (*[]byte, error) { return b, nil }),
		endpoint("nothing", func(context.Context, []byte) ([]byte, error) { return nil, nil }),
		func(s *micro.Service) error {
			return micro.HandleAmend(s, "amend", func(_ context.Context, req, resp *[]byte) error {
				*resp = append(*resp, *req...)
				return nil
			})
		},
	))
	for _, codec := range []bus.Codec{bus.MessagePack{}, bus.JSON{}, bus.Raw{}} {
		t.Run(codec.ContentType(), func(t *testing.T) {
			t.Parallel()
			c := newClient(t, connect(t, s, func(cfg *bus.Config) { cfg.Codec = codec }), micro.ClientConfig{})
			sees(t, c, "echo", 1)
			body := []byte{0, 1, 0xc1, 0xff, '"'}
			roundTrip(t, c, "echo.bytes", body, append(body, body...))
			roundTrip(t, c, "echo.pointer", body, body)
			roundTrip(t, c, "echo.amend", body, body)
			roundTrip(t, c, "echo.nothing", body, []byte{})
			roundTrip(t, c, "echo.bytes", []byte{}, []byte{})
			reply, err := c.Do(t.Context(), micro.Request{
				Service: "echo", Endpoint: "amend", ContentType: codec.ContentType(), Body: []byte{0xc1}, Prior: []byte{0, 0xff},
			})
			if err != nil || string(reply.Body) != "\x00\xff\xc1" {
				t.Errorf("amended bytes are %q, %v", reply.Body, err)
			}
		})
	}
}

// An answer without a body is the zero value, as a request without one is.
func TestCallEmptyAnswer(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serve(t, connect(t, s), micro.Config{Name: "quiet"},
		endpoint("ok", func(context.Context, hello) ([]byte, error) { return nil, nil }))
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	roundTrip(t, c, "quiet.ok", hello{}, greeting{})
	roundTrip(t, c, "quiet.ok", hello{}, struct{}{})
}

func TestCallErrors(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	cause := errors.New("the disk is gone")
	fail := func(err error) func(context.Context, hello) (greeting, error) {
		return func(context.Context, hello) (greeting, error) { return greeting{}, err }
	}
	teapot := bus.Errorf(bus.FailedPrecondition, "two\nlines").With("field", "name")
	teapot.Status = 418
	serve(t, connect(t, s), micro.Config{Name: "fails"}, endpoints(
		endpoint("coded", fail(teapot)),
		endpoint("wrapped", fail(fmt.Errorf("while at it: %w", bus.Errorf(bus.NotFound, "no such widget")))),
		endpoint("hidden", fail(bus.Wrap(bus.Internal, "try later", cause))),
		endpoint("plain", fail(cause)),
		endpoint("deadline", fail(fmt.Errorf("step: %w", context.DeadlineExceeded))),
		endpoint("unencodable", func(context.Context, hello) (func(), error) { return func() {}, nil }),
		endpoint("odd", func(context.Context, hello) (string, error) { return "text", nil }),
	))
	for _, codec := range []bus.Codec{bus.MessagePack{}, bus.JSON{}} {
		t.Run(codec.ContentType(), func(t *testing.T) {
			t.Parallel()
			c := newClient(t, connect(t, s, func(cfg *bus.Config) { cfg.Codec = codec }), micro.ClientConfig{})
			call := func(target string, req any) error {
				_, err := micro.Call[greeting](t.Context(), c, target, req)
				return err
			}
			e := busError(t, call("fails.coded", hello{}))
			want := &bus.Error{Code: bus.FailedPrecondition, Message: "two\nlines", Details: map[string]string{"field": "name"}, Status: 418}
			if diff := cmp.Diff(want, e, cmp.Comparer(sameError)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			wantCode(t, call("fails.wrapped", hello{}), bus.NotFound, "no such widget")
			wantCode(t, call("fails.hidden", hello{}), bus.Internal, "try later")
			if err := call("fails.hidden", hello{}); strings.Contains(err.Error(), cause.Error()) || errors.Is(err, cause) {
				t.Errorf("the cause crossed the wire: %v", err)
			}
			wantCode(t, call("fails.plain", hello{}), bus.Unknown, cause.Error())
			wantCode(t, call("fails.deadline", hello{}), bus.DeadlineExceeded)
			wantCode(t, call("fails.unencodable", hello{}), bus.Internal, "does not encode as "+codec.ContentType())
			wantCode(t, call("fails.plain", make(chan int)), bus.InvalidArgument, "chan int", codec.ContentType())
			wantCode(t, call("fails.odd", hello{}), bus.Internal, "does not decode into", "skybus://default.dev.fails/")
		})
	}
}

// sameError compares what crosses the wire.
func sameError(a, b *bus.Error) bool {
	return a.Code == b.Code && a.Message == b.Message && a.HTTPStatus() == b.HTTPStatus() && cmp.Equal(a.Details, b.Details)
}

// badNames are no tokens. The last one would close the connection if it reached the server.
func badNames() map[string]string {
	return map[string]string{
		"empty": "", "dot": "a.b", "star": "*", "rest": ">", "space": "a b", "NUL": "a\x00b", "line": "a\r\nPUB x 0\r\n",
		"unicode": "größe", "long": strings.Repeat("x", 65), "longest": strings.Repeat("x", 5000),
	}
}

func TestCallBadNames(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serve(t, connect(t, s), micro.Config{Name: "greeter"}, endpoint("hello", greet))
	conn := connect(t, s)
	c := newClient(t, conn, micro.ClientConfig{})
	for what, name := range badNames() {
		for _, target := range []string{name, name + ".hello", "greeter." + name} {
			if what == "dot" && target == "a.b" {
				continue // is a target
			}
			_, err := micro.Call[greeting](t.Context(), c, target, hello{})
			wantCode(t, err, bus.InvalidArgument)
			if err != nil && len(err.Error()) > 300 {
				t.Errorf("%s: the error has %d bytes", what, len(err.Error()))
			}
		}
		if name == "" {
			continue // means any
		}
		_, err := micro.Call[greeting](t.Context(), c, "greeter.hello", hello{}, micro.ToInstance(name))
		wantCode(t, err, bus.InvalidArgument, "instance")
		_, err = micro.Call[greeting](t.Context(), c, "greeter.hello", hello{}, micro.ToVersion(name))
		wantCode(t, err, bus.InvalidArgument, "version")
		_, err = micro.NewClient(t.Context(), conn, micro.ClientConfig{Name: name})
		wantCode(t, err, bus.InvalidArgument, "client name")
	}
	if n := conn.NATS().Stats().Reconnects; n != 0 || !conn.NATS().IsConnected() {
		t.Errorf("the connection was lost (%d times)", n)
	}
	roundTrip(t, c, "greeter.hello", hello{Name: "you"}, greeting{"Hello you"})
}

func TestCallTooLarge(t *testing.T) {
	t.Parallel()
	const limit = 8 << 10
	s := bustest.Server(t, bustest.MaxPayload(limit))
	svc := serve(t, connect(t, s), micro.Config{Name: "big", MaxBody: limit / 2}, endpoints(
		endpoint("take", func(_ context.Context, b []byte) (int, error) { return len(b), nil }),
		endpoint("make", func(_ context.Context, n int) ([]byte, error) { return make([]byte, n), nil }),
		endpoint("fail", func(_ context.Context, n int) ([]byte, error) {
			return nil, bus.Errorf(bus.NotFound, "much").With("much", strings.Repeat("x", n))
		}),
	))
	c := newClient(t, connect(t, s), micro.ClientConfig{Timeout: time.Minute, MaxBody: limit / 2})
	tooLarge := func(err error) {
		t.Helper()
		wantCode(t, err, bus.ResourceExhausted, "MaxBody")
		if e := busError(t, err); e.HTTPStatus() != 413 {
			t.Errorf("%v has the status %d, want 413", err, e.HTTPStatus())
		}
	}
	start := time.Now()
	_, err := micro.Call[int](t.Context(), c, "big.take", make([]byte, limit+1))
	tooLarge(err)
	_, err = micro.Call[int](t.Context(), c, "big.take", make([]byte, limit-1)) // fits without its headers only
	tooLarge(err)
	_, err = micro.Call[[]byte](t.Context(), c, "big.make", limit+1)
	tooLarge(err)
	_, err = micro.Call[[]byte](t.Context(), c, "big.make", limit-1)
	tooLarge(err)
	_, err = micro.Call[[]byte](t.Context(), c, "big.fail", limit) // only its details are too large
	wantCode(t, err, bus.NotFound, "much")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	roundTrip(t, c, "big.take", make([]byte, limit-1000), limit-1000)
	bustest.Eventually(t, "two errors of make to be counted", func() bool {
		return slices.ContainsFunc(svc.Stats().Endpoints, func(ep micro.EndpointStats) bool { return ep.Name == "make" && ep.Errors == 2 })
	})
}

// A deadline beyond what the envelope can say is no reason to refuse the call.
func TestCallFarDeadline(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serve(t, connect(t, s), micro.Config{Name: "greeter"}, endpoint("hello", greet))
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	ctx, cancel := context.WithTimeout(t.Context(), 48*time.Hour)
	defer cancel()
	if _, err := micro.Call[greeting](ctx, c, "greeter.hello", hello{}); err != nil {
		t.Error(err)
	}
}

func TestCallCanceled(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	begun := make(chan struct{})
	serve(t, connect(t, s), micro.Config{Name: "slow"}, endpoint("wait", func(ctx context.Context, _ hello) (greeting, error) {
		close(begun)
		<-ctx.Done()
		return greeting{}, ctx.Err()
	}))
	c := newClient(t, connect(t, s), micro.ClientConfig{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // also the handler's
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := micro.Call[greeting](ctx, c, "slow.wait", hello{})
		failed <- err
	}()
	bustest.Receive(t, "the handler", begun)
	cancel()
	wantCode(t, bustest.Receive(t, "the canceled call", failed), bus.Canceled)
	_, err := micro.Call[greeting](ctx, c, "slow.wait", hello{})
	wantCode(t, err, bus.Canceled)
}

func TestNewClientRefuses(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	for _, cfg := range []micro.ClientConfig{{Timeout: -1}, {AttemptTimeout: -1}} {
		_, err := micro.NewClient(t.Context(), conn, cfg)
		wantCode(t, err, bus.InvalidArgument)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := micro.NewClient(ctx, conn, micro.ClientConfig{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want one of the canceled ctx", err)
	}
}

// A client without its registry still calls, and a shared registry stays its owner's.
func TestClientClose(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	serve(t, connect(t, s), micro.Config{Name: "greeter"}, endpoint("hello", greet))
	conn := connect(t, s)
	owner := newClient(t, conn, micro.ClientConfig{})
	guest := newClient(t, conn, micro.ClientConfig{Registry: owner.Registry()})
	for range 2 {
		if err := guest.Close(); err != nil {
			t.Error(err)
		}
	}
	second := serve(t, connect(t, s), micro.Config{Name: "greeter"}, endpoint("hello", greet))
	sees(t, owner, "greeter", 2)
	if err := second.stop(); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := owner.Close(); err != nil {
			t.Error(err)
		}
	}
	roundTrip(t, owner, "greeter.hello", hello{Name: "you"}, greeting{"Hello you"})
}
