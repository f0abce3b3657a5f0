package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

const (
	minTTL         = time.Second
	deletionTTL    = 5 * time.Minute // how long a deletion stays in a bucket without history
	createAttempts = 5
)

// PutOption adjusts one write.
type PutOption func(*putOptions)

type putOptions struct {
	ttl *time.Duration
}

// TTL makes the key expire d after this write, unless it is written again: a write without TTL keeps it for ever. d is
// rounded up to whole seconds, less than 1 s is an error. Followers hear of the expiry as of a deletion.
func TTL(d time.Duration) PutOption {
	return func(o *putOptions) { o.ttl = &d }
}

// DeleteOption adjusts one delete.
type DeleteOption func(*deleteOptions)

type deleteOptions struct {
	conditional bool
	revision    uint64
}

// IfRevision deletes only what still has the revision rev; anything else is [ErrConflict].
func IfRevision(rev uint64) DeleteOption {
	return func(o *deleteOptions) { o.conditional, o.revision = true, rev }
}

// Put writes v whatever is there, and returns its revision. Like every write it waits for a lost connection until ctx
// ends. The error is a [KeyError]: [ErrBadKey], [ErrTooLarge], [ErrFull], or why ctx ended.
func (t *Table[T]) Put(ctx context.Context, key string, v T, opts ...PutOption) (uint64, error) {
	msg, err := t.message(key, v, opts)
	var rev uint64
	if err == nil {
		rev, err = t.b.publish(ctx, msg)
	}
	return rev, t.b.keyError("put", key, err)
}

// Create writes v if key is not there, was deleted or has expired; else it is [ErrExists].
func (t *Table[T]) Create(ctx context.Context, key string, v T, opts ...PutOption) (uint64, error) {
	msg, err := t.message(key, v, opts)
	var rev uint64
	if err == nil {
		rev, err = t.b.create(ctx, key, msg)
	}
	return rev, t.b.keyError("create", key, err)
}

// Update writes v if the current revision of key is rev; else it is [ErrConflict]. A rev of 0 stands for a key of which
// the bucket holds nothing, not even a deletion. With [ErrUncertain] beside the conflict it may have written v before
// somebody else wrote.
func (t *Table[T]) Update(ctx context.Context, key string, v T, rev uint64, opts ...PutOption) (uint64, error) {
	msg, err := t.message(key, v, opts)
	if err == nil {
		expect(msg, rev)
		rev, err = t.b.publish(ctx, msg)
	}
	if err != nil {
		rev = 0
	}
	return rev, t.b.keyError("update", key, err)
}

// Delete removes key. To delete what is not there is no error. In a bucket with history the deletion is a revision as any
// other and the older ones stay; in one without, it goes away by itself after some minutes.
//
// A full bucket takes no deletions either. Delete frees it then by purging the key, which needs publish rights on
// $JS.API.STREAM.PURGE.KV_<bucket> and takes the key's history along. Where not even then a deletion fits, since others fill the store, the key is
// gone all the same, and followers find that within about a minute.
func (t *Table[T]) Delete(ctx context.Context, key string, opts ...DeleteOption) error {
	var o deleteOptions
	for _, opt := range opts {
		opt(&o)
	}
	err := CheckKey(key)
	if err == nil {
		err = t.b.delete(ctx, key, o)
	}
	return t.b.keyError("delete", key, err)
}

func (t *Table[T]) message(key string, v T, opts []PutOption) (*nats.Msg, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	data, err := t.b.cfg.Codec.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	if len(data) > t.b.cfg.MaxValue {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrTooLarge, len(data), t.b.cfg.MaxValue)
	}
	msg := &nats.Msg{Subject: t.b.prefix + key, Header: nats.Header{}, Data: data}
	var o putOptions
	for _, opt := range opts {
		opt(&o)
	}
	if o.ttl != nil {
		if t.b.cfg.NoExpiry {
			return nil, fmt.Errorf("ttl of %v in a bucket without expiry", *o.ttl)
		}
		if *o.ttl < minTTL {
			return nil, fmt.Errorf("ttl of %v: want %v or more", *o.ttl, minTTL)
		}
		seconds := (*o.ttl + time.Second - 1) / time.Second
		msg.Header[headerTTL] = []string{strconv.FormatInt(int64(seconds), 10)}
	}
	return msg, nil
}

// expect makes msg a compare-and-set with an id of its own: sent again, it is stored once and answered the same.
func expect(msg *nats.Msg, rev uint64) {
	msg.Header[headerExpected] = []string{strconv.FormatUint(rev, 10)}
	msg.Header[headerMessageID] = []string{nuid.Next()}
}

