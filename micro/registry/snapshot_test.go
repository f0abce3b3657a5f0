package registry_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/registry"
)

func TestManyInstances(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	conn := connect(t, s)
	watching := open(t, conn, nil)
	records, liveness := tables(t, conn)
	const instances, services = 500, 5
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() { read(t, watching, done) })
	}
	start := time.Now()
	var writers sync.WaitGroup
	for w := range 10 {
		writers.Go(func() {
			for n := w; n < instances; n += 10 {
				service, id := fmt.Sprintf("s%d", n%services), fmt.Sprintf("i%03d", n)
				if err := write(t.Context(), records, liveness, service, id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	written := time.Since(start)
	complete := func(r *registry.Registry) bool {
		for n := range services {
			if s := r.Service(fmt.Sprintf("s%d", n)); s == nil || len(s.Online) != instances/services || len(s.Rest) != 0 {
				return false
			}
		}
		return len(r.Services()) == services
	}
	bustest.Eventually(t, "the watching registry", func() bool { return complete(watching) })
	t.Logf("%d instances written in %v, seen by the watching registry after %v", instances, written, time.Since(start))
	close(done)
	readers.Wait()

	start = time.Now()
	late := open(t, connect(t, s), nil)
	t.Logf("loaded in %v", time.Since(start))
	if !complete(late) {
		t.Error("a registry that is open has not loaded everything")
	}
	for _, r := range []*registry.Registry{watching, late} {
		for name, s := range r.Services() {
			for i := 1; i < len(s.Online); i++ {
				if s.Online[i-1].Instance >= s.Online[i].Instance {
					t.Fatalf("%s: %s before %s", name, s.Online[i-1].Instance, s.Online[i].Instance)
				}
			}
		}
	}
}

// read looks at everything there is to see until done is closed.
func read(t *testing.T, r *registry.Registry, done <-chan struct{}) {
	t.Helper()
	for {
		changed := r.Changed()
		for name, s := range r.Services() {
			if s.Name != name || s.Offline() != (len(s.Rest) > 0) {
				t.Errorf("%s: %+v", name, s)
				return
			}
			for _, i := range s.Online {
				if i.Load().Limit != 5 || i.Version != "1.0.0" {
					t.Errorf("%s/%s: %+v, version %s", name, i.Instance, i.Load(), i.Version)
					return
				}
			}
		}
		select {
		case <-done:
			return
		case <-changed:
		}
	}
}

func write(ctx context.Context, records *kv.Table[registry.Record], liveness *kv.Table[registry.Load], service, id string) error {
	key := "default.dev." + service + "." + id
	if _, err := liveness.Put(ctx, key, registry.Load{Limit: 5}, kv.TTL(time.Minute)); err != nil {
		return err
	}
	_, err := records.Put(ctx, key, record(service, id))
	return err
}
