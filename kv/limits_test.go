package kv_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

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
