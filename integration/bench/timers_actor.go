package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/embed"
	"github.com/skybus-io/skybus/scheduler"
)

// What a program with timers is told to do.
const (
	actTimers  = "timers"  // create o.Count of them, or as many as o.For gives time for
	actPlain   = "plain"   // publish messages of that size to a stream for o.For
	actPurge   = "purge"   // remove all of both
	actRun     = "run"     // fire and deliver from now on
	actBacklog = "backlog" // wait until the server has fired o.Count timers
	actStored  = "stored"  // create o.Count timers that fire, are not delivered, and tell how late the fires were stored
	actFires   = "fires"   // take o.Count of what the server has fired and tell how late it was
)

// timers is a program that uses the scheduler, with a server of its own or somebody else's.
type timers struct {
	conn    *bus.Conn
	s       *scheduler.Scheduler
	js      jetstream.JetStream // for plain messages
	grace   time.Duration
	failed  chan error // of plain messages
	running sync.WaitGroup
	cancel  context.CancelFunc
	err     error // of Run
	close   []func() error
}

// newTimers starts a server in the process where o.Dir says where its store is to be. It returns when timers can be created.
func newTimers(ctx context.Context, o order) (act func(context.Context, order) (answer, error), url string, stop func() error, err error) {
	t := &timers{grace: o.Grace, failed: make(chan error, 1), cancel: func() {}}
	if url, err = t.open(ctx, o); err != nil {
		return nil, "", nil, errors.Join(err, t.stop())
	}
	return t.act, url, t.stop, nil
}

func (t *timers) open(ctx context.Context, o order) (url string, err error) {
	cfg := bus.Config{Server: o.URL}
	if o.Dir != "" {
		server, err := embed.Start(ctx, embed.Config{Listen: freePort, Dir: o.Dir})
		if err != nil {
			return "", err
		}
		t.close = append(t.close, server.Close)
		cfg, url = bus.Config{InProcess: server}, server.URL()
	}
	if t.conn, err = bus.Connect(ctx, cfg); err != nil {
		return "", err
	}
	t.close = append(t.close, t.conn.Close)
	t.s, err = scheduler.Open(ctx, t.conn, scheduler.Config{Grace: o.Grace, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		return "", err
	}
	t.close = append(t.close, t.s.Close)
	t.js, err = jetstream.New(t.conn.NATS(), jetstream.WithPublishAsyncMaxPending(plainWindow),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) {
			select {
			case t.failed <- err:
			default:
			}
		}))
	return url, err
}

func (t *timers) stop() error {
	t.cancel()
	t.running.Wait()
	err := t.err
	for _, f := range slices.Backward(t.close) {
		err = errors.Join(err, f())
	}
	return err
}

func (t *timers) act(ctx context.Context, o order) (ans answer, err error) {
	switch o.Variant {
	case actTimers:
		ans.Made, err = t.create(ctx, o)
	case actPlain:
		ans.Made, err = t.plain(ctx, o.For)
	case actPurge:
		err = t.purge(ctx)
	case actRun:
		ctx, t.cancel = context.WithCancel(ctx)
		t.running.Go(func() { t.err = t.s.Run(ctx) })
	case actBacklog:
		err = t.backlog(ctx, o.Count)
	case actStored:
		ans.Hooks.Fired, err = t.stored(ctx, o)
	case actFires:
		ans.Hooks.Fired, err = t.fires(ctx, o.Count)
	default:
		err = fmt.Errorf("a program with timers cannot %q", o.Variant)
	}
	return ans, err
}

// streams are those of the timers.
func (t *timers) streams(ctx context.Context) (all []jetstream.Stream, err error) {
	for i := range scheduler.DefaultShards { // the server is alone
		s, err := t.conn.JetStream().Stream(ctx, fmt.Sprintf("SKYBUS_TMR_%d", i))
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// bytes is what the streams hold.
func (t *timers) bytes(ctx context.Context) (messages, bytes uint64, err error) {
	streams, err := t.streams(ctx)
	for _, s := range streams {
		info, err := s.Info(ctx)
		if err != nil {
			return 0, 0, err
		}
		messages, bytes = messages+info.State.Msgs, bytes+info.State.Bytes
	}
	return messages, bytes, err
}

func (t *timers) purge(ctx context.Context) error {
	streams, err := t.streams(ctx)
	if err != nil {
		return err
	}
	plain, err := t.plainStream(ctx)
	if err != nil {
		return err
	}
	for _, s := range append(streams, plain) {
		if err := s.Purge(ctx); err != nil {
			return err
		}
	}
	return nil
}
