// Package kv keeps typed values in JetStream key-value buckets: tables with compare-and-set, local copies that follow a
// table, and leases with fencing terms. Buckets are ordinary ones: any NATS client reads and writes them.
//
// # Order
//
// The revisions of a bucket are one sequence over all its keys. A follower ([Table.Follow], [Table.Watch], [Copy]) sees the
// revisions of a key in order but not every one: what changed while it was busy or cut off is told once, with the latest
// value. [Table.History] has the others, as far as the bucket keeps them. Reads by key and lists are answered by, or
// checked against, the bucket's leader: what a write acknowledged, every read that begins afterwards sees. Followers lag
// by the network's delay.
//
// # Delivery
//
// A write is acknowledged when it is stored, in a replicated bucket by a majority. Writes wait for a lost connection and
// for JetStream until their context ends, which is for ever without a deadline. When the acknowledgement of a write does
// not come, it is sent again. [Table.Create], [Table.Update] and a delete with [IfRevision] carry an id for that: they are
// stored at most once, and their outcome is certain or says that it is not ([ErrUncertain]; a bucket with history tells
// more often). [Table.Put] and a plain delete may be stored twice. When the context ends first, nobody knows.
//
// # Failure
//
// A follower needs no consumer on the server. It hears each stored write as a plain message on the bucket's feed
// (skybus.kv.<bucket>.<key>), loads the rest by direct get, and compares what it has with the leader's last sequence: after
// a reconnect, when messages were dropped, when the bucket's leader changed, and every few seconds. It is right again in
// less than a second once JetStream answers. A bucket that is gone is created again, empty (unless [Config] says
// Bind), and its keys are told as deleted. What is removed by a stream purge is told to nobody; it is found within about a
// minute.
//
// # Permissions
//
// With <stream> as KV_<bucket>: reading takes publish rights on $JS.API.STREAM.INFO.<stream>, $JS.API.STREAM.MSG.GET.<stream>
// and $JS.API.DIRECT.GET.<stream>; following also takes subscribe rights on skybus.kv.<bucket>.> and
// $JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.<stream>; writing takes publish rights on $KV.<bucket>.<key>. Nobody but the
// server may publish on skybus.kv.>: followers believe what they hear there until they compare.
package kv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
)

const (
	defaultMaxValue = 64 << 10
	defaultCheck    = 5 * time.Second
	maxHistory      = 64
	headerRoom      = 1 << 10 // what headers may add to a value
	dedupeWindow    = 2 * time.Minute
	markerTTL       = time.Second // how long the server's note that a key expired stays

	// metaRecreated marks a bucket that was made by somebody who had seen it before: what it held is lost.
	metaRecreated = "skybus_recreated"
)

// Config tells [Open] how to create a bucket, and how to use it. The zero value works.
type Config struct {
	// History is the number of revisions kept per key, 1 to 64. 0 means 1.
	History int
	// MaxValue is the largest encoded value in bytes. 0 means 64 KiB.
	MaxValue int
	// MaxBytes is what the bucket may hold in bytes, deletions and older revisions included; a full bucket refuses writes
	// ([ErrFull]). It is reserved on the servers at once, and Open fails where it does not fit. 0 means the bucket's share
	// of the store, or less where that does not fit: 1 or 2 percent, see [bus.Conn.OpenStream].
	MaxBytes int64
	// Bind makes Open and all that is done with the table create nothing: a bucket that does not exist is [ErrNoBucket],
	// also for reads and writes when it is lost later. Followers wait until somebody creates it again.
	Bind bool
	// NoExpiry: no value expires, and a write with [TTL] is an error. Only of such a bucket can nobody who may write one key remove
	// all others: where followers are to hear of what expires, the server obeys the header Nats-Rollup, from whomever it comes.
	NoExpiry bool
	// Codec encodes the values. Nil means JSON.
	Codec bus.Codec
	// Logger hears of lost and recreated buckets. Nil means discard.
	Logger *slog.Logger
	// Check is how often a follower compares its last sequence with the bucket's. 0 means 5 s.
	Check time.Duration
	// Description is shown beside the bucket by tools.
	Description string

	// firstSeq is the first revision, as of now. Nil means 1.
	firstSeq func() uint64
	// expiring makes a value without a TTL count as deleted: JetStream can be made to write an answer to any key.
	expiring bool
}

