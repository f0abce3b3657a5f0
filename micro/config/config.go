// Package config reads the live configuration of services.
//
// A value has a key such as client.timeout.total and a scope: one version of a service, all versions of a service, or all
// services. Values are kept in the bucket skybus_config under <app>.<env>.<service or _>.<version token or _>.<key>, where
// `skybus config` and any NATS client write them. A [Values] follows the bucket with one feed and keeps a copy, so that a
// read costs a fraction of a microsecond and no message.
//
// # Precedence
//
// The narrowest scope wins: version over service over all. What the bucket does not have for any of them is looked up in the
// layers below it, the environment as a rule and then a file (package micro/config/file), and at last there is the default
// that the reader gives.
//
// # Values
//
// A value is JSON, or text that is none: debug and 5s mean the JSON strings "debug" and "5s". White space around it does
// not count. A value that does not parse as the type it is read as, or that its check refuses, is as if it had not been
// written: the last good one of the same scope stays, or else the next in precedence is used. It is counted and logged,
// without the value.
//
// # Failure
//
// While the connection is down, or JetStream has no quorum, reads go on from the last known state. After a reconnect it is
// right again within a second (package kv). Changes are told once, with the last value: who is slow misses what was in
// between.
package config

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

// Bucket is the bucket of the configuration.
const Bucket = "skybus_config"

const history = 64 // revisions of a key

// Config is what [Open] may be told. The zero value works.
type Config struct {
	// Bind: the bucket is not created. Where it is missing, Open fails with [kv.ErrNoBucket].
	Bind bool
	// Layers are asked, in this order, for what the bucket does not have. Nil means the environment of the process; an
	// empty slice none.
	Layers []Layer
	// Logger hears of values that cannot be used. Nil means discard.
	Logger *slog.Logger
}

// Values is a local copy of the configuration of one namespace. It is safe for concurrent use.
type Values struct {
	ns     bus.Namespace
	layers []Layer
	log    *slog.Logger
	state  atomic.Pointer[state]
	stop   context.CancelFunc
	feed   sync.WaitGroup
	closed chan struct{} // closed when the feed has ended

	rejected atomic.Uint64

	mu    sync.Mutex // of those who add a cell
	cells atomic.Pointer[map[cellID]refresher]
}

// state is the bucket as it was at one moment. It does not change.
type state struct {
	values  map[string]map[Scope]*value // by key
	changed chan struct{}               // closed when there is another state
}

// value is one revision of a value.
type value struct {
	raw      json.RawMessage
	rejected atomic.Bool
}

// Table opens the bucket for who writes to it. Keys are those of [BucketKey]. With bind it is not created, see [kv.Config].
func Table(ctx context.Context, conn *bus.Conn, bind bool) (*kv.Table[[]byte], error) {
	return kv.Open[[]byte](ctx, conn, Bucket, kv.Config{
		Bind: bind, History: history, NoExpiry: true, MaxValue: MaxValue, Codec: bus.Raw{}, Logger: conn.Logger(), Description: "skybus: configuration",
	})
}

// Open loads the configuration of conn's namespace and follows it until [Values.Close]. ctx bounds the loading.
func Open(ctx context.Context, conn *bus.Conn, cfg Config) (*Values, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Layers == nil {
		cfg.Layers = []Layer{Environment(nil)}
	}
	table, err := Table(ctx, conn, cfg.Bind)
	if err != nil {
		return nil, fmt.Errorf("config: open: %w", err)
	}
	v := &Values{
		ns:     conn.Namespace(),
		layers: cfg.Layers,
		log:    cfg.Logger.With("component", "config"),
		closed: make(chan struct{}),
	}
	v.state.Store(&state{changed: make(chan struct{})})
	v.cells.Store(&map[cellID]refresher{})
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	v.stop = stop
	loaded := make(chan struct{})
	failed := make(chan error, 1)
	v.feed.Go(func() {
		defer close(v.closed)
		var once sync.Once
		failed <- table.Follow(run, v.ns.Key(">"), func(batch []kv.Entry[[]byte]) {
			v.apply(batch)
			once.Do(func() { close(loaded) })
		})
	})
	select {
	case <-loaded:
		return v, nil
	case err = <-failed:
	case <-ctx.Done():
		err = fmt.Errorf("load: %w", context.Cause(ctx))
	}
	_ = v.Close() // has no error to tell
	return nil, fmt.Errorf("config: open: %w", err)
}

// Close ends the feed and all watches, and returns when the feed has ended. The last known values can still be read.
// Further calls do nothing.
func (v *Values) Close() error {
	v.stop()
	v.feed.Wait()
	return nil
}

// Changed is closed when a value in the bucket has changed after the call, in whatever scope. To miss nothing, get it
// before reading. After Close it is never closed.
func (v *Values) Changed() <-chan struct{} { return v.state.Load().changed }

// Rejected counts the values that were not used because they do not parse or their check refused them: each revision in the
// bucket once.
func (v *Values) Rejected() uint64 { return v.rejected.Load() }

// Setting is the effective value of key for a version of a service, as JSON; both may be empty. It is false when neither
// the bucket nor a layer has one. What it returns is shared and must not be changed. Who decodes it keeps the last good
// value; [Get] does both.
func (v *Values) Setting(service, version, key string) (json.RawMessage, bool) {
	scopes, n := Scope{service, version}.wider()
	if of := v.state.Load().values[key]; of != nil {
		for _, scope := range scopes[:n] {
			if val := of[scope]; val != nil {
				return val.raw, true
			}
		}
	}
	for _, l := range v.layers {
		if raw, ok := l.Setting(service, version, key); ok {
			return raw, true
		}
	}
	return nil, false
}

var _ Layer = (*Values)(nil)

// apply makes the next state.
func (v *Values) apply(batch []kv.Entry[[]byte]) {
	before := v.state.Load()
	next := &state{values: maps.Clone(before.values), changed: make(chan struct{})}
	if next.values == nil {
		next.values = map[string]map[Scope]*value{}
	}
	touched := map[string]struct{}{}
	for _, e := range batch {
		scope, key, err := ParseBucketKey(v.ns, e.Key)
		if err != nil {
			v.log.Warn("key in the configuration is none", "key", e.Key, "error", err)
			continue
		}
		if _, ok := touched[key]; !ok {
			touched[key] = struct{}{}
			next.values[key] = maps.Clone(next.values[key])
		}
		if e.Deleted {
			delete(next.values[key], scope)
			continue
		}
		raw, err := normalize(e.Value)
		if e.Err != nil || err != nil {
			v.rejected.Add(1)
			v.log.Warn("value in the configuration is not readable, the one before stays", "key", e.Key, "revision", e.Revision, "error", cmp.Or(e.Err, err))
			continue
		}
		if next.values[key] == nil {
			next.values[key] = map[Scope]*value{}
		}
		next.values[key][scope] = &value{raw: raw}
	}
	for key := range touched {
		if len(next.values[key]) == 0 {
			delete(next.values, key)
		}
	}
	v.state.Store(next)
	for id, c := range *v.cells.Load() {
		if _, ok := touched[id.key]; ok {
			c.refresh(v)
		}
	}
	close(before.changed)
}
