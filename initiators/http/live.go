package http

import (
	"context"
	"fmt"
	"sync"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

// live keeps a gateway's table as the entries are.
type live struct {
	store    *Store
	stop     context.CancelFunc
	wg       sync.WaitGroup
	reporter *reporter // nil where nobody is told

	// Of the goroutine that follows.
	all      map[string]Stored
	revision uint64
}

// follow loads the entries and follows them.
func (g *Gateway) follow(ctx context.Context) (*live, error) {
	conn := g.sources.Client.Conn()
	store, err := OpenStore(ctx, conn, false)
	if err != nil {
		return nil, err
	}
	// What is followed tells of no deletion that happened before. Whoever waits for one is told by this that it is known.
	last, err := lastRevision(ctx, conn)
	if err != nil {
		return nil, err
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &live{store: store, stop: cancel, all: map[string]Stored{}, revision: last}
	l.reporter = newReporter(ctx, g, conn)
	loaded, failed := make(chan struct{}), make(chan error, 1)
	l.wg.Go(func() {
		first := true
		failed <- store.table.Follow(life, conn.Namespace().Key(entryKind, "*"), func(batch []kv.Entry[value]) {
			l.apply(g, batch)
			if first {
				first = false
				close(loaded)
			}
		})
	})
	select {
	case <-loaded:
	case err = <-failed:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel()
		l.wg.Wait()
		return nil, fmt.Errorf("gateway: follow the entries: %w", err)
	}
	l.wg.Go(func() { l.reporter.run(life) })
	return l, nil
}

// lastRevision is that of the whole bucket.
func lastRevision(ctx context.Context, conn *bus.Conn) (uint64, error) {
	s, err := conn.JetStream().Stream(ctx, "KV_skybus_routes")
	if err != nil {
		return 0, fmt.Errorf("gateway: %w", err)
	}
	return s.CachedInfo().State.LastSeq, nil
}

// apply makes the next table.
func (l *live) apply(g *Gateway, batch []kv.Entry[value]) {
	for _, e := range batch {
		s := stored(e)
		l.revision = max(l.revision, s.Revision)
		if s.Deleted {
			g.limiter.Remove(s.Name)
			delete(l.all, s.Name)
			continue
		}
		l.all[s.Name] = s
	}
	old := g.table.Load()
	next := g.compile(l.all, old)
	next.revision = l.revision
	for name, r := range next.refused {
		if before, ok := old.refused[name]; !ok || before.revision != r.revision {
			g.log.Warn("entry is not served", "entry", name, "revision", r.revision, "error", r.err)
		}
	}
	g.table.Store(next)
	g.keeper.need(next)
	g.metrics.keep(func(name string) bool {
		_, there := l.all[name]
		return there || name == "" || name == muxName
	})
	l.reporter.changed()
}

func (l *live) close() {
	l.stop()
	l.wg.Wait()
}

// Revision is the last change of the entries that the gateway serves by; 0 for one that follows none.
func (g *Gateway) Revision() uint64 { return g.table.Load().revision }

// Entries are the entries that the gateway serves, in no order.
func (g *Gateway) Entries() []Stored {
	var all []Stored
	for name, e := range g.table.Load().byName {
		all = append(all, Stored{Name: name, Entry: e.Entry, Revision: e.revision})
	}
	return all
}

// Refused are the entries that the gateway cannot serve, by name, each with the reason.
func (g *Gateway) Refused() map[string]error {
	all := map[string]error{}
	for name, r := range g.table.Load().refused {
		all[name] = r.err
	}
	return all
}