func (cfg *Config) validate() error {
	switch {
	case cfg.History < 0 || cfg.History > maxHistory:
		return fmt.Errorf("history of %d: want 1 to %d revisions", cfg.History, maxHistory)
	case cfg.MaxValue < 0:
		return fmt.Errorf("largest value of %d bytes: want 1 or more", cfg.MaxValue)
	case cfg.MaxBytes < 0:
		return fmt.Errorf("bucket of %d bytes: want 1 or more", cfg.MaxBytes)
	case cfg.Check < 0:
		return fmt.Errorf("check every %v: want more than 0", cfg.Check)
	}
	if cfg.History == 0 {
		cfg.History = 1
	}
	if cfg.MaxValue == 0 {
		cfg.MaxValue = defaultMaxValue
	}
	if cfg.Codec == nil {
		cfg.Codec = bus.JSON{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Check == 0 {
		cfg.Check = defaultCheck
	}
	return nil
}

// Table is a bucket whose values are of one type. It is safe for concurrent use and needs no Close.
type Table[T any] struct {
	b *bucket
}

// Open binds to the named bucket and creates it if it does not exist, as [bus.Conn.OpenStream] does, with cfg.MaxBytes or by
// default its share of the store as its size; with cfg.Bind it creates nothing. An existing bucket is taken as it is: its
// history, size and limits may differ from cfg. Without direct get it is refused; without the feed of skybus its followers
// learn of changes only every cfg.Check. The name is a token of [bus.CheckToken].
func Open[T any](ctx context.Context, c *bus.Conn, name string, cfg Config) (*Table[T], error) {
	if err := bus.CheckToken("bucket", name); err != nil {
		return nil, fmt.Errorf("kv: open %q: %w", name, err)
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("kv: open %q: %w", name, err)
	}
	b := &bucket{
		conn:   c,
		nc:     c.NATS(),
		name:   name,
		stream: "KV_" + name,
		prefix: "$KV." + name + ".",
		cfg:    cfg,
		log:    cfg.Logger.With("component", "kv", "bucket", name),
	}
	if err := b.open(ctx, false); err != nil {
		return nil, fmt.Errorf("kv: open %q: %w", name, err)
	}
	return &Table[T]{b: b}, nil
}

// Bucket is the name of the bucket.
func (t *Table[T]) Bucket() string { return t.b.name }

// Get reads the current value of key. The error is a [KeyError]: [ErrNotFound] for a key that is not there, was deleted
// or has expired. When the value does not decode, the entry comes with the error, and Err set.
func (t *Table[T]) Get(ctx context.Context, key string) (Entry[T], error) {
	e, err := t.read(ctx, key, getRequest{LastBySubject: t.b.prefix + key})
	if err == nil && e.Deleted {
		err = ErrNotFound
	}
	if err != nil {
		return Entry[T]{}, t.b.keyError("get", key, err)
	}
	return e, t.b.keyError("get", key, e.Err)
}

// GetRevision reads one revision of key, as [Table.Get] does. The revision of a deletion is an entry with Deleted set. A
// revision of another key, one that never was and one that is no longer kept are all [ErrNotFound].
func (t *Table[T]) GetRevision(ctx context.Context, key string, rev uint64) (Entry[T], error) {
	e, err := t.read(ctx, key, getRequest{Seq: rev})
	if err == nil && e.Key != key {
		err = ErrNotFound
	}
	if err != nil {
		return Entry[T]{}, t.b.keyError("get revision of", key, err)
	}
	return e, t.b.keyError("get revision of", key, e.Err)
}

func (t *Table[T]) read(ctx context.Context, key string, req getRequest) (Entry[T], error) {
	if err := CheckKey(key); err != nil {
		return Entry[T]{}, err
	}
	if req.Seq == 0 && req.LastBySubject == "" {
		return Entry[T]{}, ErrNotFound
	}
	var r record
	err := t.b.retry(ctx, func() (err error) {
		r, err = t.b.leaderGet(ctx, req)
		return err
	})
	if errors.Is(err, errNone) {
		err = ErrNotFound
	}
	if err != nil {
		return Entry[T]{}, err
	}
	return decode[T](t.b.cfg.Codec, r), nil
}

// streamConfig is the bucket as JetStream creates it, shaped as nats.go shapes a key-value bucket.
func (b *bucket) streamConfig(recreated bool) jetstream.StreamConfig {
	cfg := jetstream.StreamConfig{
		Name:              b.stream,
		Description:       b.cfg.Description,
		Subjects:          []string{b.prefix + ">"},
		MaxMsgsPerSubject: int64(b.cfg.History),
		MaxMsgSize:        int32(min(b.cfg.MaxValue+headerRoom, 1<<30)),
		MaxMsgs:           -1,
		MaxBytes:          b.cfg.MaxBytes,
		MaxConsumers:      -1,
		Storage:           jetstream.FileStorage,
		Discard:           jetstream.DiscardNew,
		Duplicates:        dedupeWindow,
		DenyDelete:        true,
		AllowDirect:       true,
		AllowMsgTTL:       true,
		RePublish:         &jetstream.RePublish{Source: b.prefix + ">", Destination: b.feedSubject(">")},
	}
	if !b.cfg.NoExpiry { // the server has markers only where it takes rollups
		cfg.AllowRollup, cfg.SubjectDeleteMarkerTTL = true, markerTTL
	}
	if b.cfg.firstSeq != nil {
		cfg.FirstSeq = b.cfg.firstSeq()
	}
	if recreated {
		cfg.Metadata = map[string]string{metaRecreated: "true"}
	}
	return cfg
}
