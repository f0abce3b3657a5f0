package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/registry"
)

func TestStates(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	r := open(t, conn, nil)
	if r.Service("shop") != nil || len(r.Services()) != 0 {
		t.Errorf("an empty registry has %v", r.Services())
	}
	full := registry.Record{
		Service: "shop", Instance: "b", Version: "1.2.3-rc.1+5", Description: "sells", Region: "eu", Host: "h", PID: 7, Build: "abc",
		Started: time.Now().UTC().Round(0), Registered: true,
		Endpoints:  []registry.Endpoint{{Name: "get", Idempotent: true}, {Name: "note", OneWay: true}, {Name: "fill", Amends: true}, {Name: "tail", Description: "the end", Streams: true, Internal: true, Request: json.RawMessage(`{}`)}},
		Metadata:   map[string]string{"team": "x"},
		Attributes: map[string]json.RawMessage{"rack": json.RawMessage(`"r1"`)},
	}
	online := announce(t, conn, full, registry.AnnounceConfig{})
	becomes(t, r, "shop", "b", registry.Online)
	if diff := cmp.Diff(full, find(r, "shop", "b").Record, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(registry.Record{}, "Session")); diff != "" {
		t.Errorf("(-announced +seen)\n%s", diff)
	}
	resting := record("shop", "a")
	resting.Registered = false
	announce(t, conn, resting, registry.AnnounceConfig{})
	becomes(t, r, "shop", "a", registry.Unregistered)
	if r.Service("shop").Offline() {
		t.Error("an instance that does not want requests counts as one that froze")
	}
	records, _ := tables(t, conn)
	if _, err := records.Put(t.Context(), "default.dev.shop.0", record("shop", "0")); err != nil {
		t.Fatal(err)
	}
	becomes(t, r, "shop", "0", registry.Offline)
	service := r.Service("shop")
	if !service.Offline() || len(service.Online) != 1 || len(service.Rest) != 2 || service.Rest[0].Instance != "0" || service.Name != "shop" {
		t.Errorf("%+v", service)
	}
	for name, want := range map[string]bool{"get": true, "note": true, "": false, "Get": false} {
		if _, got := service.Online[0].Endpoint(name); got != want {
			t.Errorf("endpoint %q: %v", name, got)
		}
	}
	if err := online.stop(); err != nil {
		t.Error(err)
	}
	becomes(t, r, "shop", "b", "")
	if err := records.Delete(t.Context(), "default.dev.shop.0"); err != nil {
		t.Fatal(err)
	}
	becomes(t, r, "shop", "0", "")
	if len(service.Online) != 1 || r.Service("shop") == service {
		t.Error("a snapshot changed after it was given out")
	}
}

// A channel of before a change is closed by it, one of after is not; what an instance tells of its load is no change.
func TestChanged(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	r := open(t, conn, nil)
	var mu sync.Mutex
	n := 0
	load := func() registry.Load {
		mu.Lock()
		defer mu.Unlock()
		n++
		return registry.Load{InFlight: n, Limit: 8, Latency: 250, Shed: 3}
	}
	changed := r.Changed()
	a := announce(t, conn, record("shop", "a"), registry.AnnounceConfig{Heartbeat: quickHeartbeat, TTL: registry.DefaultTTL, Load: load})
	wait := func() {
		t.Helper()
		select {
		case <-changed:
		case <-time.After(patience):
			t.Fatal("the change is not told")
		}
	}
	for state(r, "shop", "a") != registry.Online {
		wait()
		changed = r.Changed()
	}
	i := find(r, "shop", "a")
	before := i.Load()
	if before.Limit != 8 || before.Latency != 250 || before.Shed != 3 || before.InFlight == 0 {
		t.Errorf("load %+v", before)
	}
	bustest.Eventually(t, "three heartbeats", func() bool { return i.Load().InFlight >= before.InFlight+3 })
	select {
	case <-changed:
		t.Error("a heartbeat is told as a change")
	default:
	}
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	wait()
	becomes(t, r, "shop", "a", "")
	if got := i.Load(); got.Limit != 8 {
		t.Errorf("the load of an instance that left is %+v", got)
	}
}

