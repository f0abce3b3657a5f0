package kv_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
)

// A lease that comes and goes while somebody is told that it is held: who waits hears that it is free all the same. The
// ttl is so long that trying again after it does not help.
func TestWaitHearsEveryRelease(t *testing.T) {
	t.Parallel()
	const (
		rounds, contenders = 300, 3
		enough             = 10 * time.Second // on a busy machine fewer rounds are tried
		limit              = 20 * time.Second // of a round: who did not hear waits for an hour
	)
	server := bustest.Server(t)
	leases := make([]*kv.Leases, contenders)
	for i := range leases {
		leases[i] = openLeases(t, connect(t, server))
	}
	start := time.Now()
	for round := 0; round < rounds && time.Since(start) < enough; round++ {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		var wg sync.WaitGroup
		for i, l := range leases {
			wg.Go(func() {
				lease, err := l.Wait(ctx, "x", fmt.Sprint(i), time.Hour)
				if err != nil {
					t.Errorf("round %d: %v", round, err)
					return
				}
				if err := lease.Release(ctx); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		wg.Wait()
		cancel()
		if t.Failed() {
			_, err := leases[0].Holder(t.Context(), "x")
			t.Fatalf("round %d: the holder: %v", round, err)
		}
	}
}

// A lease that is purged is told to nobody.
func TestWaitTriesAgain(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		const ttl = 2 * time.Second
		ctx := t.Context()
		conn := connect(t, bustest.Server(t))
		a, b := openLeases(t, conn), openLeases(t, conn)
		stream, err := conn.JetStream().Stream(ctx, "KV_skybus_leases")
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			l, err := a.Acquire(ctx, "x", "a", ttl)
			own(t, l, err)
			got := make(chan *kv.Lease, 1)
			go func() {
				lease, err := b.Wait(ctx, "x", "b", ttl)
				if err != nil {
					t.Error(err)
				}
				got <- lease
			}()
			time.Sleep(11 * time.Second)
			if err := stream.Purge(ctx, jetstream.WithPurgeSubject("$KV.skybus_leases.x")); err != nil {
				t.Fatal(err)
			}
			purged := time.Now()
			lease := own(t, <-got, nil)
			if took := time.Since(purged); took > ttl+100*time.Millisecond {
				t.Errorf("took %v, want %v at most", took, ttl)
			}
			if err := lease.Release(ctx); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A full store is over when somebody makes room: who waits gets the lease then.
func TestWaitOutFullStore(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		ctx := t.Context()
		var warnings atomic.Int32
		log := slog.New(warningCounter{slog.DiscardHandler, &warnings})
		conn := connectWith(t, bus.Config{InProcess: bustest.Server(t), Store: 1 << 20, Logger: log})
		leases := openLeases(t, conn)
		stream, err := conn.JetStream().Stream(ctx, "KV_skybus_leases")
		if err != nil {
			t.Fatal(err)
		}
		for n, size := 0, 10_000; size > 0; n++ { // until not even a small message fits
			if _, err := conn.JetStream().Publish(ctx, fmt.Sprintf("$KV.skybus_leases.fill.%d", n), make([]byte, size)); err != nil {
				size /= 4
			}
		}
		if _, err := leases.Acquire(ctx, "default.dev.test.x", "a", ttl); !errors.Is(err, kv.ErrFull) {
			t.Fatalf("Acquire: %v, want it full", err)
		}
		got := make(chan error, 1)
		go func() {
			lease, err := leases.Wait(ctx, "default.dev.test.x", "a", ttl)
			if err == nil {
				err = lease.Release(ctx)
			}
			got <- err
		}()
		time.Sleep(time.Minute) // fake time: some tries
		select {
		case err := <-got:
			t.Fatalf("in a full store: %v", err)
		default:
		}
		if n := warnings.Load(); n != 1 {
			t.Errorf("%d warnings, want 1", n)
		}
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject("$KV.skybus_leases.fill.>")); err != nil {
			t.Fatal(err)
		}
		purged := time.Now()
		if err := <-got; err != nil {
			t.Error(err)
		}
		if took := time.Since(purged); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// warningCounter counts warnings.
type warningCounter struct {
	slog.Handler
	n *atomic.Int32
}

func (w warningCounter) Enabled(context.Context, slog.Level) bool { return true }

func (w warningCounter) WithAttrs([]slog.Attr) slog.Handler { return w }

func (w warningCounter) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "lease cannot be had yet" && r.Level == slog.LevelWarn {
		w.n.Add(1)
	}
	return nil
}
