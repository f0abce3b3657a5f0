package scheduler

import (
	"context"
	"iter"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler/webhook"
)

// SecretInfo tells of a key that signs webhooks, without the key.
type SecretInfo struct {
	Name    string      // [Target.Secret]
	Keys    []SecretKey // one, or two while it is replaced, the newest first
	Created time.Time
}

// SecretKey is one key of a secret.
type SecretKey struct {
	ID      string    `json:"id"`               // tells keys apart, and nothing of the key
	Kind    string    `json:"kind"`             // v1 (HMAC-SHA256) or v1a (Ed25519)
	Public  string    `json:"public,omitempty"` // whpk_..., of v1a: what receivers need
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // when it no longer signs: it was replaced
}

// Secrets are the keys that sign the webhooks of a namespace.
type Secrets struct{ s *Scheduler }

// Secrets are those of the scheduler's namespace.
func (s *Scheduler) Secrets() *Secrets { return &Secrets{s} }

// Put stores a key under the name: the first one, or one that replaces the present ones, which go on to sign for keep beside it.
func (x *Secrets) Put(ctx context.Context, name string, key webhook.Secret, keep time.Duration) (SecretInfo, error) {
	return SecretInfo{}, bus.Errorf(bus.Unimplemented, "scheduler: secrets")
}

// List is the secrets by name, without their keys.
func (x *Secrets) List(ctx context.Context) iter.Seq2[SecretInfo, error] {
	return func(yield func(SecretInfo, error) bool) {
		yield(SecretInfo{}, bus.Errorf(bus.Unimplemented, "scheduler: secrets"))
	}
}

// Remove removes a secret and all its keys. Timers that are signed with it fail from then on.
func (x *Secrets) Remove(ctx context.Context, name string) error {
	return bus.Errorf(bus.Unimplemented, "scheduler: secrets")
}