// What others put into the buckets does no harm.
func TestBadEntries(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	var book logBook
	r := open(t, conn, book.logger())
	js := conn.JetStream()
	put := func(bucket, key, value string) {
		t.Helper()
		kv, err := js.KeyValue(t.Context(), bucket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.PutString(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	good, err := json.Marshal(record("x", "y"))
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 65)
	bad := []string{
		"default.dev.short", "default.dev.a.b.c", "default.dev.a/b.c", "default.dev.a.b=c", "default.dev." + long + ".i",
		"default.dev.s." + long, "default.dev.s." + strings.Repeat("x", 3000),
	}
	for _, key := range bad {
		put(registry.InstancesBucket, key, string(good))
		put(registry.LivenessBucket, key, `{}`)
	}
	put(registry.InstancesBucket, "shop.prod.x.y", string(good))
	put(registry.InstancesBucket, "default.dev.no.json", `{"version":`)
	put(registry.InstancesBucket, "default.dev.wrong.type", `{"version":5}`)
	put(registry.InstancesBucket, "default.dev.lies.here", `{"service":"other","instance":"there","version":"1.0.0","registered":true}`)
	put(registry.LivenessBucket, "default.dev.lies.here", `{"unknown":true}`)
	becomes(t, r, "lies", "here", registry.Online) // the key decides
	if l := find(r, "lies", "here").Load(); l != (registry.Load{}) {
		t.Errorf("load %+v", l)
	}
	bustest.Eventually(t, "all entries to be read", func() bool { return strings.Count(book.String(), "WARN") >= len(bad)+2 })
	if n := len(r.Services()); n != 1 {
		t.Errorf("%d services: %v", n, r.Services())
	}
	for _, key := range append(bad, "default.dev.no.json", "default.dev.wrong.type") {
		if !strings.Contains(book.String(), key[:min(len(key), 60)]) {
			t.Errorf("no warning about %q", key)
		}
	}
	if strings.Contains(book.String(), "shop.prod") {
		t.Error("a warning about another namespace")
	}
	// A good record that was overwritten is better than none.
	put(registry.InstancesBucket, "default.dev.lies.here", `{`)
	bustest.Eventually(t, "the warning", func() bool { return strings.Contains(book.String(), "default.dev.lies.here") })
	if state(r, "lies", "here") != registry.Online {
		t.Errorf("the instance is %q", state(r, "lies", "here"))
	}
	// Who opens the registry later sees the same, without it.
	if late := open(t, connect(t, s), nil); len(late.Services()) != 0 {
		t.Errorf("%v", late.Services())
	}
}

// Other namespaces are not seen.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	in := func(ns string) *bus.Conn { return connect(t, s, func(cfg *bus.Config) { cfg.Namespace = ns }) }
	prod, dev := in("shop.prod"), in("shop.dev")
	announce(t, prod, record("x", "one"), registry.AnnounceConfig{})
	announce(t, dev, record("x", "two"), registry.AnnounceConfig{})
	rp, rd := open(t, prod, nil), open(t, dev, nil)
	becomes(t, rp, "x", "one", registry.Online)
	becomes(t, rd, "x", "two", registry.Online)
	if state(rp, "x", "two") != "" || state(rd, "x", "one") != "" {
		t.Error("an instance is seen from another namespace")
	}
	if n := len(open(t, in("shop.test"), nil).Services()); n != 0 {
		t.Errorf("%d services in an empty namespace", n)
	}
}

// Liveness counts for its TTL and no longer, and a renewal lengthens it.
func TestExpiry(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		s := bustest.Server(t)
		conn := connect(t, s)
		r := open(t, conn, nil)
		mortal := connect(t, s)
		announced := announce(t, mortal, record("shop", "a"), registry.AnnounceConfig{})
		becomes(t, r, "shop", "a", registry.Online)
		changed := r.Changed()
		time.Sleep(5 * time.Minute)
		select {
		case <-changed:
			t.Error("in five minutes of heartbeats something changed")
		default:
		}
		mortal.NATS().Close() // as a process that is killed
		begin := time.Now()
		time.Sleep(registry.DefaultTTL - registry.DefaultHeartbeat - time.Second)
		if got := state(r, "shop", "a"); got != registry.Online {
			t.Errorf("the instance is %q %v after the last heartbeat at the earliest", got, time.Since(begin))
		}
		becomes(t, r, "shop", "a", registry.Offline)
		t.Logf("offline %v after the end", time.Since(begin))
		if took := time.Since(begin); took > registry.DefaultTTL+2*time.Second {
			t.Errorf("it took %v", took)
		}
		if !r.Service("shop").Offline() {
			t.Error("a lost instance is not told of")
		}
		time.Sleep(time.Minute)
		if r.Service("shop").Offline() {
			t.Error("a minute later the server has dropped a frozen client too, and it is still told of")
		}
		if err := announced.stop(); err == nil {
			t.Error("the announcer could withdraw without a connection")
		}
		// It comes back under the same name.
		announce(t, conn, record("shop", "a"), registry.AnnounceConfig{})
		becomes(t, r, "shop", "a", registry.Online)
	})
}

