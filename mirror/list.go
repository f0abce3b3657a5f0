package mirror

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

// Info is what all processes of a mirror have in common.
type Info struct {
	Name  string `json:"name"`
	Lanes int    `json:"lanes"`
	Key   string `json:"key"`
	// Removing: it was removed by half, and nobody can use it. Only List tells.
	Removing bool `json:"removing,omitempty"`
}

// List is the mirrors of the connection's namespace, by name. It makes nothing.
func List(ctx context.Context, conn *bus.Conn) ([]Info, error) {
	const stream = "KV_" + bucketMirrors
	err := conn.Permitted(ctx, bus.Access{Publish: []string{"$JS.API.STREAM.INFO." + stream}}, func(ctx context.Context) error {
		_, err := conn.JetStream().Stream(ctx, stream)
		return err
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("mirror: list: %w", err)
	}
	table, err := kv.Open[settings](ctx, conn, bucketMirrors, kv.Config{NoExpiry: true})
	if err != nil {
		return nil, fmt.Errorf("mirror: list: %w", err)
	}
	ns := conn.Namespace()
	var all []Info
	for entry, err := range table.List(ctx, ns.Key("*", settingsName)) {
		if err != nil {
			return nil, fmt.Errorf("mirror: list: %w", err)
		}
		if entry.Err != nil {
			continue
		}
		name := entry.Key[len(ns.Key("")) : len(entry.Key)-len("."+settingsName)]
		all = append(all, Info{name, entry.Value.Lanes, entry.Value.Key, entry.Value.Removing})
	}
	return all, nil
}

// Info is what the mirror's processes have in common.
func (m *Mirror) Info() Info { return Info{Name: m.cfg.Name, Lanes: m.cfg.Lanes, Key: m.cfg.Key} }
