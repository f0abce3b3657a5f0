package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/config"
	"github.com/skybus-io/skybus/micro/registry"
)

// lookup is how long it takes one goroutine to find a service.
type lookup struct {
	Registry float64 `json:"registry_ns"` // in the process's own copy
	Config   float64 `json:"config_ns"`   // a value of the configuration, in the same way
	Get      float64 `json:"kv_get_ns"`   // the record of one instance, from the bucket
}

type lookupFigures struct {
	Median  lookup   `json:"median"`
	Ratio   float64  `json:"ratio"` // median of kv.Get as a multiple of the registry
	Windows []lookup `json:"windows"`
}

const lookupBatch = 1000 // lookups between two looks at the clock

// measureLookup does each of the three for a third of d.
func measureLookup(ctx context.Context, client *micro.Client, d time.Duration) (lookup, error) {
	r := client.Registry()
	service := r.Service(serviceName)
	if service == nil || len(service.Online) == 0 {
		return lookup{}, fmt.Errorf("registry knows no service %q", serviceName)
	}
	found, err := timed(d/3, lookupBatch, func() error {
		if r.Service(serviceName) == nil {
			return errors.New("the service is gone")
		}
		return nil
	})
	if err != nil {
		return lookup{}, err
	}
	conn := client.Conn()
	read, err := measureConfig(ctx, conn, d/3)
	if err != nil {
		return lookup{}, err
	}
	table, err := kv.Open[registry.Record](ctx, conn, registry.InstancesBucket, kv.Config{})
	if err != nil {
		return lookup{}, err
	}
	key := conn.Namespace().Key(serviceName, service.Online[0].Instance)
	got, err := timed(d/3, 1, func() error {
		_, err := table.Get(ctx, key)
		return err
	})
	return lookup{Registry: found, Config: read, Get: got}, err
}

// measureConfig reads a value that is set for the service, for a version of it.
func measureConfig(ctx context.Context, conn *bus.Conn, d time.Duration) (_ float64, err error) {
	const key, value = "bench.limit", 5
	service := config.Scope{Service: serviceName}
	table, err := config.Table(ctx, conn, false)
	if err != nil {
		return 0, err
	}
	name, err := config.BucketKey(conn.Namespace(), service, key)
	if err != nil {
		return 0, err
	}
	if _, err := table.Put(ctx, name, fmt.Append(nil, value)); err != nil {
		return 0, err
	}
	values, err := config.Open(ctx, conn, config.Config{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, values.Close()) }()
	scope := config.Scope{Service: serviceName, Version: "1.0.0"}
	return timed(d, lookupBatch, func() error {
		if got := config.Get(values, scope, key, 0); got != value {
			return fmt.Errorf("%s is %d: want %d", key, got, value)
		}
		return nil
	})
}

// timed is the mean time of one call of f in nanoseconds.
func timed(d time.Duration, batch int, f func() error) (float64, error) {
	n := 0
	begin := time.Now()
	for {
		for range batch {
			if err := f(); err != nil {
				return 0, err
			}
		}
		n += batch
		if elapsed := time.Since(begin); elapsed >= d {
			return float64(elapsed) / float64(n), nil
		}
	}
}

// lookup asks a client of a running service.
func (b *bench) lookup(ctx context.Context) (_ *lookupFigures, err error) {
	b.progress.step(nameLookup, "starting")
	t, err := startTrio(ctx, sideSkybus, typed, b.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	f := &lookupFigures{}
	var found, read, got, ratios []float64
	for i := range b.set.windows {
		b.progress.step(nameLookup, fmt.Sprintf("window %d of %d", i+1, b.set.windows))
		ans, err := t.client.do(order{Op: opLookup, For: b.set.warmUp()})
		if err != nil {
			return nil, err
		}
		l := ans.Lookup
		f.Windows = append(f.Windows, l)
		found, read, got = append(found, l.Registry), append(read, l.Config), append(got, l.Get)
		ratios = append(ratios, l.Get/l.Registry)
	}
	f.Median = lookup{Registry: median(found), Config: median(read), Get: median(got)}
	f.Ratio = median(ratios)
	return f, nil
}
