package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/internal/supervise"
	"github.com/skybus-io/skybus/micro/registry"
)

const (
	watchRetry    = time.Second            // between attempts to connect, and to find the registry
	watchPoll     = 500 * time.Millisecond // between looks at the registry when nothing changes in it
	registerTime  = 15 * time.Second       // who has not registered by then is said to be watched by its exit only
	pingTimeout   = 300 * time.Millisecond
	pings         = 3 // that must stay unanswered
	clockSlack    = 2 * time.Second
	reconnectRest = 3 * time.Second // instances reconnect after a restart of the server, too
)

// copyWatch finds the copies that hang: those with a service whose liveness has stopped, and which does not answer a ping.
type copyWatch struct {
	sup  *supervise.Supervisor
	log  *slog.Logger
	host string
	conn *bus.Conn
	reg  *registry.Registry

	registered map[string]bool // copies, by name, that had an instance
	patience   time.Duration   // for those that have none yet
	told       bool            // that some have none
	quiet      time.Time       // until then nobody is suspected

	pinging sync.WaitGroup
	mu      sync.Mutex

	suspects map[string]bool // instances that are being pinged
}

// watchCopies runs until ctx ends. Without a server or a registry it waits for one: the programs may be what starts them.
func watchCopies(ctx context.Context, app *App, sup *supervise.Supervisor) {
	w := &copyWatch{
		sup: sup, log: app.log.With("component", "run"), patience: registerTime,
		registered: map[string]bool{}, suspects: map[string]bool{},
	}
	w.host, _ = os.Hostname() // as services have it
	defer w.pinging.Wait()
	if !w.open(ctx, app) {
		return
	}
	defer func() { _ = w.conn.Close() }() // nothing was written
	defer func() { _ = w.reg.Close() }()
	lost := make(chan struct{}, 1)
	defer w.conn.NotifyLoss(lost)()
	poll := time.NewTicker(watchPoll)
	defer poll.Stop()
	for {
		changed := w.reg.Changed()
		w.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-lost:
			w.quiet = time.Now().Add(reconnectRest)
		case <-changed:
		case <-poll.C:
		}
	}
}

// open connects and opens the registry, trying until it works or ctx ends.
func (w *copyWatch) open(ctx context.Context, app *App) bool {
	for {
		err := w.tryOpen(ctx, app)
		if err == nil {
			return true
		}
		w.tellUnregistered(ctx, message(err))
		if !backoff.Sleep(ctx, watchRetry) {
			return false
		}
	}
}

func (w *copyWatch) tryOpen(ctx context.Context, app *App) error {
	conn, err := app.Connect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := app.withTimeout(ctx)
	defer cancel()
	reg, err := registry.Open(ctx, conn, registry.Config{Bind: true, Logger: app.log})
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	w.conn, w.reg = conn, reg
	return nil
}

// look matches instances with copies and has those pinged that give no sign of life.
func (w *copyWatch) look(ctx context.Context) {
	running := w.sup.Running()
	for _, i := range w.reg.Instances(registry.Criteria{Hosts: []string{w.host}}) {
		c, ok := ownerOf(running, i)
		if !ok {
			continue
		}
		w.registered[c.Name] = true
		if i.State == registry.Offline && time.Now().After(w.quiet) {
			w.suspect(ctx, c, i)
		}
	}
	w.tellUnregistered(ctx, "it registered no service")
}

// ownerOf is the copy that an instance is in. A record may be left from a process that had the same id before.
func ownerOf(running []supervise.Child, i *registry.Instance) (supervise.Child, bool) {
	for _, c := range running {
		if i.PID > 0 && c.Owns(i.PID) && i.Started.After(c.Started.Add(-clockSlack)) {
			return c, true
		}
	}
	return supervise.Child{}, false
}

// tellUnregistered says once that there are copies whose hanging nobody would notice, and why.
func (w *copyWatch) tellUnregistered(ctx context.Context, reason string) {
	if w.told {
		return
	}
	for _, c := range w.sup.Running() {
		if !w.registered[c.Name] && time.Since(c.Started) > w.patience {
			w.told = true
			w.log.InfoContext(ctx, "watched by its exit only", "instance", c.Name, "reason", reason)
			return
		}
	}
}

func (w *copyWatch) suspect(ctx context.Context, c supervise.Child, i *registry.Instance) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.suspects[i.Instance] {
		return
	}
	w.suspects[i.Instance] = true
	w.pinging.Go(func() {
		if w.dead(ctx, i) {
			w.sup.Replace(c, fmt.Sprintf("service %s, instance %s: no sign of life, no answer to %d pings", i.Service, i.Instance, pings))
		} else {
			backoff.Sleep(ctx, watchRetry) // it lives, though JetStream does not hear of it
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.suspects, i.Instance)
	})
}

// dead tells whether an instance leaves all pings unanswered while the connection stands and the registry has not heard
// of it again. What goes wrong on our side proves nothing.
func (w *copyWatch) dead(ctx context.Context, i *registry.Instance) bool {
	subject := w.conn.Namespace().ControlSubject(i.Service, i.Instance, "ping")
	before := w.conn.AsyncErrors() // a permission that we lack comes as one of these
	for range pings {
		next := time.After(pingTimeout)
		ping, cancel := context.WithTimeout(ctx, pingTimeout)
		_, err := w.conn.Request(ping, &nats.Msg{Subject: subject})
		cancel()
		unanswered := errors.Is(err, bus.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded)
		if !unanswered || !w.conn.NATS().IsConnected() {
			return false
		}
		select {
		case <-next: // nobody listens for a moment when a connection breaks
		case <-ctx.Done():
			return false
		}
	}
	now := w.reg.Service(i.Service).Instance(i.Instance)
	return w.conn.AsyncErrors() == before && now != nil && now.State == registry.Offline
}
