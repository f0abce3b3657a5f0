package mirror

import (
	"cmp"
	"context"
	"encoding/json"
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

// MarshalJSON is the form in which tools and the admin API show it.
func (c Condition) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Name        string `json:"name"`
		URL         string `json:"url"`
		Priority    int    `json:"priority"`
		Active      bool   `json:"active"`
		Maintenance bool   `json:"maintenance"`
		State       State  `json:"state"`
		From        uint64 `json:"from"`
		Applied     uint64 `json:"applied"`
		Read        uint64 `json:"read"`
		Waiting     uint64 `json:"waiting"`
		Bytes       uint64 `json:"bytes"`
		LagMS       int64  `json:"lag_ms"`
	}{
		c.Name, c.URL, c.Priority, c.Active, c.Maintenance, cmp.Or(c.State, "unknown"), c.From + 1, c.Applied, c.Read, c.Waiting, c.Bytes, c.Lag.Milliseconds(),
	})
}

// Status is a mirror and how its backends stand.
type Status struct {
	Info

	// Sender is the process that sends, by its [Config].Owner; empty when there is none.
	Sender string `json:"sender"`
	// Last is the last write that was stored for the mirror and is kept, 0 for none.
	Last     uint64      `json:"last"`
	Backends []Condition `json:"backends"`
}

// Status asks for what [Mirror.Conditions] does not know. The error is unavailable, or why ctx ended.
func (m *Mirror) Status(ctx context.Context) (Status, error) {
	s := Status{Info: m.Info(), Backends: m.Conditions()}
	var err error
	if s.Sender, err = m.Sender(ctx); err != nil {
		return s, err
	}
	s.Last, err = m.lastWrite(ctx)
	return s, err
}

// lastWrite is the last write of the mirror that is kept, 0 for none.
func (m *Mirror) lastWrite(ctx context.Context) (uint64, error) {
	raw, err := m.askWrite(ctx, map[string]any{"last_by_subj": m.space.writes()})
	if errors.Is(err, errNone) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return raw.Seq, nil
}
