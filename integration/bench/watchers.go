package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

// What the process with the watchers is told to do.
const (
	actCreate = "create" // the watchers
	actPut    = "put"    // o.Count values, each when all watchers have the one before
	actEnd    = "end"    // the watchers
)

const (
	watchBucket = "bench_watched"
	putTimeout  = 10 * time.Second
)

// bucket is a key-value bucket over several connections.
type bucket struct {
	put func(ctx context.Context, key string, value []byte) error
	// watch follows the bucket over connection i until ctx ends: it calls ready when it has the current state, and told
	// with what comes.
	watch func(ctx context.Context, i int, ready func(), told func(value []byte)) error
	close func() error
}

// watching is the watchers of one bucket, and who puts.
type watching struct {
	bucket  *bucket
	running sync.WaitGroup
	cancel  context.CancelFunc
	failed  chan error

	mu     sync.Mutex
	number uint64 // of the present put
	begin  time.Time
	missed int // watchers that do not have it yet
	first  time.Duration
	last   chan time.Duration
}

func newWatchers(b *bucket, err error) (act func(context.Context, order) (answer, error), stop func() error, _ error) {
	if err != nil {
		return nil, nil, err
	}
	w := &watching{bucket: b, cancel: func() {}, failed: make(chan error, watchers), last: make(chan time.Duration, 1)}
	return w.act, func() error {
		w.end()
		return b.close()
	}, nil
}

func (w *watching) act(ctx context.Context, o order) (ans answer, err error) {
	switch o.Variant {
	case actCreate:
		ans.Took, err = w.create(ctx)
	case actPut:
		for i := range o.Count {
			first, last, err := w.put(ctx, "key-"+strconv.Itoa(i%watchKeys))
			if err != nil {
				return ans, err
			}
			ans.Spread.First, ans.Spread.Last = append(ans.Spread.First, first), append(ans.Spread.Last, last)
		}
	case actEnd:
		w.end()
	default:
		err = fmt.Errorf("watchers cannot %q", o.Variant)
	}
	return ans, err
}

// create starts all watchers at once and tells how long it took until each had the current state.
func (w *watching) create(ctx context.Context) (time.Duration, error) {
	ctx, w.cancel = context.WithCancel(ctx)
	var ready sync.WaitGroup
	ready.Add(watchers)
	begin := time.Now()
	for i := range watchers {
		w.running.Go(func() {
			if err := w.bucket.watch(ctx, i%watchConnections, ready.Done, w.told); err != nil {
				w.failed <- err
			}
		})
	}
	done := make(chan struct{})
	go func() { // ends with the watchers at the latest: a failure ends the process
		ready.Wait()
		close(done)
	}()
	select {
	case <-done:
		return time.Since(begin), nil
	case err := <-w.failed:
		return 0, err
	case <-time.After(putTimeout):
		return 0, fmt.Errorf("no %d watchers after %v", watchers, putTimeout)
	}
}

func (w *watching) end() {
	w.cancel()
	w.running.Wait()
}

// told counts a watcher that has the present put's value.
func (w *watching) told(value []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(value) != payloadSize || binary.BigEndian.Uint64(value) != w.number {
		return
	}
	if w.missed == watchers {
		w.first = time.Since(w.begin)
	}
	if w.missed--; w.missed == 0 {
		w.last <- time.Since(w.begin)
	}
}

// put writes a value and waits until all watchers have it.
func (w *watching) put(ctx context.Context, key string) (first, last time.Duration, err error) {
	value := newBody()
	w.mu.Lock()
	w.number++
	w.missed, w.begin = watchers, time.Now()
	binary.BigEndian.PutUint64(value, w.number)
	w.mu.Unlock()
	if err := w.bucket.put(ctx, key, value); err != nil {
		return 0, 0, err
	}
	select {
	case last = <-w.last:
		return w.first, last, nil
	case err = <-w.failed:
	case <-time.After(putTimeout):
		err = fmt.Errorf("not all of %d watchers were told within %v", watchers, putTimeout)
	}
	return 0, 0, err
}

// fill gives the bucket a state to begin with.
func (b *bucket) fill(ctx context.Context) error {
	for i := range watchKeys {
		if err := b.put(ctx, "key-"+strconv.Itoa(i), bytes.Repeat([]byte{0xff}, payloadSize)); err != nil {
			return err
		}
	}
	return nil
}

// openTables opens the bucket by package kv.
func openTables(ctx context.Context, url string) (*bucket, error) {
	var conns []*bus.Conn
	var tables []*kv.Table[[]byte]
	b := &bucket{}
	b.close = func() error {
		var errs []error
		for _, c := range conns {
			errs = append(errs, c.Close())
		}
		return errors.Join(errs...)
	}
	for range watchConnections + 1 { // one to put
		conn, err := bus.Connect(ctx, bus.Config{Server: url})
		if err != nil {
			return nil, errors.Join(err, b.close())
		}
		conns = append(conns, conn)
		table, err := kv.Open[[]byte](ctx, conn, watchBucket, kv.Config{Codec: bus.Raw{}})
		if err != nil {
			return nil, errors.Join(err, b.close())
		}
		tables = append(tables, table)
	}
	b.put = func(ctx context.Context, key string, value []byte) error {
		_, err := tables[watchConnections].Put(ctx, key, value)
		return err
	}
	b.watch = func(ctx context.Context, i int, ready func(), told func([]byte)) error {
		return tables[i].Follow(ctx, ">", func(batch []kv.Entry[[]byte]) {
			for _, e := range batch {
				told(e.Value)
			}
			if ready != nil {
				ready()
				ready = nil
			}
		})
	}
	return b, b.fill(ctx)
}

// openBuckets opens the bucket by nats.go.
func openBuckets(ctx context.Context, url string) (*bucket, error) {
	var conns []*nats.Conn
	var buckets []jetstream.KeyValue
	b := &bucket{}
	b.close = func() error {
		for _, c := range conns {
			c.Close()
		}
		return nil
	}
	for range watchConnections + 1 { // one to put
		nc, err := nats.Connect(url)
		if err != nil {
			return nil, errors.Join(err, b.close())
		}
		conns = append(conns, nc)
		js, err := jetstream.New(nc)
		if err != nil {
			return nil, errors.Join(err, b.close())
		}
		kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: watchBucket})
		if err != nil {
			return nil, errors.Join(err, b.close())
		}
		buckets = append(buckets, kv)
	}
	b.put = func(ctx context.Context, key string, value []byte) error {
		_, err := buckets[watchConnections].Put(ctx, key, value)
		return err
	}
	b.watch = func(ctx context.Context, i int, ready func(), told func([]byte)) error {
		return watchBucketOf(ctx, buckets[i], ready, told)
	}
	return b, b.fill(ctx)
}

func watchBucketOf(ctx context.Context, kv jetstream.KeyValue, ready func(), told func([]byte)) (err error) {
	w, err := kv.WatchAll(context.WithoutCancel(ctx)) // or else the end of ctx removes the consumer, and Stop does not find it
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Stop()) }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Updates():
			switch {
			case !ok && ctx.Err() != nil:
				return nil
			case !ok:
				return errors.New("the watcher ended")
			case e == nil:
				ready()
			default:
				told(e.Value())
			}
		}
	}
}
