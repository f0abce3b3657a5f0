package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/internal/backoff"
)

const (
	sweepEvery  = 15 * time.Second
	objectGrace = 2 * time.Minute // within which a write is stored after its body
	orphanAge   = time.Hour
)

// sweeper removes bodies that no write needs.
type sweeper struct {
	s      *sender
	needed map[string]bool // objects that a write was found to have
}

// sweepBodies removes, now and then, the bodies of writes that were removed, and those of writes that were never stored.
func (s *sender) sweepBodies(ctx context.Context) {
	sw := &sweeper{s: s, needed: map[string]bool{}}
	for backoff.Sleep(ctx, sweepEvery) {
		s.held.expire()
		if err := sw.sweep(ctx); err != nil && ctx.Err() == nil {
			s.m.log.DebugContext(ctx, "bodies that no write needs not removed, trying again", "error", err)
		}
	}
}

func (sw *sweeper) sweep(ctx context.Context) error {
	m := sw.s.m
	info, err := m.bodyStream.Info(ctx)
	if err != nil {
		return fmt.Errorf("mirror: bodies: %w", err)
	}
	limit := info.Config.MaxBytes
	m.crowded.Store(limit > 0 && info.State.Bytes*100 > uint64(limit)*alarmShare)
	if info.State.Msgs == 0 || !sw.s.lease.Valid() {
		return nil
	}
	objects, err := m.bodyStore.List(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		return fmt.Errorf("mirror: bodies: %w", err)
	}
	if err := sw.removeOrphanChunks(ctx, objects); err != nil {
		return err
	}
	first, err := m.firstStored(ctx)
	if err != nil {
		return err
	}
	var doubtful []*jetstream.ObjectInfo
	for _, o := range objects {
		switch {
		case !strings.HasPrefix(o.Name, m.space.objects()):
		case o.ModTime.Add(objectGrace).Before(first):
			delete(sw.needed, o.Name)
			if err := m.removeBody(ctx, o.Name); err != nil {
				return err
			}
		case !sw.needed[o.Name] && sw.s.now().Sub(o.ModTime) > orphanAge:
			doubtful = append(doubtful, o)
		}
	}
	return sw.removeOrphans(ctx, doubtful)
}

// firstStored is when the first write of the mirror was stored that is kept; now where there is none.
func (m *Mirror) firstStored(ctx context.Context) (time.Time, error) {
	info, err := m.stream.Info(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("mirror: %w", err)
	}
	raw, err := m.nextWrite(ctx, 1)
	if errors.Is(err, errNone) {
		return info.TimeStamp, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	return raw.Time, nil
}

// removeOrphans removes those of old objects that no write has.
func (sw *sweeper) removeOrphans(ctx context.Context, objects []*jetstream.ObjectInfo) error {
	if len(objects) == 0 {
		return nil
	}
	m := sw.s.m
	oldest := objects[0].ModTime
	for _, o := range objects {
		if o.ModTime.Before(oldest) {
			oldest = o.ModTime
		}
	}
	if err := sw.findNeeded(ctx, oldest.Add(-objectGrace)); err != nil {
		return err
	}
	removed := 0
	for _, o := range objects {
		if sw.needed[o.Name] {
			continue
		}
		if err := m.removeBody(ctx, o.Name); err != nil {
			return err
		}
		removed++
	}
	if removed > 0 {
		m.log.InfoContext(ctx, "bodies removed whose writes were never stored", "bodies", removed)
	}
	return nil
}

// findNeeded notes the objects of all writes stored since a time.
func (sw *sweeper) findNeeded(ctx context.Context, since time.Time) error {
	m := sw.s.m
	consumer, err := m.js.OrderedConsumer(ctx, streamWrites, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{m.space.writes()}, DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since, HeadersOnly: true,
		InactiveThreshold: 30 * time.Second,
	})
	if err != nil {
		return fmt.Errorf("mirror: bodies: %w", err)
	}
	if consumer.CachedInfo().NumPending == 0 {
		return nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("mirror: bodies: %w", err)
	}
	defer messages.Stop()
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("mirror: bodies: %w", err)
		}
		if object := msg.Headers().Get(headerObject); object != "" {
			sw.needed[parseSpilled(object).name] = true
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("mirror: bodies: %w", err)
		}
		if meta.NumPending == 0 {
			return nil
		}
	}
}

// removeOrphanChunks removes parts of objects, of whatever mirror, that were never finished.
func (sw *sweeper) removeOrphanChunks(ctx context.Context, objects []*jetstream.ObjectInfo) error {
	m := sw.s.m
	known := make(map[string]bool, len(objects))
	for _, o := range objects {
		known[subjectChunks+o.NUID] = true
	}
	info, err := m.bodyStream.Info(ctx, jetstream.WithSubjectFilter(subjectChunks+">"))
	if err != nil {
		return fmt.Errorf("mirror: bodies: %w", err)
	}
	for subject := range info.State.Subjects {
		if known[subject] {
			continue
		}
		last, err := m.bodyStream.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && info.TimeStamp.Sub(last.Time) < orphanAge {
			continue
		}
		if err != nil {
			return fmt.Errorf("mirror: bodies: %w", err)
		}
		if err := m.bodyStream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return fmt.Errorf("mirror: bodies: %w", err)
		}
	}
	return nil
}
