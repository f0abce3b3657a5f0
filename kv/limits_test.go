package kv_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
)

func TestTooLarge(t *testing.T) {
	t.Parallel()
	server := bustest.Server(t, bustest.MaxPayload(4096))
	table := open(t, connect(t, server), kv.Config{})
	if _, err := table.Put(t.Context(), "a", widget{Name: strings.Repeat("x", 70_000)}); !errors.Is(err, kv.ErrTooLarge) {
		t.Errorf("larger than the bucket takes: %v", err)
	}
	if _, err := table.Put(t.Context(), "a", widget{Name: strings.Repeat("x", 5_000)}); !errors.Is(err, kv.ErrTooLarge) {
		t.Errorf("larger than the server takes: %v", err)
	}
	put(t, table, "a", 1)
}

func TestFull(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn := connectWith(t, bus.Config{InProcess: bustest.Server(t), Store: 1 << 20})
	table := open(t, conn, kv.Config{})
	c := copyOf(t, table, ">")
	big := widget{Name: strings.Repeat("x", 1000)}
	var err error
	n := 0
	for ; err == nil; n++ {
		_, err = table.Put(ctx, fmt.Sprintf("k%d", n), big)
	}
	if !errors.Is(err, kv.ErrFull) || !strings.Contains(err.Error(), "the bucket is full: delete keys, or enlarge it (nats stream edit KV_widgets --max-bytes ...)") {
		t.Fatalf("after %d keys: %v", n, err)
	}
	for err = nil; err == nil; n++ { // so full that no deletion fits
		_, err = table.Put(ctx, fmt.Sprintf("k%d", n), widget{})
	}
	if err := table.Delete(ctx, "k0"); err != nil {
		t.Errorf("Delete in a full bucket: %v", err)
	}
	until(t, c, "no k0", lacks("k0"))
	e, _ := c.Get("k1")
	if err := table.Delete(ctx, "k1", kv.IfRevision(e.Revision)); err != nil {
		t.Errorf("conditional Delete in a full bucket: %v", err)
	}
	until(t, c, "no k1", lacks("k1"))
	if _, err := table.Put(ctx, "k0", big); err != nil {
		t.Errorf("Put after Delete: %v", err)
	}
}

// A bucket that has room is not what is full.
func TestStoreFull(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	for _, c := range []struct {
		name, want string
		limit      func(*testing.T, *bustest.Node)
		options    func(*server.Options)
	}{
		{"servers", "the store of the servers is full", func(*testing.T, *bustest.Node) {}, func(o *server.Options) { o.JetStreamMaxStore = size }},
		{"account", "the store of the account is full", func(t *testing.T, n *bustest.Node) {
			t.Helper()
			limits := map[string]server.JetStreamAccountLimits{"": {MaxMemory: -1, MaxStore: size, MaxStreams: -1, MaxConsumers: -1}}
			if err := n.Server().GlobalAccount().UpdateJetStreamLimits(limits); err != nil {
				t.Fatal(err)
			}
		}, func(*server.Options) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			node := bustest.Server(t, bustest.Configure(c.options))
			c.limit(t, node)
			conn := connectWith(t, bus.Config{InProcess: node, Store: 1 << 20})
			table := open(t, conn, kv.Config{})
			var revs [2]uint64
			for i := range revs {
				revs[i] = put(t, table, fmt.Sprint("old", i), 0)
			}
			js := conn.JetStream()
			if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "FILL", Subjects: []string{"fill"}}); err != nil {
				t.Fatal(err)
			}
			for size := 256 << 10; size > 0; { // until not even a small message fits
				if _, err := js.Publish(t.Context(), "fill", make([]byte, size)); err != nil {
					size /= 4
				}
			}
			_, err := table.Create(t.Context(), "a", widget{Name: "x"})
			if !errors.Is(err, kv.ErrFull) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "bucket is full") {
				t.Errorf("%v, want %q", err, c.want)
			}
			if status := bus.AsError(err).HTTPStatus(); status != http.StatusInsufficientStorage {
				t.Errorf("status %d, want 507", status)
			}
			if err := table.Delete(t.Context(), "old0", kv.IfRevision(revs[0]+100)); !errors.Is(err, kv.ErrConflict) {
				t.Errorf("Delete of another revision: %v, want a conflict", err)
			}
			for i, opts := range [][]kv.DeleteOption{{kv.IfRevision(revs[0])}, nil} { // for whose deletions there is no room
				key := fmt.Sprint("old", i)
				if err := table.Delete(t.Context(), key, opts...); err != nil {
					t.Errorf("Delete: %v", err)
				}
				if _, err := table.Get(t.Context(), key); !errors.Is(err, kv.ErrNotFound) {
					t.Errorf("after Delete: %v, want it gone", err)
				}
			}
		})
	}
}

func TestMaxBytes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn := connectWith(t, bus.Config{InProcess: bustest.Server(t), Store: 400 << 20})
	for _, c := range []struct {
		name       string
		size, want int64
	}{
		{"share", 0, 4 << 20},
		{"sized", 10_000, 10_000},
	} {
		table, err := kv.Open[widget](ctx, conn, c.name, kv.Config{MaxBytes: c.size})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := conn.JetStream().Stream(ctx, "KV_"+c.name)
		if err != nil {
			t.Fatal(err)
		}
		cfg := stream.CachedInfo().Config
		if cfg.MaxBytes != c.want || cfg.Discard != jetstream.DiscardNew {
			t.Errorf("%s: %d bytes and discard %v, want %d and %v", c.name, cfg.MaxBytes, cfg.Discard, c.want, jetstream.DiscardNew)
		}
		for i := range 10 {
			_, err = table.Put(ctx, fmt.Sprintf("k%d", i), widget{Name: strings.Repeat("x", 2000)})
		}
		if full := errors.Is(err, kv.ErrFull); full != (c.size > 0) {
			t.Errorf("%s: after 20 kB: %v", c.name, err)
		}
	}
}
