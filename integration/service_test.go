//go:build unix

package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/proctest"
	"github.com/skybus-io/skybus/micro"
)

// service is one instance of a service for tests, run by this program in a process of its own. It serves
//
//	work   takes Delay; not idempotent
//	safe   takes Delay; idempotent
//	hold   says "began <request id>" and takes until its standard input is closed; not idempotent
type service struct {
	Server    string
	Name      string
	Instance  string
	Delay     time.Duration
	Heartbeat time.Duration
	TTL       time.Duration
}

// served is the answer of each endpoint.
type served struct {
	Instance string `json:"instance"`
}

// start returns when the instance can be seen by others.
func (s service) start(t *testing.T) *process {
	t.Helper()
	config, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := proctest.Start(t, s.Name+" "+s.Instance, self, nil, []string{serviceVariable + "=" + string(config)})
	p.Await(`(?m)^registered$`)
	return p
}

// serviceMain is the process.
func serviceMain(config string) (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &instance{released: make(chan struct{})}
	err := json.Unmarshal([]byte(config), &s.service)
	if err == nil {
		err = s.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		return 1
	}
	return 0
}

// instance is a service in its own process.
type instance struct {
	service

	released chan struct{} // closed when requests are held no longer
}

func (s *instance) run(ctx context.Context) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	conn, err := bus.Connect(ctx, bus.Config{Server: s.Server, Name: s.Instance, Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	svc, err := micro.NewService(conn, micro.Config{
		Name: s.Name, Instance: s.Instance, Heartbeat: s.Heartbeat, TTL: s.TTL,
		Hooks: micro.Hooks{Registered: func() { fmt.Println("registered") }},
	})
	if err != nil {
		return err
	}
	err = errors.Join(
		micro.Handle(svc, "work", s.work),
		micro.Handle(svc, "safe", s.work, micro.Idempotent()),
		micro.Handle(svc, "hold", s.hold),
	)
	if err != nil {
		return err
	}
	go func() { // ends with the process at the latest
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(s.released)
	}()
	return svc.Run(ctx)
}

func (s *instance) work(ctx context.Context, _ struct{}) (served, error) {
	select {
	case <-time.After(s.Delay):
		return served{s.Instance}, nil
	case <-ctx.Done():
		return served{}, context.Cause(ctx)
	}
}

func (s *instance) hold(ctx context.Context, _ struct{}) (served, error) {
	fmt.Println("began", micro.Info(ctx).RequestID)
	select {
	case <-s.released:
		return served{s.Instance}, nil
	case <-ctx.Done():
		return served{}, context.Cause(ctx)
	}
}
