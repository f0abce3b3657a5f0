package scheduler

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/scheduler/webhook"
)

const (
	secretsBucket = "skybus_secrets"
	secretsBytes  = 1 << 20 // some thousand keys, of all namespaces
	maxSecretSize = 8 << 10
	maxSecretKeys = 8
	secretKept    = 24 * time.Hour
	maxSecretKept = 30 * 24 * time.Hour
	secretTries   = 5
)

// SecretInfo tells of a secret that signs webhooks, and nothing of its keys.
type SecretInfo struct {
	Name    string      `json:"name"` // [Target.Secret]
	Keys    []SecretKey `json:"keys"` // those that sign, the newest first; more than one while it is replaced
	Created time.Time   `json:"created"`
}

// SecretKey is one key of a secret.
type SecretKey struct {
	ID      string    `json:"id"`               // tells keys apart, and nothing of the key
	Kind    string    `json:"kind"`             // v1 (HMAC-SHA256) or v1a (Ed25519)
	Public  string    `json:"public,omitempty"` // whpk_..., of v1a: what receivers need
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // when it no longer signs: it was replaced
}

// Secrets are the keys that sign the webhooks of a namespace. They are kept in a bucket that only schedulers and admins may read, and
// nothing here tells them again. It is safe for concurrent use.
type Secrets struct{ conn *bus.Conn }

// Secrets are those of the scheduler's namespace.
func (s *Scheduler) Secrets() *Secrets { return &Secrets{s.conn} }

// Put stores a key (whsec_... or whsk_...) under the name, a token. It signs from now on, in less than a second everywhere. Keys that were there
// sign beside it for keep: 0 means 24 h, less than 0 not at all, at most 30 days. A key that was there already becomes the newest.
//
// The error is invalid_argument for a bad name or key, and failed_precondition where 8 keys would sign at once.
func (x *Secrets) Put(ctx context.Context, name string, key webhook.Secret, keep time.Duration) (SecretInfo, error) {
	if err := bus.CheckToken("secret", name); err != nil {
		return SecretInfo{}, err
	}
	if _, err := webhook.NewSigner(string(key)); err != nil {
		return SecretInfo{}, bus.Errorf(bus.InvalidArgument, "scheduler: secret %q: %w", name, err)
	}
	if keep > maxSecretKept {
		return SecretInfo{}, bus.Errorf(bus.InvalidArgument, "scheduler: secret %q: keys are kept for at most %s", name, maxSecretKept)
	}
	if keep == 0 {
		keep = secretKept
	}
	table, err := kv.Open[secretRecord](ctx, x.conn, secretsBucket, kv.Config{
		NoExpiry: true, MaxBytes: secretsBytes, MaxValue: maxSecretSize, Description: "skybus: keys that sign webhooks",
	})
	if err != nil {
		return SecretInfo{}, secretError("put", name, err)
	}
	for range secretTries {
		var r secretRecord
		if r, err = x.put(ctx, table, name, string(key), keep); err == nil {
			return r.info(name, time.Now()), nil
		}
		if !errors.Is(err, kv.ErrConflict) && !errors.Is(err, kv.ErrExists) {
			break
		}
	}
	return SecretInfo{}, secretError("put", name, err)
}

// put makes one try to write what it has read.
func (x *Secrets) put(ctx context.Context, table *kv.Table[secretRecord], name, key string, keep time.Duration) (secretRecord, error) {
	id := secretID(x.conn.Namespace(), name)
	e, err := table.Get(ctx, id)
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return secretRecord{}, err
	}
	r := e.Value
	if !r.rotate(key, time.Now().UTC(), keep) {
		return r, bus.Errorf(bus.FailedPrecondition, "%d keys sign already: wait until one expires, or keep none", maxSecretKeys)
	}
	if e.Revision == 0 {
		_, err = table.Create(ctx, id, r)
	} else {
		_, err = table.Update(ctx, id, r, e.Revision)
	}
	return r, err
}

