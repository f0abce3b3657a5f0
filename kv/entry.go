package kv

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// Entry is one revision of a key.
type Entry[T any] struct {
	Key   string
	Value T
	// Revision grows with every write to the bucket. Of a deletion that was noticed by its absence only, it is the last
	// revision that was known.
	Revision uint64
	// Created is when this revision was stored, by the server's clock. It is zero for a deletion noticed by its absence.
	Created time.Time
	// Deleted says that the key was deleted or has expired. Value is zero then.
	Deleted bool
	// Err says why there is no value to believe: it does not decode, or is a copy that JetStream was made to write. Value is
	// zero then.
	Err error
}

// Headers of what the server sends and what marks a deletion.
const (
	headerSubject      = "Nats-Subject"
	headerSequence     = "Nats-Sequence"
	headerTime         = "Nats-Time-Stamp"
	headerLastSequence = "Nats-Last-Sequence"
	headerPending      = "Nats-Num-Pending"
	headerUpTo         = "Nats-UpTo-Sequence"
	headerMarker       = "Nats-Marker-Reason"
	headerOperation    = "KV-Operation"
	headerTTL          = "Nats-TTL"
	headerMessageID    = "Nats-Msg-Id"
	headerExpected     = "Nats-Expected-Last-Subject-Sequence"
	headerStatus       = "Status"
	headerDescription  = "Description"

	operationDelete = "DEL"
	operationPurge  = "PURGE"
)

// record is a stored message, not yet decoded.
type record struct {
	key     string
	seq     uint64
	time    time.Time
	ttl     time.Duration // 0 means it does not expire
	deleted bool
	copied  bool   // written by the server, as the answer to a get of another stored message
	id      string // that the writer gave it
	data    []byte
}

// parse reads a message of the feed or of a direct get.
func (b *bucket) parse(m *nats.Msg) (record, error) {
	key, ok := strings.CutPrefix(last(m.Header, headerSubject), b.prefix)
	if !ok {
		return record{}, fmt.Errorf("message of subject %.80q", last(m.Header, headerSubject))
	}
	seq, err := strconv.ParseUint(last(m.Header, headerSequence), 10, 64)
	if err != nil {
		return record{}, fmt.Errorf("message without sequence: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, last(m.Header, headerTime))
	if err != nil {
		return record{}, fmt.Errorf("message without time: %w", err)
	}
	r := record{key: key, seq: seq, time: at, data: m.Data}
	r.read(m.Header, len(m.Header[headerSequence]) > 1)
	r.deleted = r.deleted || b.stale(r)
	return r, nil
}

// read takes from the headers of a stored message what its writer said. Who may not write a key can still have JetStream write
// there what he may read, as the reply to a direct get: that is copied, and its headers mean nothing.
func (r *record) read(h nats.Header, copied bool) {
	r.copied = copied
	r.deleted = !copied && isDeletion(h)
	r.id = last(h, headerMessageID)
	if !copied {
		r.ttl = parseTTL(last(h, headerTTL))
	}
}

func isDeletion(h nats.Header) bool {
	op := last(h, headerOperation)
	return op == operationDelete || op == operationPurge || last(h, headerMarker) != ""
}

// last is the last value of a header: the server appends its own to what the writer set, who is not believed.
func last(h nats.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

func number(h nats.Header, key string) uint64 {
	n, _ := strconv.ParseUint(last(h, key), 10, 64)
	return n
}

func decode[T any](codec bus.Codec, r record) Entry[T] {
	e := Entry[T]{Key: r.key, Revision: r.seq, Created: r.time, Deleted: r.deleted}
	if r.deleted {
		return e
	}
	if r.copied {
		e.Err = fmt.Errorf("revision %d is the answer to a direct get, sent to this key", r.seq)
		return e
	}
	var v T
	if err := codec.Unmarshal(r.data, &v); err != nil {
		e.Err = fmt.Errorf("revision %d does not decode as %s: %w", r.seq, codec.ContentType(), err)
		return e
	}
	e.Value = v
	return e
}
