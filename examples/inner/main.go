// Command inner is a service that others of the house call: one endpoint is asked, the other only told. On both sides
// interceptors look at every call: how long it took, and whether the caller may make it.
//
//	go run ./examples/inner serve
//	go run ./examples/inner call
//
// The second tells and asks every three seconds, until Ctrl-C.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/interceptors"
)

// Reading is what is told, Mean what is answered.
type Reading struct {
	Celsius float64 `json:"celsius"`
}

// Validate is asked by interceptors.Validation before the handler is.
func (r Reading) Validate() error {
	if r.Celsius < -273.15 {
		return fmt.Errorf("celsius is %g: want at least -273.15", r.Celsius)
	}
	return nil
}

type Mean struct {
	Celsius float64 `json:"celsius"`
	Of      int     `json:"of"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	conn, err := bus.Connect(ctx, bus.Config{Server: os.Getenv("SKYBUS_SERVER"), Name: "inner"})
	if err == nil {
		err = errors.Join(run(ctx, conn, os.Args[1:], os.Stdout), conn.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "inner:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, conn *bus.Conn, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("inner", flag.ContinueOnError)
	every := flags.Duration("every", 3*time.Second, "time between two calls")
	times := flags.Int("times", 0, "calls to make; 0 means until Ctrl-C")
	if len(args) == 0 || args[0] != "serve" && args[0] != "call" {
		return errors.New("want: serve, or: call [--every 3s] [--times N]")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stdout, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if args[0] == "serve" {
		return serve(ctx, conn, log)
	}
	return callEvery(ctx, conn, log, *every, *times)
}

// timing shows how long each call took, on whichever side it is.
func timing(log *slog.Logger, side string) micro.Interceptor {
	return interceptors.Metrics(func(ctx context.Context, o interceptors.Observation) {
		log.InfoContext(ctx, "timing", "side", side, "endpoint", o.Endpoint, "code", o.Code, "took", o.Took)
	})
}

// knownCaller refuses callers that do not tell a token. The header is added on the other side by withToken.
func knownCaller(token string) micro.Interceptor {
	return func(next micro.UnaryHandler) micro.UnaryHandler {
		return func(ctx context.Context, call *micro.Unary) (any, error) {
			if call.Header.Get("House-Token") != token {
				return nil, bus.Errorf(bus.Unauthenticated, "header House-Token is missing or wrong")
			}
			return next(ctx, call)
		}
	}
}

func withToken(token string) micro.Interceptor {
	return func(next micro.UnaryHandler) micro.UnaryHandler {
		return func(ctx context.Context, call *micro.Unary) (any, error) {
			call.Header.Set("House-Token", token)
			return next(ctx, call)
		}
	}
}

func serve(ctx context.Context, conn *bus.Conn, log *slog.Logger) error {
	svc, err := micro.NewService(conn, micro.Config{Name: "thermometer", Interceptors: []micro.Interceptor{
		timing(log, "service"), interceptors.Validation(),
	}})
	if err != nil {
		return err
	}
	var t thermometer
	told := make(chan Reading, 100)
	err = errors.Join(
		micro.Handle(svc, "tell", func(_ context.Context, r Reading) (*struct{}, error) {
			select {
			case told <- r:
			default: // nobody waits for an answer, and the mean can do without
			}
			return nil, nil
		}, micro.OneWay()),
		micro.Handle(svc, "mean", func(context.Context, *struct{}) (Mean, error) {
			t.take(told)
			return t.mean(), nil
		}, micro.Serial(), micro.Idempotent(), micro.Intercept(knownCaller(token))),
	)
	if err != nil {
		return err
	}
	return svc.Run(ctx)
}

// token stands for one that comes from a secret store.
const token = "let-me-in"

// thermometer is used by one request at a time: its endpoint is serial.
type thermometer struct {
	sum float64
	n   int
}

func (t *thermometer) take(told <-chan Reading) {
	for {
		select {
		case r := <-told:
			t.sum += r.Celsius
			t.n++
		default:
			return
		}
	}
}

func (t *thermometer) mean() Mean { return Mean{t.sum / float64(max(1, t.n)), t.n} }

func callEvery(ctx context.Context, conn *bus.Conn, log *slog.Logger, every time.Duration, times int) error {
	client, err := micro.NewClient(ctx, conn, micro.ClientConfig{Name: "station", Interceptors: []micro.Interceptor{
		timing(log, "client"), withToken(token),
	}})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	for n := 1; ; n++ {
		if err := micro.Notify(ctx, client, "thermometer.tell", Reading{Celsius: 20 + float64(n%5)}); err != nil {
			return err
		}
		mean, err := micro.Call[Mean](ctx, client, "thermometer.mean", struct{}{})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			log.ErrorContext(ctx, "no mean", "error", err)
		default:
			log.InfoContext(ctx, "mean", "celsius", mean.Celsius, "of", mean.Of)
		}
		if n == times {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}
