package kv

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/nats-io/nats.go"
)

// Follow calls f with the current entries that match pattern (see [CheckPattern]), all in one batch that may be empty, and
// then with each batch of changes. While f runs, changes gather: of each key f hears the latest only, and of a key that
// came and went meanwhile nothing. Within a batch the entries are ordered by revision.
//
// f runs in the goroutine that called Follow; the batch is f's to keep. Follow returns nil when ctx ends, once nothing of
// it runs any more, and a [KeyError] for a bad pattern, when the server refuses at the beginning what following takes
// (permission_denied), or when the connection is closed for good. Everything else that can go wrong it waits out: see the
// package comment on failure.
func (t *Table[T]) Follow(ctx context.Context, pattern string, f func(batch []Entry[T])) error {
	told := map[string]struct{}{} // keys f knows as present
	first := true
	err := t.b.follow(ctx, pattern, func(records []record) {
		if records = news(records, told); len(records) == 0 && !first {
			return
		}
		first = false
		batch := make([]Entry[T], len(records))
		for i, r := range records {
			batch[i] = decode[T](t.b.cfg.Codec, r)
		}
		f(batch)
	})
	return t.b.keyError("follow", pattern, err)
}

// follow is Follow without the type. f also hears that a key was deleted of which it never heard that it was there.
func (b *bucket) follow(ctx context.Context, pattern string, f func(batch []record)) error {
	if err := CheckPattern(pattern); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	fd := b.newFeed(pattern)
	var wg sync.WaitGroup
	wg.Go(func() { fd.run(ctx) })
	defer wg.Wait()
	defer cancel()

	first := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-fd.out.ready:
		}
		batch, err := fd.out.take()
		if err != nil {
			return fmt.Errorf("the feed ended: %w", err)
		}
		if len(batch) > 0 || first {
			f(batch)
			first = false
		}
	}
}

// news leaves out deletions of keys that the follower never heard of.
func news(batch []record, told map[string]struct{}) []record {
	kept := batch[:0]
	for _, r := range batch {
		_, known := told[r.key]
		switch {
		case !r.deleted:
			told[r.key] = struct{}{}
		case known:
			delete(told, r.key)
		default:
			continue
		}
		kept = append(kept, r)
	}
	return kept
}

// NotifyElected makes t send to ch, without blocking, whenever the servers have elected a leader of the bucket: until then
// nothing could be written for a while, and what expires about that time is perhaps only what could not be renewed. Like all
// that servers tell on their own it may be lost; without the permission (see the package comment), or from a server that is
// alone, nothing is told. stop ends it.
func (t *Table[T]) NotifyElected(ch chan<- struct{}) (stop func()) {
	sub, err := t.b.nc.Subscribe(t.b.electedSubject(), func(*nats.Msg) {
		select {
		case ch <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return func() {} // the connection is closed
	}
	return func() { _ = sub.Unsubscribe() } // fails only when the connection is closed
}

// Watch yields the current entries that match pattern, then one zero Entry, known by its empty Key, that says that the
// current state is complete, and then every change, until ctx ends or the loop is left. What it yields is what
// [Table.Follow] tells, and a loop body that is slow misses revisions in the same way. An error ends the sequence; ctx
// ending is none.
func (t *Table[T]) Watch(ctx context.Context, pattern string) iter.Seq2[Entry[T], error] {
	return func(yield func(Entry[T], error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		loaded, left := false, false
		err := t.Follow(ctx, pattern, func(batch []Entry[T]) {
			if !loaded {
				loaded = true
				batch = append(batch, Entry[T]{})
			}
			for _, e := range batch {
				if left = ctx.Err() != nil || !yield(e, nil); left {
					cancel()
					return
				}
			}
		})
		if err != nil && !left {
			yield(Entry[T]{}, err)
		}
	}
}
