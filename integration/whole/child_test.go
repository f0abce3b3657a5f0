//go:build unix

package whole_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// run is the child until ctx ends. It calls ready once it serves, with its base URL if it has one.
func (c child) run(ctx context.Context, ready func(url string)) error {
	switch c.Role {
	case backendRole, receiverRole:
		return c.serveHTTP(ctx, ready, http.NotFoundHandler())
	default:
		return c.serve(ctx, ready)
	}
}

// serve is one instance of a service.
func (c child) serve(ctx context.Context, ready func(url string)) (err error) {
	conn, err := bus.Connect(ctx, bus.Config{Server: c.Server, Name: c.Name, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	svc, err := micro.NewService(conn, micro.Config{
		Name: c.Role, Instance: c.Name, Heartbeat: serviceHeartbeat, TTL: serviceTTL,
		Hooks: micro.Hooks{Registered: func() { ready("") }},
	})
	if err != nil {
		return err
	}
	if err := c.handleProbe(svc); err != nil {
		return err
	}
	return svc.Run(ctx)
}

const stopTimeout = 5 * time.Second

// serveHTTP serves h at the child's address.
func (c child) serveHTTP(ctx context.Context, ready func(url string), h http.Handler) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: stopTimeout}
	stopped := make(chan error, 1)
	go func() { // ends with ctx
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		stopped <- s.Shutdown(stop)
	}()
	ready(fmt.Sprintf("http://%s", l.Addr()))
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}
