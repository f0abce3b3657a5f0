package main

import (
	"context"
	"fmt"
	"io"

	"github.com/nats-io/nats.go"
	"github.com/vmihailenco/msgpack/v5"
)

const natsQueue = "svc"

// natsSubject is as long as skybus's own subject of the same call.
func natsSubject(w workload) string { return "default.dev.svc." + serviceName + "." + string(w) }

// startNATSService answers in the callback of a queue subscription, the shortest way nats.go has.
func startNATSService(url string, stderr io.Writer) (stop func() error, err error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return nil, err
	}
	stop = func() error {
		nc.Close()
		return nil
	}
	for w, handle := range map[workload]func(*nats.Msg) error{typed: handleTyped, raw: handleRaw} {
		_, err := nc.QueueSubscribe(natsSubject(w), natsQueue, func(m *nats.Msg) {
			if err := handle(m); err != nil {
				fmt.Fprintln(stderr, "bench: nats.go service:", err) // the caller runs into its time-out
			}
		})
		if err != nil {
			nc.Close()
			return nil, err
		}
	}
	if err := nc.Flush(); err != nil {
		nc.Close()
		return nil, err
	}
	return stop, nil
}

func handleTyped(m *nats.Msg) error {
	var o Order
	if err := msgpack.Unmarshal(m.Data, &o); err != nil {
		return err
	}
	data, err := msgpack.Marshal(answerOrder(o))
	if err != nil {
		return err
	}
	return m.Respond(data)
}

func handleRaw(m *nats.Msg) error { return m.Respond(m.Data) }

func newNATSCaller(url string, w workload) (call caller, stop func() error, err error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return nil, nil, err
	}
	stop = func() error {
		nc.Close()
		return nil
	}
	subject := natsSubject(w)
	if w == typed {
		return func(_ context.Context, id int64) error {
			data, err := msgpack.Marshal(newOrder(id))
			if err != nil {
				return err
			}
			m, err := nc.Request(subject, data, callTimeout)
			if err != nil {
				return err
			}
			var got Order
			if err := msgpack.Unmarshal(m.Data, &got); err != nil {
				return err
			}
			return checkOrder(id, got)
		}, stop, nil
	}
	body := newBody()
	return func(context.Context, int64) error {
		m, err := nc.Request(subject, body, callTimeout)
		if err != nil {
			return err
		}
		return checkBody(m.Data)
	}, stop, nil
}