// List is the secrets by name, without their keys. An error ends the sequence, or is that of one secret which cannot be read.
func (x *Secrets) List(ctx context.Context) iter.Seq2[SecretInfo, error] {
	return func(yield func(SecretInfo, error) bool) {
		table, err := bindSecrets(ctx, x.conn)
		if errors.Is(err, kv.ErrNoBucket) {
			return
		}
		if err != nil {
			yield(SecretInfo{}, secretError("list", "", err))
			return
		}
		for e, err := range table.List(ctx, secretID(x.conn.Namespace(), "*")) {
			name := e.Key[strings.LastIndexByte(e.Key, '.')+1:]
			if err == nil {
				err = e.Err
			}
			if err != nil {
				err = secretError("list", name, err)
			}
			if !yield(e.Value.info(name, time.Now()), err) {
				return
			}
		}
	}
}

// Remove removes a secret and all its keys. Deliveries that are to be signed with it fail from then on, and are tried again. What is
// not there is not_found.
func (x *Secrets) Remove(ctx context.Context, name string) error {
	if err := bus.CheckToken("secret", name); err != nil {
		return err
	}
	table, err := bindSecrets(ctx, x.conn)
	id := secretID(x.conn.Namespace(), name)
	if err == nil {
		_, err = table.Get(ctx, id)
	}
	if err == nil {
		err = table.Delete(ctx, id)
	}
	if errors.Is(err, kv.ErrNotFound) || errors.Is(err, kv.ErrNoBucket) {
		return unknownSecret(name)
	}
	if err != nil {
		return secretError("remove", name, err)
	}
	return nil
}

func bindSecrets(ctx context.Context, conn *bus.Conn) (*kv.Table[secretRecord], error) {
	return kv.Open[secretRecord](ctx, conn, secretsBucket, kv.Config{Bind: true})
}

func secretID(ns bus.Namespace, name string) string { return ns.Key("webhook", name) }

func secretError(op, name string, err error) error {
	return fmt.Errorf("scheduler: %s secret %q: %w", op, name, err)
}

func unknownSecret(name string) *bus.Error {
	return bus.Errorf(bus.NotFound, "secret %q is not there", name)
}

// secretRecord is what the bucket holds.
type secretRecord struct {
	Created time.Time   `json:"created"`
	Keys    []storedKey `json:"keys"` // the newest first
}

type storedKey struct {
	ID      string     `json:"id"`
	Key     writtenKey `json:"key"`
	Created time.Time  `json:"created"`
	Expires time.Time  `json:"expires,omitzero"`
}

// writtenKey is a key that JSON can hold, unlike [webhook.Secret], and that is not printed either.
type writtenKey string

// Format writes [redacted], whatever the verb.
func (writtenKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[redacted]") }

// LogValue is [redacted].
func (writtenKey) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// live are the keys that sign at a time.
func (r *secretRecord) live(now time.Time) []storedKey {
	return slices.DeleteFunc(slices.Clone(r.Keys), func(k storedKey) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) })
}

// rotate makes key the newest. False means that there would be too many.
func (r *secretRecord) rotate(key string, now time.Time, keep time.Duration) bool {
	if r.Created.IsZero() {
		r.Created = now
	}
	newest := storedKey{ID: rand.Text()[:10], Key: writtenKey(key), Created: now}
	var older []storedKey
	for _, k := range r.live(now) {
		if string(k.Key) == key {
			newest = k
			newest.Expires = time.Time{}
			continue
		}
		if until := now.Add(keep); k.Expires.IsZero() || until.Before(k.Expires) {
			k.Expires = until
		}
		older = append(older, k)
	}
	r.Keys = append([]storedKey{newest}, older...)
	r.Keys = r.live(now) // keep may be none
	return len(r.Keys) <= maxSecretKeys
}

func (r *secretRecord) info(name string, now time.Time) SecretInfo {
	info := SecretInfo{Name: name, Created: r.Created}
	for _, k := range r.live(now) {
		key := SecretKey{ID: k.ID, Kind: "v1", Created: k.Created, Expires: k.Expires}
		if public, err := webhook.PublicKey(webhook.Secret(k.Key)); err == nil {
			key.Kind, key.Public = "v1a", public
		}
		info.Keys = append(info.Keys, key)
	}
	return info
}

// signer signs with the keys that are live, and tells until when they are; the zero time means for good.
func (r *secretRecord) signer(now time.Time) (signer *webhook.Signer, until time.Time, err error) {
	var keys []string
	for _, k := range r.live(now) {
		keys = append(keys, string(k.Key))
		if !k.Expires.IsZero() && (until.IsZero() || k.Expires.Before(until)) {
			until = k.Expires
		}
	}
	signer, err = webhook.NewSigner(keys...)
	return signer, until, err
}
