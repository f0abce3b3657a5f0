package micro

import (
	"context"
	"math/rand/v2"
	"os"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/micro/registry"
)

const (
	firstRecordRetry = 50 * time.Millisecond
	lastRecordRetry  = 2 * time.Second
	recordTimeout    = 10 * time.Second
)

// Registered tells whether the service takes requests from the queue groups, while it runs.
func (s *Service) Registered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.registered
}

// SetRegistered makes the service take requests, or no longer. Unregistered it has left the queue groups, having taken what
// they had given it, and finishes that; it still answers control messages, what is sent to it by name and broadcasts. It
// returns when that is so and the instance's record says it; before [Service.Run] it says how that will begin. To set what
// is so already changes nothing.
//
// The error is failed_precondition once the service stops, and permission_denied where the server refuses the queue groups; then it
// is as before. Any other is about the record alone: the service does as it was told, and its record will follow as soon as
// it can be written.
func (s *Service) SetRegistered(ctx context.Context, registered bool) error {
	if err := s.setRegistered(ctx, registered); err != nil {
		return err
	}
	s.hooks.run()
	if err := s.writeRecord(ctx); err != nil {
		notify(s.stale)
		return bus.Wrap(bus.Unavailable, "service "+s.cfg.Name+": its record does not say yet what is so: "+err.Error(), err)
	}
	return nil
}

func (s *Service) setRegistered(ctx context.Context, registered bool) error {
	if err := s.takeTurn(ctx); err != nil {
		return err
	}
	defer s.endTurn()
	eps := s.sortedEndpoints()
	s.mu.Lock()
	running, before := s.run != nil, s.registered
	s.mu.Unlock()
	if before == registered {
		return nil
	}
	switch {
	case running && registered:
		if err := s.joinAll(ctx, eps); err != nil {
			return err
		}
	case running:
		var queues []*subscription
		for _, ep := range eps {
			queues = append(queues, ep.queues...)
			ep.queues = nil
		}
		drain(s.conn.NATS(), queues, time.Now().Add(s.cfg.Drain))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted++
	if !registered && running {
		s.unregisteredLocked()
	}
	s.registered = registered
	return nil
}

// joinAll enters the queue groups of eps, or of none and says why.
func (s *Service) joinAll(ctx context.Context, eps []*endpoint) (err error) {
	to := newSettling()
	defer to.end()
	defer func() {
		if err != nil {
			for _, ep := range eps {
				unsubscribe(ep.queues)
				ep.queues = nil
			}
		}
	}()
	for _, ep := range eps {
		if err = s.join(to, ep); err != nil {
			return err
		}
	}
	return s.confirm(ctx, to)
}

// takeTurn waits until nobody else changes subscriptions. It fails once the service stops.
func (s *Service) takeTurn(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return bus.Errorf(bus.CodeOf(context.Cause(ctx)), "service %q: another change takes its time: %w", s.cfg.Name, context.Cause(ctx))
	}
	s.mu.Lock()
	stopped := s.stopped
	s.mu.Unlock()
	if stopped {
		s.endTurn()
		return bus.Errorf(bus.FailedPrecondition, "service %q: it has stopped", s.cfg.Name)
	}
	return nil
}

func (s *Service) endTurn() { <-s.turn }

// unregisteredLocked notes that the queue groups were left.
func (s *Service) unregisteredLocked() {
	if s.registered {
		s.registered, s.told = false, false
		s.hooks.add(s.cfg.Hooks.Unregistered)
	}
}

// announced is called when the announcer has written the record of its own accord: for the first time, or again after it
// was lost.
func (s *Service) announced() {
	if s.updating.Load() > 0 {
		return // writeRecord tells of that
	}
	s.mu.Lock()
	s.shown = true
	s.registeredLocked(true)
	s.mu.Unlock()
	s.hooks.run()
}

// registeredLocked notes that the record was written.
func (s *Service) registeredLocked(again bool) {
	if s.shown && s.shownRegistered && s.registered && (again || !s.told) {
		s.told = true
		s.hooks.add(s.cfg.Hooks.Registered)
	}
}

// record is the record as it is at first.
func (s *Service) record() registry.Record {
	return registry.Record{
		Service:     s.cfg.Name,
		Instance:    s.cfg.Instance,
		Version:     s.cfg.Version,
		Description: s.cfg.Description,
		Region:      s.cfg.Region,
		Host:        s.cfg.Host,
		PID:         os.Getpid(),
		Build:       buildRevision(),
		Started:     s.started,
		Registered:  s.registered,
	}
}

// writeRecord makes the record say which endpoints there are and whether they take requests. It does nothing when it does
// already.
func (s *Service) writeRecord(ctx context.Context) error {
	s.mu.Lock()
	wanted, written := s.wanted, s.written
	s.mu.Unlock()
	if written >= wanted {
		return nil
	}
	s.updating.Add(1)
	defer s.updating.Add(-1)
	registered := false
	err := s.announcer.Update(ctx, func(r *registry.Record) error {
		r.Endpoints = s.endpointRecords(s.sortedEndpoints())
		s.mu.Lock()
		defer s.mu.Unlock()
		wanted = s.wanted
		registered = s.registered
		r.Registered = registered
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	if wanted >= s.written { // else somebody wrote what is newer
		s.written, s.shownRegistered = wanted, registered
	}
	s.registeredLocked(false)
	s.mu.Unlock()
	s.hooks.run()
	return nil
}

// keepRecord writes the record when it has to be and nobody waits for that, until it is written.
func (s *Service) keepRecord(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.stale:
		}
		for retry := firstRecordRetry; ; retry = min(2*retry, lastRecordRetry) {
			attempt, cancel := context.WithTimeout(ctx, recordTimeout)
			err := s.writeRecord(attempt)
			cancel()
			if err == nil {
				break
			}
			s.log.DebugContext(ctx, "record not written yet", "error", err)
			if !backoff.Sleep(ctx, retry/2+rand.N(retry)) {
				return
			}
		}
	}
}
