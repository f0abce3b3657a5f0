package balance_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/balance"
	"github.com/skybus-io/skybus/micro/registry"
)

// patience is how long a test waits for something that comes at once on a machine with nothing else to do.
const patience = 30 * time.Second

// instance is one that a test has in its registry.
type instance struct {
	id, version, region, host string
	load                      registry.Load
}

// named are n instances that differ in nothing but their id.
func named(n int) []instance {
	list := make([]instance, n)
	for i := range list {
		list[i].id = fmt.Sprintf("i%04d", i)
	}
	return list
}

// house is a registry that knows instances of the service svc.
type house struct {
	conn     *bus.Conn
	registry *registry.Registry
}

// online are the instances as a registry sees them.
func online(t testing.TB, list ...instance) []*registry.Instance {
	t.Helper()
	return open(t).add(t, list...)
}

func open(t testing.TB) *house {
	t.Helper()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	r, err := registry.Open(t.Context(), conn, registry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() }) // has no error to tell
	return &house{conn, r}
}

// add writes the instances and returns all that are online once these are.
func (h *house) add(t testing.TB, list ...instance) []*registry.Instance {
	t.Helper()
	for _, i := range list {
		if i.version == "" {
			i.version = "1.0.0"
		}
		h.report(t, i.id, i.load)
		h.put(t, registry.InstancesBucket, i.id, registry.Record{
			Service: "svc", Instance: i.id, Version: i.version, Region: i.region, Host: i.host, Registered: true,
			Endpoints: []registry.Endpoint{{Name: "do"}},
		})
	}
	var instances []*registry.Instance
	eventually(t, "the instances to be online", func() bool {
		if s := h.registry.Service("svc"); s != nil {
			instances = s.Online
		}
		known := map[string]bool{}
		for _, i := range instances {
			known[i.Instance] = true
		}
		for _, i := range list {
			if !known[i.id] {
				return false
			}
		}
		return true
	})
	return instances
}

// report writes what an instance tells of its work.
func (h *house) report(t testing.TB, id string, load registry.Load) {
	t.Helper()
	h.put(t, registry.LivenessBucket, id, load)
}

func (h *house) put(t testing.TB, bucket, id string, v any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := h.conn.JetStream().KeyValue(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), h.conn.Namespace().Key("svc", id), data); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// tally is how many of n picks each instance gets.
func tally(p balance.Policy, instances []*registry.Instance, call balance.Call, n int) map[string]int {
	count := map[string]int{}
	for range n {
		count[p.Pick(instances, call).Instance]++
	}
	return count
}

// near tells whether got of n is the part want of it, give or take a tenth.
func near(got, n int, want float64) bool {
	part := float64(got) / float64(n)
	return part > want*0.9 && part < want*1.1
}
