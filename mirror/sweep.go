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
	listTimeout = time.Minute      // for all bodies
	findTimeout = 10 * time.Second // for the next message
)

// sweeper removes bodies that no write needs.
type sweeper struct {
	m      *Mirror
	grace  time.Duration
	age    time.Duration   // of an orphan
	needed map[string]bool // objects that a write was found to have
}

func newSweeper(m *Mirror, grace, age time.Duration) *sweeper {
	return &sweeper{m, grace, age, map[string]bool{}}
}

// sweepBodies removes, now and then, the bodies of writes that were removed, and those of writes that were never stored.
func (s *sender) sweepBodies(ctx context.Context) {
	sw := newSweeper(s.m, objectGrace, orphanAge)
	for backoff.Sleep(ctx, sweepEvery) {
		s.held.expire()
		if !s.lease.Valid() {
			continue
		}
		if err := sw.sweep(ctx); err != nil && ctx.Err() == nil {
			s.m.log.DebugContext(ctx, "bodies that no write needs not removed, trying again", "error", err)
		}
	}
}

func (sw *sweeper) sweep(ctx context.Context) error {
	m := sw.m
	info, err := m.bodyStream.Info(ctx)
	if err != nil {
		return fmt.Errorf("mirror: bodies: %w", err)
	}
	m.crowded.Store(isCrowded(info))
	m.bodiesFull.look(ctx, m.log, info)
	if info.State.Msgs == 0 {
		return nil
	}
	objects, err := m.objects(ctx)
	if err != nil {
		return err
	}
	if err := sw.removeOrphanChunks(ctx, objects); err != nil {
		return err
	}
	first, err := m.firstStored(ctx)
	if err != nil {
		return err
	}
	var doubtful, purged []*jetstream.ObjectInfo
	for _, o := range objects {
		switch {
		case !strings.HasPrefix(o.Name, m.space.objects()):
		case o.ModTime.Add(sw.grace).Before(first):
			purged = append(purged, o)
		case !sw.needed[o.Name] && info.TimeStamp.Sub(o.ModTime) > sw.age:
			doubtful = append(doubtful, o)
		}
	}
	if err := sw.removePurged(ctx, purged); err != nil {
		return err
	}
	return sw.removeOrphans(ctx, doubtful)
}

// objects is the bodies of all mirrors. The list is never complete where the last of it is removed while it is read: it does not wait for ever.
func (m *Mirror) objects(ctx context.Context) ([]*jetstream.ObjectInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	objects, err := m.bodyStore.List(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil, fmt.Errorf("mirror: bodies: %w", err)
	}
	return objects, nil
}

// removePurged removes objects of writes that are no longer kept, but for those that are parked.
func (sw *sweeper) removePurged(ctx context.Context, objects []*jetstream.ObjectInfo) error {
	if len(objects) == 0 {
		return nil
	}
	m := sw.m
	parked := map[string]bool{}
	if err := m.findObjects(ctx, deadStream, m.space.letters("*")+"*", jetstream.OrderedConsumerConfig{}, parked); err != nil {
		return err
	}
	for _, o := range objects {
		if parked[o.Name] {
			continue
		}
		delete(sw.needed, o.Name)
		if err := m.removeBody(ctx, o.Name); err != nil {
			return err
		}
	}
	return nil
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
	m := sw.m
	oldest := objects[0].ModTime
	for _, o := range objects {
		if o.ModTime.Before(oldest) {
			oldest = o.ModTime
		}
	}
	since := oldest.Add(-sw.grace)
	from := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since}
	if err := m.findObjects(ctx, streamWrites, m.space.writes(), from, sw.needed); err != nil {
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

// findObjects notes the objects of the messages of a stream. Where those that were still to come are removed meanwhile none comes: then it fails, and whoever tries
// again finds what there is.
func (m *Mirror) findObjects(ctx context.Context, stream, filter string, from jetstream.OrderedConsumerConfig, into map[string]bool) error {
	from.FilterSubjects, from.HeadersOnly, from.InactiveThreshold = []string{filter}, true, 30*time.Second
	consumer, err := m.js.OrderedConsumer(ctx, stream, from)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
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
		next, cancel := context.WithTimeout(ctx, findTimeout)
		msg, err := messages.Next(jetstream.NextContext(next))
		cancel()
		if err != nil {
			return fmt.Errorf("mirror: bodies: %w", err)
		}
		if object := msg.Headers().Get(headerObject); object != "" {
			into[parseSpilled(object).name] = true
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
	m := sw.m
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
		if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && info.TimeStamp.Sub(last.Time) < sw.age {
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
