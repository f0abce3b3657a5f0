package registry_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/registry"
)

func TestNewAnnouncerRefuses(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	change := func(f func(*registry.Record)) registry.Record {
		r := record("shop", "a")
		f(&r)
		return r
	}
	for _, bad := range []string{"", "a.b", "*", ">", "a b", "a\x00b", strings.Repeat("x", 65), strings.Repeat("x", 5000)} {
		for what, r := range map[string]registry.Record{
			"service":  change(func(r *registry.Record) { r.Service = bad }),
			"instance": change(func(r *registry.Record) { r.Instance = bad }),
			"version":  change(func(r *registry.Record) { r.Version = bad }),
			"endpoint": change(func(r *registry.Record) { r.Endpoints = []registry.Endpoint{{Name: "ok"}, {Name: bad}} }),
		} {
			_, err := registry.NewAnnouncer(conn, r, registry.AnnounceConfig{})
			if bus.CodeOf(err) != bus.InvalidArgument || !strings.Contains(err.Error(), what) || len(err.Error()) > 300 {
				t.Errorf("%s %.20q: error %v", what, bad, err)
			}
		}
	}
	for _, cfg := range []registry.AnnounceConfig{
		{TTL: 999 * time.Millisecond, Heartbeat: time.Millisecond}, {Heartbeat: 6 * time.Second}, {TTL: 5 * time.Second}, {Heartbeat: -1}, {TTL: -1},
	} {
		if _, err := registry.NewAnnouncer(conn, record("shop", "a"), cfg); bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("%+v: error %v", cfg, err)
		}
	}
}

// Whatever takes record or liveness away, they are written again.
func TestAnnouncerRepairs(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	r := open(t, conn, nil)
	var announced atomic.Int64
	cfg := registry.AnnounceConfig{Heartbeat: quickHeartbeat, TTL: quickTTL, Announced: func() { announced.Add(1) }}
	announce(t, conn, record("shop", "a"), cfg)
	becomes(t, r, "shop", "a", registry.Online)
	bustest.Eventually(t, "the hook", func() bool { return announced.Load() == 1 })
	records, liveness := tables(t, conn)
	const key = "default.dev.shop.a"
	for _, fault := range []struct {
		what string
		do   func() error
	}{
		{"record deleted", func() error { return records.Delete(t.Context(), key) }},
		{"record overwritten", func() error { return overwrite(t.Context(), conn, registry.InstancesBucket, key) }},
		{"liveness deleted", func() error { return liveness.Delete(t.Context(), key) }},
		{"both deleted", func() error { return errors.Join(records.Delete(t.Context(), key), liveness.Delete(t.Context(), key)) }},
		{"bucket of records deleted", func() error { return conn.JetStream().DeleteKeyValue(t.Context(), registry.InstancesBucket) }},
		{"bucket of liveness deleted", func() error { return conn.JetStream().DeleteKeyValue(t.Context(), registry.LivenessBucket) }},
	} {
		before := announced.Load()
		if err := fault.do(); err != nil {
			t.Fatalf("%s: %v", fault.what, err)
		}
		start := time.Now()
		bustest.Eventually(t, "the record to be written again: "+fault.what, func() bool { return announced.Load() > before })
		becomes(t, r, "shop", "a", registry.Online)
		bustest.Eventually(t, "the keys: "+fault.what, func() bool {
			_, rerr := records.Get(t.Context(), key)
			_, lerr := liveness.Get(t.Context(), key)
			return rerr == nil && lerr == nil
		})
		t.Logf("%s: right again after %v", fault.what, time.Since(start))
	}
}

func overwrite(ctx context.Context, conn *bus.Conn, bucket, key string) error {
	kv, err := conn.JetStream().KeyValue(ctx, bucket)
	if err != nil {
		return err
	}
	_, err = kv.PutString(ctx, key, "{")
	return err
}

// Nothing is left of an instance that was withdrawn, and a new one of its name is announced once.
func TestAnnouncerWithdraws(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	r := open(t, conn, nil)
	records, liveness := tables(t, conn)
	for range 3 {
		var announced atomic.Int64
		a := announce(t, conn, record("shop", "a"), registry.AnnounceConfig{
			Heartbeat: quickHeartbeat, TTL: quickTTL, Announced: func() { announced.Add(1) },
		})
		becomes(t, r, "shop", "a", registry.Online)
		<-time.After(2 * quickHeartbeat)
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
		if n := announced.Load(); n != 1 {
			t.Errorf("announced %d times", n)
		}
		becomes(t, r, "shop", "a", "")
		if r.Service("shop") != nil {
			t.Errorf("%+v", r.Service("shop"))
		}
		for e, err := range records.List(t.Context(), ">") {
			t.Errorf("record %s is left (%v)", e.Key, err)
		}
		for e, err := range liveness.List(t.Context(), ">") {
			t.Errorf("liveness %s is left (%v)", e.Key, err)
		}
	}
}

// Liveness is written with a time to live, each time.
func TestAnnouncerTTL(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	r := open(t, conn, nil)
	a := announce(t, conn, record("shop", "a"), registry.AnnounceConfig{Heartbeat: quickHeartbeat, TTL: quickTTL})
	becomes(t, r, "shop", "a", registry.Online)
	stream, err := conn.JetStream().Stream(t.Context(), "KV_"+registry.LivenessBucket)
	if err != nil {
		t.Fatal(err)
	}
	seen := uint64(0)
	for range 3 {
		bustest.Eventually(t, "a heartbeat", func() bool {
			msg, err := stream.GetLastMsgForSubject(t.Context(), "$KV."+registry.LivenessBucket+".default.dev.shop.a")
			if err != nil || msg.Sequence == seen {
				return false
			}
			if ttl := msg.Header.Get("Nats-TTL"); ttl != "1" && ttl != "1s" {
				t.Errorf("TTL %q", ttl)
			}
			seen = msg.Sequence
			return true
		})
	}
	if err := a.stop(); err != nil {
		t.Error(err)
	}
}