func (b *bucket) create(ctx context.Context, key string, msg *nats.Msg) (uint64, error) {
	expected := uint64(0)
	for attempt := 1; ; attempt++ {
		expect(msg, expected)
		rev, err := b.send(ctx, msg)
		if !wrongLast(err) || attempt == createAttempts {
			return rev, b.writeError(err)
		}
		current, cerr := b.current(ctx, key)
		switch {
		case errors.Is(cerr, errNone): // a deletion that went away by itself
			expected = 0
		case cerr != nil:
			return 0, cerr
		case !current.deleted:
			return 0, fmt.Errorf("%w with revision %d: %w", ErrExists, current.seq, err)
		default:
			expected = current.seq
		}
	}
}

func (b *bucket) current(ctx context.Context, key string) (record, error) {
	var r record
	err := b.retry(ctx, func() (err error) {
		r, err = b.leaderGet(ctx, getRequest{LastBySubject: b.prefix + key})
		return err
	})
	return r, err
}

func (b *bucket) delete(ctx context.Context, key string, o deleteOptions) error {
	msg := b.deletion(key)
	seen := o.revision
	if o.conditional {
		if seen == 0 {
			return fmt.Errorf("%w: 0 is none", ErrConflict)
		}
		expect(msg, seen)
	} else {
		current, err := b.current(ctx, key)
		if errors.Is(err, errNone) || err == nil && current.deleted {
			return nil
		}
		if err != nil {
			return err
		}
		seen = current.seq
	}
	_, err := b.publish(ctx, msg)
	if !errors.Is(err, ErrFull) {
		return err
	}
	// Purged up to the revision that was seen: a newer one stays and is a conflict.
	if perr := b.purge(ctx, key, seen); perr != nil {
		return fmt.Errorf("%w; purge: %w", err, perr)
	}
	msg = b.deletion(key)
	if o.conditional {
		expect(msg, 0)
	}
	if _, err = b.publish(ctx, msg); errors.Is(err, ErrFull) {
		return b.goneUntold(ctx, key, o, err)
	}
	return err
}

// goneUntold is the error of a delete that purged a key, and had no room for the deletion: none where the key is gone. full is that of the deletion.
func (b *bucket) goneUntold(ctx context.Context, key string, o deleteOptions, full error) error {
	current, err := b.current(ctx, key)
	switch {
	case errors.Is(err, errNone), err == nil && current.deleted:
		return nil
	case err == nil && o.conditional:
		return fmt.Errorf("%w: %w", ErrConflict, full)
	}
	return full
}

func (b *bucket) deletion(key string) *nats.Msg {
	h := nats.Header{headerOperation: {operationDelete}}
	if b.shortMarkers.Load() {
		h = nats.Header{
			headerOperation: {operationPurge},
			headerTTL:       {strconv.Itoa(int(deletionTTL / time.Second))},
		}
	}
	return &nats.Msg{Subject: b.prefix + key, Header: h}
}

func (b *bucket) purge(ctx context.Context, key string, upTo uint64) error {
	req := struct {
		Filter string `json:"filter"`
		Seq    uint64 `json:"seq"` // the first that stays
	}{b.prefix + key, upTo + 1}
	return b.call(ctx, "$JS.API.STREAM.PURGE."+b.stream, req, &apiStatus{})
}

// publish stores msg and returns its revision. It sends it again until it knows the outcome or ctx ends.
func (b *bucket) publish(ctx context.Context, msg *nats.Msg) (uint64, error) {
	rev, err := b.send(ctx, msg)
	return rev, b.writeError(err)
}

func (b *bucket) send(ctx context.Context, msg *nats.Msg) (uint64, error) {
	var ack struct {
		apiStatus
		Seq uint64 `json:"seq"`
	}
	unheard := false // the answer to an earlier attempt
	err := b.retry(ctx, func() error {
		reply, err := b.request(ctx, msg)
		if err != nil {
			unheard = unheard || !errors.Is(err, nats.ErrNoResponders)
			return err
		}
		ack.Error = nil
		if err := json.Unmarshal(reply.Data, &ack); err != nil {
			return fmt.Errorf("acknowledgement: %w", err)
		}
		return ack.failure()
	})
	switch {
	case err == nil:
		return ack.Seq, nil
	case unheard && wrongLast(err):
		return b.resolve(ctx, msg, err)
	}
	return 0, err
}

// resolve finds out whether a compare-and-set was stored by an attempt whose answer was not heard and was overwritten
// before the next: the server knows an id only as long as it keeps the message.
func (b *bucket) resolve(ctx context.Context, msg *nats.Msg, conflict error) (uint64, error) {
	var records []record
	err := b.retry(ctx, func() (err error) {
		records, _, err = b.scan(ctx, msg.Subject, 0)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	expected := number(msg.Header, headerExpected)
	complete := false // everything since expected is kept
	for _, r := range records {
		if r.id == last(msg.Header, headerMessageID) {
			return r.seq, nil
		}
		complete = complete || r.seq == expected
	}
	if complete {
		return 0, conflict
	}
	return 0, fmt.Errorf("%w: %w", ErrUncertain, conflict)
}
