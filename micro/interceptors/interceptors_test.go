package interceptors_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/interceptors"
)

var errOdd = errors.New("odd")

// answers is the handler at the end of a chain.
func answers(resp any, err error) micro.UnaryHandler {
	return func(context.Context, *micro.Unary) (any, error) { return resp, err }
}

func call(request any) *micro.Unary {
	return &micro.Unary{Service: "greeter", Endpoint: "hello", Request: request}
}

func wantCode(t *testing.T, err error, code bus.Code, texts ...string) {
	t.Helper()
	if bus.CodeOf(err) != code {
		t.Fatalf("error %v, want the code %q", err, code)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q, want %q in it", err, text)
		}
	}
}

func TestLogging(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		err  error
		want []string
	}{
		{"success", nil, []string{"level=DEBUG", "service=greeter", "endpoint=hello", "request_id=r-1", "took="}},
		{"the caller's fault", bus.Errorf(bus.NotFound, "no such widget"), []string{"level=DEBUG", "code=not_found"}},
		{"the service's fault", errOdd, []string{"level=WARN", "code=unknown", "error=odd"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
			ctx := micro.WithRequestID(t.Context(), "r-1")
			resp, err := interceptors.Logging(log)(answers("hi", tt.err))(ctx, call("the payload"))
			if resp != "hi" || !errors.Is(err, tt.err) {
				t.Errorf("answered %v, %v", resp, err)
			}
			for _, w := range tt.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("%q is not in %q", w, out.String())
				}
			}
			if strings.Contains(out.String(), "payload") {
				t.Errorf("the payload was logged: %q", out.String())
			}
		})
	}
}

func TestRecovery(t *testing.T) {
	t.Parallel()
	var value any
	var stack []byte
	h := interceptors.Recovery(func(_ context.Context, c *micro.Unary, v any, s []byte) {
		if c.Endpoint != "hello" {
			t.Errorf("told of %q", c.Endpoint)
		}
		value, stack = v, s
	})(func(context.Context, *micro.Unary) (any, error) { panic("secret") })
	_, err := h(t.Context(), call(nil))
	wantCode(t, err, bus.Internal, "greeter.hello panicked")
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the caller is told %q", err)
	}
	if value != "secret" || !bytes.Contains(stack, []byte("TestRecovery")) {
		t.Errorf("told %v, %s", value, stack)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []interceptors.Observation
		observe := func(_ context.Context, o interceptors.Observation) { got = append(got, o) }
		h := interceptors.Metrics(observe)(func(context.Context, *micro.Unary) (any, error) {
			time.Sleep(3 * time.Second)
			return nil, bus.Errorf(bus.NotFound, "no")
		})
		if _, err := h(t.Context(), call(nil)); bus.CodeOf(err) != bus.NotFound {
			t.Errorf("error %v", err)
		}
		want := interceptors.Observation{Service: "greeter", Endpoint: "hello", Code: bus.NotFound, Took: 3 * time.Second}
		if len(got) != 1 || got[0] != want {
			t.Errorf("observed %+v, want %+v", got, want)
		}
	})
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	waits := func(ctx context.Context, _ *micro.Unary) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		_, err := interceptors.Timeout(2*time.Second)(waits)(t.Context(), call(nil))
		wantCode(t, err, bus.DeadlineExceeded, "greeter.hello took longer than 2s")
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second) // the call's own is less
		defer cancel()
		_, err = interceptors.Timeout(2*time.Second)(waits)(ctx, call(nil))
		if wantCode(t, err, bus.DeadlineExceeded); strings.Contains(err.Error(), "took longer") {
			t.Errorf("error %q blames the interceptor", err)
		}
		if _, err := interceptors.Timeout(0)(answers(nil, errOdd))(t.Context(), call(nil)); !errors.Is(err, errOdd) {
			t.Errorf("unbounded: %v", err)
		}
	})
}

type byValue struct{ N int }

func (v byValue) Validate() error {
	if v.N == 0 {
		return errOdd
	}
	return nil
}

type byPointer struct{ N int }

func (v *byPointer) Validate() error {
	if v.N == 0 {
		return bus.Errorf(bus.OutOfRange, "n is 0")
	}
	return nil
}

func TestValidation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		request any
		want    bus.Code
	}{
		{"nothing", nil, ""},
		{"bytes", []byte("x"), ""},
		{"without the method", struct{}{}, ""},
		{"value", byValue{}, bus.InvalidArgument},
		{"value, good", byValue{1}, ""},
		{"pointer to value", &byValue{}, bus.InvalidArgument},
		{"value that needs a pointer", byPointer{}, bus.OutOfRange},
		{"value that needs a pointer, good", byPointer{1}, ""},
		{"pointer", &byPointer{}, bus.OutOfRange},
		{"nil pointer", (*byPointer)(nil), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			called := false
			h := interceptors.Validation()(func(context.Context, *micro.Unary) (any, error) {
				called = true
				return nil, nil
			})
			_, err := h(t.Context(), call(tt.request))
			wantCode(t, err, tt.want)
			if called != (tt.want == "") {
				t.Errorf("handler called: %t", called)
			}
		})
	}
}
