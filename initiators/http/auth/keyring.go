package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

// keyring is the [Authenticator] of API keys: a local copy of their bucket.
type keyring struct {
	header string
	prefix string // of the keys in the bucket
	keys   *kv.Copy[keyRecord]
}

var _ Authenticator = (*keyring)(nil)

func openKeyring(ctx context.Context, conn *bus.Conn, header string, log *slog.Logger) (*keyring, error) {
	table, err := openKeyTable(ctx, conn, false)
	if err != nil {
		return nil, fmt.Errorf("auth: open keys: %w", err)
	}
	keys, err := table.Copy(ctx, conn.Namespace().Key("*"))
	if err != nil {
		return nil, fmt.Errorf("auth: follow keys: %w", err)
	}
	log.DebugContext(ctx, "keys are at hand", "keys", len(keys.All()))
	return &keyring{header, conn.Namespace().Key(""), keys}, nil
}

// Close ends the copy.
func (k *keyring) Close() error { return k.keys.Close() }

// Authenticate looks for a key in Authorization, where a Bearer token that begins as keys do is one, and in the keys' own header.
func (k *keyring) Authenticate(r *http.Request) (*Principal, error) {
	text, own := bearer(r)
	if !own || !strings.HasPrefix(text, keyPrefix) {
		values := r.Header[k.header]
		if len(values) == 0 {
			return nil, nil
		}
		text = values[0]
	}
	id, secret, ok := parseKey(text)
	// What is no key at all could be answered sooner: its form is no secret.
	if !ok {
		return nil, refuse(invalid, errors.New("it has not the form of an API key"))
	}
	// A record that is not there, or cannot be believed (its Err is set then), is the zero one.
	e, _ := k.keys.Get(k.prefix + id)
	record := e.Value
	if !record.admits(secret, time.Now()) || record.ID != id {
		return nil, refuse(invalid, fmt.Errorf("API key %q is unknown, disabled or expired, or its secret is wrong", id))
	}
	return &Principal{Kind: APIKey, ID: id, Name: record.Name, Scopes: record.Scopes}, nil
}
