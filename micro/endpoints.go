package micro

import (
	"context"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// MaxEndpoints is how many endpoints a service may have at a time. Their names and properties may take 40 KiB of its record,
// which is enough for as many with names of 20 characters.
const (
	MaxEndpoints     = 1024
	maxEndpointsSize = 40 << 10
)

// add adds all of eps, or none and says why.
func (s *Service) add(opts []EndpointOption, eps ...*endpoint) error {
	for _, e := range eps {
		if err := e.prepare(s.cfg.Name, s.cfg.Concurrency, opts); err != nil {
			return err
		}
	}
	if err := s.takeTurn(context.Background()); err != nil {
		return err
	}
	defer s.endTurn()
	s.mu.Lock()
	err := s.fitsLocked(eps)
	r, registered := s.run, s.registered
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if r != nil {
		if err := s.listenLate(r, registered, eps); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range eps {
		s.endpoints[e.name] = e
	}
	s.wanted++
	notify(s.stale)
	return nil
}

// listenLate subscribes all of eps while the service runs, or none and says why.
func (s *Service) listenLate(r *run, registered bool, eps []*endpoint) (err error) {
	to := newSettling()
	defer to.end()
	defer func() {
		if err != nil {
			giveUp(eps)
		}
	}()
	if err = s.listenEach(to, r, eps, registered); err != nil {
		return err
	}
	return s.confirm(context.Background(), to)
}

// listenEach subscribes eps one by one, up to one that cannot be.
func (s *Service) listenEach(to *settling, r *run, eps []*endpoint, registered bool) error {
	for _, e := range eps {
		e.handlers = r.fresh() // all of them, for giveUp
	}
	for _, e := range eps {
		if err := s.listen(to, e, registered); err != nil {
			return err
		}
	}
	return nil
}

// giveUp ends eps, not all of which could be subscribed: also what those that could were given meanwhile, and the goroutines that wait for more.
func giveUp(eps []*endpoint) {
	for _, e := range eps {
		unsubscribe(append(e.queues, e.named...))
	}
	endAll(eps, time.Now())
}

func (s *Service) fitsLocked(eps []*endpoint) error {
	size := 0
	for _, e := range s.endpoints {
		size += e.size
	}
	for _, e := range eps {
		if _, ok := s.endpoints[e.name]; ok {
			return bus.Errorf(bus.AlreadyExists, "endpoint %q of service %q was added before", e.name, s.cfg.Name)
		}
		size += e.size
	}
	if n := len(s.endpoints) + len(eps); n > MaxEndpoints || size > maxEndpointsSize {
		return bus.Errorf(bus.ResourceExhausted, "service %q: %d endpoints of %d bytes in the record: want at most %d of %d",
			s.cfg.Name, n, size, MaxEndpoints, maxEndpointsSize)
	}
	return nil
}

// Remove ends an endpoint: no more requests are taken, those that were are finished, and the other endpoints stay. It
// returns when that is done; after Config.Drain the ctx of handlers that still run ends, and the error is deadline_exceeded
// when one of them does not heed that. A handler that removes its own endpoint waits for itself, so long. The name is free
// for another endpoint as soon as no more requests are taken. The error is not_found for an unknown name and
// failed_precondition once the service stops, which ends all of them.
func (s *Service) Remove(name string) error {
	if err := s.takeTurn(context.Background()); err != nil {
		return err
	}
	s.mu.Lock()
	ep, ok := s.endpoints[name]
	running := s.run != nil
	if ok {
		delete(s.endpoints, name)
		s.wanted++
		if running {
			s.leaving[ep] = struct{}{}
		}
	}
	s.mu.Unlock()
	notify(s.stale)
	deadline := time.Now().Add(s.cfg.Drain)
	if ok && running {
		drain(s.conn.NATS(), ep.queues, deadline)
		drain(s.conn.NATS(), ep.named, deadline)
	}
	s.endTurn()
	switch {
	case !ok:
		return bus.Errorf(bus.NotFound, "service %q has no endpoint %.80q", s.cfg.Name, name)
	case !running:
		return nil
	}
	left := ep.handlers.end(time.Until(deadline))
	s.mu.Lock()
	delete(s.leaving, ep)
	s.mu.Unlock()
	if left > 0 {
		return bus.Errorf(bus.DeadlineExceeded, "endpoint %q of service %q: %d requests were not finished within %v and given up",
			name, s.cfg.Name, left, s.cfg.Drain)
	}
	return nil
}
