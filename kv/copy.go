package kv

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/internal/backoff"
)

const (
	copyShare    = 10 // one part in so many of the time is spent on making the map anew
	minCopyPause = time.Millisecond
	maxCopyPause = 100 * time.Millisecond
)

// Copy is a local copy of the part of a table that matches a pattern, kept by one feed. Reading it costs no request and
// takes no lock. While the connection is down it holds what was last known.
type Copy[T any] struct {
	state  atomic.Pointer[copyState[T]]
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

type copyState[T any] struct {
	entries map[string]Entry[T]
	changed chan struct{}
}

// Copy makes a local copy and returns once the current state is in it. ctx bounds only that; the copy lives until
// [Copy.Close]. The error is a [KeyError] with the cause why ctx ended, or [ErrBadKey].
func (t *Table[T]) Copy(ctx context.Context, pattern string) (*Copy[T], error) {
	c := &Copy[T]{}
	c.state.Store(&copyState[T]{changed: make(chan struct{})})
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.cancel = cancel
	loaded := make(chan struct{})
	failed := make(chan error, 1)
	c.wg.Go(func() {
		first := true
		failed <- t.Follow(life, pattern, func(batch []Entry[T]) {
			begin := time.Now()
			c.apply(batch)
			if first {
				first = false
				close(loaded)
			}
			// Rest in proportion to what that cost: meanwhile further changes gather in the feed.
			if rest := min(copyShare*time.Since(begin), maxCopyPause); rest > minCopyPause {
				_ = backoff.Sleep(life, rest)
			}
		})
	})
	var err error
	select {
	case <-loaded:
		return c, nil
	case err = <-failed:
	case <-ctx.Done():
		err = t.b.keyError("copy", pattern, context.Cause(ctx))
	}
	c.cancel()
	c.wg.Wait()
	return nil, err
}

// apply makes the next state.
func (c *Copy[T]) apply(batch []Entry[T]) {
	before := c.state.Load()
	entries := maps.Clone(before.entries)
	if entries == nil {
		entries = make(map[string]Entry[T], len(batch))
	}
	for _, e := range batch {
		if e.Deleted {
			delete(entries, e.Key)
		} else {
			entries[e.Key] = e
		}
	}
	c.state.Store(&copyState[T]{entries: entries, changed: make(chan struct{})})
	close(before.changed)
}

// Get is the entry of key. An entry whose value did not decode has Err set.
func (c *Copy[T]) Get(key string) (Entry[T], bool) {
	e, ok := c.state.Load().entries[key]
	return e, ok
}

// All is the current state. It is shared and must not be changed; it never changes by itself, the next change makes
// another map.
func (c *Copy[T]) All() map[string]Entry[T] { return c.state.Load().entries }

// Changed is a channel that is closed at the next change. To miss none, get it before reading:
//
//	for {
//		changed := c.Changed()
//		use(c.All())
//		<-changed
//	}
//
// After Close it is never closed.
func (c *Copy[T]) Changed() <-chan struct{} { return c.state.Load().changed }

// Close ends the feed and returns when it has ended. The copy can still be read. Further calls do nothing.
func (c *Copy[T]) Close() error {
	c.cancel()
	c.wg.Wait()
	return nil
}
