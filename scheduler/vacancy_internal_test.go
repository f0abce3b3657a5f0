package scheduler

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
)

// Nobody has a shard because the record of a lease that has ended is still there, be it the lease that was lost first or a later one.
func TestVacancyOutlivesStaleRecord(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		leases, err := kv.OpenLeases(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		acquire := func(owner string) *kv.Lease {
			t.Helper()
			lease, err := leases.Acquire(t.Context(), "shard", owner, leaseTTL)
			if err != nil {
				t.Fatal(err)
			}
			return lease
		}
		release := func(lease *kv.Lease) {
			t.Helper()
			if err := lease.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		var log bytes.Buffer
		v := &vacancy{s: &Scheduler{log: slog.New(slog.NewTextHandler(&log, nil))}, leases: leases, key: "shard"}
		lost := acquire("one") // it is kept here, so that its record stays
		for range 2 {
			v.begin(t.Context(), lost.Term())
			time.Sleep(10*vacancyLook + vacancyLook/2) // fake time: so that what follows falls between two looks
			if !v.open.Load() {
				t.Fatalf("the record of a lease that has ended is taken for one who has the shard: %s", log.Bytes())
			}
			release(lost)
			lost = acquire("one")
		}
		release(lost)
		defer release(acquire("two"))
		v.telling.Wait()
		if told := log.String(); strings.Count(told, "\n") != 1 || !strings.Contains(told, "by=two") {
			t.Errorf("told:\n%s", told)
		}
	})
}
