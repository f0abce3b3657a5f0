package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	wantedReplicas = 3
	nominalStore   = 8 << 30
	minStreamBytes = 1 << 20
	openTimeout    = 30 * time.Second
	openRetry      = 100 * time.Millisecond
)

// Error codes of the JetStream API that decide how a stream is created.
const (
	errNoPeers      jetstream.ErrorCode = 10005 // the cluster has too few servers for the replicas, so far
	errNoLeader     jetstream.ErrorCode = 10008 // the cluster has no leader, so far
	errMemoryFull   jetstream.ErrorCode = 10028 // the limits do not fit into the memory that is not reserved yet
	errStorageFull  jetstream.ErrorCode = 10047 // the same of the disk
	errNameInUse    jetstream.ErrorCode = 10058 // somebody created it meanwhile, differently
	errNotClustered jetstream.ErrorCode = 10074 // replicas need a cluster
)

// storeShare is the part of the JetStream store, in percent, that a stream may fill. Limits are reserved when a stream is
// created, so they add up to 60 at most and leave the rest to the user's own streams.
func storeShare(stream string) int64 {
	switch stream {
	case "KV_skybus_instances", "KV_skybus_config", "KV_skybus_routes":
		return 2
	case "KV_skybus_liveness", "KV_skybus_leases", "KV_skybus_mirrors", "SKYBUS_MIRW":
		return 1
	case "SKYBUS_ASYNC", "SKYBUS_DLQ":
		return 10
	case "SKYBUS_MIR":
		return 25
	}
	return 1
}

// OpenStream binds to the stream named in cfg and creates it when it does not exist. An existing stream is taken as it
// is. A new one gets 3 replicas where the servers form a cluster, else 1; its share of the store as MaxBytes; and refuses
// new messages when full; each unless cfg sets it. While the cluster has no leader or too few servers, OpenStream tries
// again until ctx ends, at most 30 s.
func (c *Conn) OpenStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if cfg.Replicas == 0 {
		cfg.Replicas = wantedReplicas
	}
	var last error
	for {
		stream, err := c.bindOrCreate(ctx, &cfg)
		if err == nil {
			return stream, nil
		}
		if !openLater(err) {
			return nil, fmt.Errorf("bus: open stream %q: %w", cfg.Name, err)
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("bus: open stream %q: JetStream is not ready: %w: %w", cfg.Name, context.Cause(ctx), last)
		case <-time.After(openRetry):
		}
	}
}

// bindOrCreate makes one attempt and adapts cfg to what the server refused, for the next.
func (c *Conn) bindOrCreate(ctx context.Context, cfg *jetstream.StreamConfig) (jetstream.Stream, error) {
	try, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	stream, err := c.js.Stream(try, cfg.Name)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return stream, err
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = c.storeSize(try) / 100 * storeShare(cfg.Name)
		cfg.Discard = jetstream.DiscardNew
	}
	for {
		stream, err = c.js.CreateStream(try, *cfg)
		switch code := apiCode(err); {
		case code == errNameInUse:
			return c.js.Stream(try, cfg.Name)
		case code == errNotClustered && cfg.Replicas > 1:
			cfg.Replicas = 1
		case (code == errStorageFull || code == errMemoryFull) && cfg.MaxBytes/2 >= minStreamBytes:
			cfg.MaxBytes /= 2
		default:
			return stream, err
		}
	}
}

// openLater tells whether err says that the servers are not ready yet.
func openLater(err error) bool {
	switch apiCode(err) {
	case errNoPeers, errNoLeader:
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) ||
		errors.Is(err, nats.ErrReconnectBufExceeded)
}

func apiCode(err error) jetstream.ErrorCode {
	if e, ok := errors.AsType[*jetstream.APIError](err); ok {
		return e.ErrorCode
	}
	return 0
}

// storeSize is what limits scale to.
func (c *Conn) storeSize(ctx context.Context) int64 {
	if c.store > 0 {
		return c.store
	}
	info, err := c.js.AccountInfo(ctx)
	if err != nil || info.Limits.MaxStore <= 0 {
		return nominalStore
	}
	return info.Limits.MaxStore
}