// What was known stays known while the servers are away, and is right a few seconds after.
func TestServerAway(t *testing.T) {
	t.Parallel()
	for _, memory := range []bool{false, true} {
		t.Run(fmt.Sprintf("memory=%v", memory), func(t *testing.T) {
			t.Parallel()
			var opts []bustest.Option
			if memory {
				opts = append(opts, bustest.Memory())
			}
			s := bustest.Server(t, opts...)
			conn := connect(t, s)
			r := open(t, conn, nil)
			stays := announce(t, conn, record("shop", "stays"), registry.AnnounceConfig{Heartbeat: quickHeartbeat, TTL: quickTTL})
			other := connect(t, s)
			announce(t, other, record("shop", "dies"), registry.AnnounceConfig{Heartbeat: quickHeartbeat, TTL: quickTTL})
			becomes(t, r, "shop", "stays", registry.Online)
			becomes(t, r, "shop", "dies", registry.Online)
			s.Stop()
			other.NATS().Close()
			<-time.After(quickTTL + quickTTL/2)
			if state(r, "shop", "stays") != registry.Online || state(r, "shop", "dies") != registry.Online {
				t.Errorf("while the server is away %q and %q", state(r, "shop", "stays"), state(r, "shop", "dies"))
			}
			s.Start(t)
			start := time.Now()
			want := registry.Offline // its record is still there
			if memory {
				want = ""
			}
			becomes(t, r, "shop", "dies", want)
			becomes(t, r, "shop", "stays", registry.Online)
			t.Logf("right again after %v", time.Since(start))
			if took := time.Since(start); took > 15*time.Second { // 5 s of them for whoever is slow to come back
				t.Errorf("it took %v", took)
			}
			if err := stays.stop(); err != nil {
				t.Error(err)
			}
			becomes(t, r, "shop", "stays", "")
		})
	}
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := registry.Open(ctx, conn, registry.Config{}); !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "registry: ") {
		t.Errorf("error %v", err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Open(t.Context(), conn, registry.Config{}); err == nil {
		t.Error("a registry over a closed connection")
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	r := open(t, conn, nil)
	announce(t, conn, record("shop", "a"), registry.AnnounceConfig{})
	becomes(t, r, "shop", "a", registry.Online)
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	second := open(t, conn, nil)
	announce(t, conn, record("shop", "b"), registry.AnnounceConfig{})
	becomes(t, second, "shop", "b", registry.Online)
	if state(r, "shop", "a") != registry.Online || state(r, "shop", "b") != "" {
		t.Errorf("after Close: %q, %q", state(r, "shop", "a"), state(r, "shop", "b"))
	}
}

// Buckets are made as their users expect them.
func TestBuckets(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	open(t, conn, nil)
	for _, bucket := range []string{registry.InstancesBucket, registry.LivenessBucket} {
		stream, err := conn.JetStream().Stream(t.Context(), "KV_"+bucket)
		if err != nil {
			t.Fatal(err)
		}
		cfg := stream.CachedInfo().Config
		if cfg.Storage != jetstream.FileStorage || cfg.MaxBytes <= 0 || cfg.RePublish == nil || !cfg.AllowMsgTTL || cfg.MaxMsgsPerSubject != 1 {
			t.Errorf("%s: %+v", bucket, cfg)
		}
	}
}

// What is no load is no sign of life.
func TestGarbageIsNoLife(t *testing.T) {
	t.Parallel()
	conn := connect(t, bustest.Server(t))
	records, liveness := tables(t, conn)
	if _, err := records.Put(t.Context(), "default.dev.shop.a", record("shop", "a")); err != nil {
		t.Fatal(err)
	}
	r := open(t, conn, nil)
	if i := r.Service("shop").Instance("a"); i == nil || i.State != registry.Offline {
		t.Fatalf("before: %+v", i)
	}
	for _, key := range []string{"a", "marker"} {
		value := []byte(`garbage`)
		if key == "marker" {
			value = []byte(`{}`)
			if _, err := records.Put(t.Context(), "default.dev.shop.marker", record("shop", "marker")); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := conn.JetStream().Publish(t.Context(), "$KV."+liveness.Bucket()+".default.dev.shop."+key, value); err != nil {
			t.Fatal(err)
		}
	}
	bustest.Eventually(t, "the one that is alive", func() bool { return len(r.Service("shop").Online) == 1 })
	if i := r.Service("shop").Instance("a"); i.State != registry.Offline {
		t.Errorf("after garbage was written: %s", i.State)
	}
}
