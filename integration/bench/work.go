package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/balance"
)

// partWork is a service whose instances take different times, or fail, and its callers.
const (
	partWork     = "work"
	endpointWork = "work"
)

// What a caller of the work does. Variants that are not named here are the default client.
const (
	variantQueue   = "queue group"
	variantRound   = "round robin"
	variantBest    = "best quality"
	variantHedged  = "Send, hedged after 20 ms"
	variantEject   = "ejection"
	variantNoEject = "no ejection"
	variantRepeat  = "repeatable call"
)

const hedgeAfter = 20 * time.Millisecond

func workConfig(v string) micro.ClientConfig {
	switch v {
	case variantRound:
		return micro.ClientConfig{Policy: balance.RoundRobin()}
	case variantBest:
		return micro.ClientConfig{Policy: balance.BestQuality()}
	case variantHedged:
		return micro.ClientConfig{AttemptTimeout: hedgeAfter}
	case variantNoEject:
		return micro.ClientConfig{Outliers: micro.OutlierConfig{Off: true}}
	default:
		return micro.ClientConfig{}
	}
}

// startWorker starts an instance that takes o.Delay for each request, or fails at once.
func startWorker(ctx context.Context, o order) (stop func() error, err error) {
	return serveSkybus(ctx, o.URL, func(svc *micro.Service) error {
		return micro.Handle(svc, endpointWork, func(ctx context.Context, body []byte) ([]byte, error) {
			if o.Fail {
				return nil, bus.Errorf(bus.Unavailable, "broken")
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(o.Delay):
				return body, nil
			}
		})
	})
}

// newWorkCaller returns when the client sees all o.Count instances.
func newWorkCaller(ctx context.Context, o order) (call caller, stop func() error, err error) {
	client, stop, err := newClient(ctx, o.URL, workConfig(o.Variant))
	if err != nil {
		return nil, nil, err
	}
	if err := sees(ctx, client, o.Count); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	const target = serviceName + "." + endpointWork
	body := newBody()
	send := micro.Call[[]byte]
	var opts []micro.CallOption
	switch o.Variant {
	case variantHedged:
		send = micro.Send[[]byte]
	case variantRepeat:
		opts = append(opts, micro.Idempotent())
	}
	call = func(ctx context.Context, _ int64) error {
		got, err := send(ctx, client, target, body, opts...)
		if err != nil {
			return err
		}
		return checkBody(got)
	}
	return call, stop, nil
}

// sees returns when the client's registry has n instances of the service online.
func sees(ctx context.Context, client *micro.Client, n int) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	r := client.Registry()
	for {
		changed := r.Changed()
		if s := r.Service(serviceName); s != nil && len(s.Online) >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("no %d instances of %s: %w", n, serviceName, ctx.Err())
		}
	}
}

// natsTimeout is how long nats.go by hand waits for an answer: as long as an attempt of a repeatable skybus call.
const natsTimeout = 2 * time.Second

// startNATSWorker is startWorker by hand: as many requests at a time as there are.
func startNATSWorker(o order) (stop func() error, err error) {
	nc, err := nats.Connect(o.URL)
	if err != nil {
		return nil, err
	}
	stop = func() error {
		nc.Close()
		return nil
	}
	_, err = nc.QueueSubscribe(natsSubject(partWork), natsQueue, func(m *nats.Msg) {
		time.AfterFunc(o.Delay, func() { _ = m.Respond(m.Data) }) // who is not answered runs into its time-out
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return stop, nil
}

func newNATSWorkCaller(o order) (call caller, stop func() error, err error) {
	nc, err := nats.Connect(o.URL)
	if err != nil {
		return nil, nil, err
	}
	subject, body := natsSubject(partWork), newBody()
	call = func(context.Context, int64) error {
		m, err := nc.Request(subject, body, natsTimeout)
		if err != nil {
			return err
		}
		return checkBody(m.Data)
	}
	return call, func() error {
		nc.Close()
		return nil
	}, nil
}
