package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

const serviceName = "bench"

// startSkybusService returns when callers can see the service. All settings are the defaults.
func startSkybusService(ctx context.Context, url string) (stop func() error, err error) {
	return serveSkybus(ctx, url, func(svc *micro.Service) error {
		return errors.Join(
			micro.Handle(svc, string(typed), func(_ context.Context, o Order) (Order, error) { return answerOrder(o), nil }),
			micro.Handle(svc, string(raw), func(_ context.Context, body []byte) ([]byte, error) { return body, nil }),
		)
	})
}

// serveSkybus runs an instance of the service with the endpoints that add adds, and returns when callers can see it.
func serveSkybus(ctx context.Context, url string, add func(*micro.Service) error) (stop func() error, err error) {
	conn, err := bus.Connect(ctx, bus.Config{Server: url})
	if err != nil {
		return nil, err
	}
	registered := make(chan struct{})
	svc, err := micro.NewService(conn, micro.Config{Name: serviceName, Version: "1.0.0", Hooks: micro.Hooks{
		Registered: sync.OnceFunc(func() { close(registered) }),
	}})
	if err == nil {
		err = add(svc)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	stop = func() error {
		cancel()
		return errors.Join(<-ended, conn.Close())
	}
	select {
	case <-registered:
		return stop, nil
	case err := <-ended:
		return nil, fmt.Errorf("service ended: %w", err)
	}
}

// newSkybusClient connects as a program would: default settings and a name.
func newSkybusClient(ctx context.Context, url string) (client *micro.Client, stop func() error, err error) {
	return newClient(ctx, url, micro.ClientConfig{})
}

func newClient(ctx context.Context, url string, cfg micro.ClientConfig) (client *micro.Client, stop func() error, err error) {
	conn, err := bus.Connect(ctx, bus.Config{Server: url})
	if err != nil {
		return nil, nil, err
	}
	cfg.Name = "caller"
	client, err = micro.NewClient(ctx, conn, cfg)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return client, func() error { return errors.Join(client.Close(), conn.Close()) }, nil
}

func newSkybusCaller(client *micro.Client, w workload) caller {
	target := serviceName + "." + string(w)
	if w == typed {
		return func(ctx context.Context, id int64) error {
			got, err := micro.Call[Order](ctx, client, target, newOrder(id))
			if err != nil {
				return err
			}
			return checkOrder(id, got)
		}
	}
	body := newBody()
	return func(ctx context.Context, _ int64) error {
		got, err := micro.Call[[]byte](ctx, client, target, body)
		if err != nil {
			return err
		}
		return checkBody(got)
	}
}
