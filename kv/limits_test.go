package kv_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

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
	if !errors.Is(err, kv.ErrFull) {
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
