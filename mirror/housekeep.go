package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/internal/backoff"
)

const (
	purgeEvery = 5 * time.Second
	purgeLeast = 1000 // writes; fewer are not worth the while
	alarmShare = 50   // percent of the stream's limit; when more is used no history is kept
)

// housekeep removes writes that all backends have applied, and answers that nobody waits for.
func (s *sender) housekeep(ctx context.Context) {
	for backoff.Sleep(ctx, purgeEvery) {
		s.outcomes.sweep()
		switch err := s.purge(ctx); {
		case ctx.Err() != nil:
		case errors.Is(err, errAnew):
			s.fail(err)
		case err != nil:
			s.m.log.WarnContext(ctx, "writes that all have applied not removed, trying again", "error", err)
		}
	}
}

func (s *sender) purge(ctx context.Context) error {
	read := s.tail.position() // before asking: then the stream has no less
	info, err := s.m.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	if err := s.sameStream(info, read); err != nil {
		return err
	}
	floor, active := s.m.floor()
	if !active { // nobody lacks what there is, and nothing is sent
		floor = read
	}
	history := uint64(max(s.m.cfg.History, 0)) //nolint:gosec // not negative
	s.m.writesFull.look(ctx, s.m.log, info, "applied_by_all", floor, "last", info.State.LastSeq)
	if isCrowded(info) || s.m.crowded.Load() {
		history = 0
	}
	if floor == 0 {
		return nil
	}
	old, revision, err := s.m.lastRemoved(ctx, info.Created)
	if err != nil {
		return err
	}
	if floor <= history || floor-history < old+purgeLeast && history > 0 {
		return nil
	}
	upTo := floor - history
	if upTo <= old || !s.lease.Valid() {
		return nil
	}
	data, err := json.Marshal(removed{UpTo: upTo})
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	if revision, err = s.m.putProgress(ctx, settingsName, data, revision); err != nil {
		return err
	}
	// Who sets a backend from now on sees the record. One that was set before, unseen here, may need what is to be removed.
	switch needed, err := s.m.needs(ctx, upTo); {
	case err != nil:
		return err // the record stays: only what it says may be missing
	case needed:
		return s.m.unsayRemoved(ctx, old, revision)
	}
	if err := s.m.stream.Purge(ctx, jetstream.WithPurgeSubject(s.m.space.writes()), jetstream.WithPurgeSequence(upTo+1)); err != nil {
		return fmt.Errorf("mirror: remove writes: %w", err)
	}
	return nil
}

// needs tells whether some active backend may lack writes up to a sequence, by the records as they are now.
func (m *Mirror) needs(ctx context.Context, upTo uint64) (bool, error) {
	all, err := m.Backends(ctx)
	if err != nil {
		return false, err
	}
	nodes := *m.nodes.Load()
	return slices.ContainsFunc(all, func(b Backend) bool {
		i := slices.IndexFunc(nodes, func(n *node) bool { return n.Name == b.Name && n.Generation == b.Generation })
		return b.Active && (i < 0 || nodes[i].State() != StateGap && nodes[i].floor.Load() < upTo)
	}), nil
}

// unsayRemoved takes back that writes were removed, as they are still there.
func (m *Mirror) unsayRemoved(ctx context.Context, old, revision uint64) error {
	data, err := json.Marshal(removed{UpTo: old})
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	_, err = m.putProgress(ctx, settingsName, data, revision)
	return err
}

// floor is up to where all active backends have applied everything, 0 while that is not known; active tells whether there are any.
func (m *Mirror) floor() (floor uint64, active bool) {
	for _, n := range *m.nodes.Load() {
		active = active || n.Active
		if !n.Active || n.State() == StateGap {
			continue
		}
		if f := n.floor.Load(); floor == 0 || f < floor {
			floor = f
		}
		if n.floor.Load() == 0 {
			return 0, true
		}
	}
	return floor, active
}
