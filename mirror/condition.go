package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skybus-io/skybus/kv"
)

// Condition is how a backend stands.
type Condition struct {
	Backend

	// State is what the sender has said last; it is empty when none has sent to the backend yet.
	State State
	// Applied is the write up to which the backend has applied all, and Read that up to which the sender has read for it: what lies between is
	// partly applied.
	Applied, Read uint64
	// Waiting is how many writes the sender knows of that the backend has not applied.
	Waiting uint64
	// Bytes is how much of that is in the sender's memory.
	Bytes uint64
	// Lag is how long the oldest of those in the sender's memory has waited.
	Lag time.Duration
}

// Conditions are how the backends stand, in priority order, as far as this process has heard.
func (m *Mirror) Conditions() []Condition {
	nodes := *m.nodes.Load()
	all := make([]Condition, 0, len(nodes))
	for _, n := range nodes {
		c := Condition{Backend: n.Backend, Applied: n.From, Read: n.From}
		if p := n.progress.Load(); p != nil && p.Generation == n.Generation {
			c.Applied, c.Read = n.floor.Load(), p.Read
			if p.Term != "" {
				c.State, c.Waiting, c.Bytes, c.Lag = p.State, p.Waiting, p.Bytes, time.Duration(p.Lag)*time.Millisecond
			}
		}
		all = append(all, c)
	}
	return all
}

// Changed is closed when the backends, or what they have applied, have changed since the call.
func (m *Mirror) Changed() <-chan struct{} { return m.changed.wait() }

// Sender is the process that sends the writes to the backends, by its [Config].Owner; empty when there is none.
func (m *Mirror) Sender(ctx context.Context) (string, error) {
	leases, err := kv.OpenLeases(ctx, m.conn)
	if err != nil {
		return "", fmt.Errorf("mirror: %w", err)
	}
	holder, err := leases.Holder(ctx, m.conn.Namespace().Key(leaseKind, m.cfg.Name))
	if errors.Is(err, kv.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("mirror: %w", err)
	}
	return holder.Owner, nil
}
