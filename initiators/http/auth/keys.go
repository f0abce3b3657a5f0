package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

// KeysBucket holds the API keys of all namespaces: <app>.<env>.<id> -> what is known of the key, and the SHA-256 of its secret.
const KeysBucket = "skybus_keys"

const (
	keysBytes   = 16 << 20 // some 30,000 keys, of all namespaces
	maxKeyValue = 32 << 10
	keyTries    = 5
)

// Keys are the API keys of a namespace. Nothing here tells a secret but [Keys.New], once. Methods are safe for concurrent use.
type Keys struct {
	table *kv.Table[keyRecord]
	ns    bus.Namespace
}

// OpenKeys opens the keys of conn's namespace. With bind it creates nothing: where nobody ever made a key the error is [kv.ErrNoBucket].
// Making, changing and removing keys takes the role admin.
func OpenKeys(ctx context.Context, conn *bus.Conn, bind bool) (*Keys, error) {
	table, err := openKeyTable(ctx, conn, bind)
	if err != nil {
		return nil, fmt.Errorf("auth: open keys: %w", err)
	}
	return &Keys{table, conn.Namespace()}, nil
}

// openKeyTable opens the bucket. Values do not expire by themselves: who may write one key could remove all others then (kv.Config.NoExpiry).
func openKeyTable(ctx context.Context, conn *bus.Conn, bind bool) (*kv.Table[keyRecord], error) {
	return kv.Open[keyRecord](ctx, conn, KeysBucket, kv.Config{
		NoExpiry: true, MaxBytes: keysBytes, MaxValue: maxKeyValue, Bind: bind, Logger: conn.Logger(), Description: "skybus: API keys, hashed",
	})
}

// New makes a key and returns it with its secret text, which nobody can tell again. It is good at once.
func (k *Keys) New(ctx context.Context, n NewKey) (Key, string, error) {
	if err := n.validate(); err != nil {
		return Key{}, "", err
	}
	var err error
	for range keyTries {
		id, secret := newSecret()
		r := keyRecord{Hash: sha256.Sum256(secret[:]), Key: Key{
			ID: id, Name: n.Name, Scopes: slices.Clone(n.Scopes), Created: time.Now().UTC().Truncate(time.Second), Expires: n.Expires.UTC(),
		}}
		if _, err = k.table.Create(ctx, k.ns.Key(id), r); err == nil {
			return r.Key, formatKey(id, secret), nil
		}
		if !errors.Is(err, kv.ErrExists) {
			break
		}
	}
	return Key{}, "", fmt.Errorf("auth: new key: %w", err)
}

// CheckKeyID tells whether id can be that of a key. The error has the code [bus.InvalidArgument]; it does not show what is perhaps a
// whole key, given by mistake.
func CheckKeyID(id string) error {
	switch {
	case validKeyID(id):
		return nil
	case strings.HasPrefix(id, keyPrefix):
		return bus.Errorf(bus.InvalidArgument, "key id: that is a key: want its id alone, what stands between sbk_ and the next _")
	}
	return bus.Errorf(bus.InvalidArgument, "key id %.40q: want 1 to %d characters of a-z 2-7", id, maxKeyID)
}

// Get is the key of that id. One that is not there is not_found.
func (k *Keys) Get(ctx context.Context, id string) (Key, error) {
	e, err := k.get(ctx, id)
	return e.Value.Key, err
}

func (k *Keys) get(ctx context.Context, id string) (kv.Entry[keyRecord], error) {
	if err := CheckKeyID(id); err != nil {
		return kv.Entry[keyRecord]{}, err
	}
	e, err := k.table.Get(ctx, k.ns.Key(id))
	if errors.Is(err, kv.ErrNotFound) || errors.Is(err, kv.ErrNoBucket) {
		return e, bus.Wrap(bus.NotFound, fmt.Sprintf("there is no key %q", id), err)
	}
	if err != nil {
		return e, fmt.Errorf("auth: key %q: %w", id, err)
	}
	return e, nil
}

// List is the keys by id. An error ends the sequence, or is that of one record which cannot be read.
func (k *Keys) List(ctx context.Context) iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		for e, err := range k.table.List(ctx, k.ns.Key("*")) {
			if err == nil {
				err = e.Err
			}
			key := e.Value.Key
			if err != nil {
				key.ID = e.Key[strings.LastIndexByte(e.Key, '.')+1:]
				err = fmt.Errorf("auth: list keys: %w", err)
			}
			if !yield(key, err) {
				return
			}
		}
	}
}

// Disable makes a key refused, or taken again, and returns it as it is then. Gateways obey within milliseconds.
func (k *Keys) Disable(ctx context.Context, id string, disabled bool) (Key, error) {
	var err error
	for range keyTries {
		var e kv.Entry[keyRecord]
		if e, err = k.get(ctx, id); err != nil {
			return Key{}, err
		}
		r := e.Value
		if r.Disabled == disabled {
			return r.Key, nil
		}
		r.Disabled = disabled
		if _, err = k.table.Update(ctx, k.ns.Key(id), r, e.Revision); err == nil {
			return r.Key, nil
		}
		if !errors.Is(err, kv.ErrConflict) {
			break
		}
	}
	return Key{}, fmt.Errorf("auth: disable key %q: %w", id, err)
}

// Remove removes a key for good. One that is not there is not_found. Gateways obey within milliseconds.
func (k *Keys) Remove(ctx context.Context, id string) error {
	// A record that cannot be read is there all the same, and must be removable.
	if e, err := k.get(ctx, id); err != nil && e.Err == nil {
		return err
	}
	if err := k.table.Delete(ctx, k.ns.Key(id)); err != nil {
		return fmt.Errorf("auth: remove key %q: %w", id, err)
	}
	return nil
}
