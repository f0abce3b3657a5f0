package micro

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// claimTimeout is how long a service waits for JetStream before it begins without.
const claimTimeout = 3 * time.Second

// run is what a service has while it runs.
type run struct {
	fresh   func() *handlers // for one more endpoint
	control []*subscription
	verbs   *handlers     // control verbs that take their time
	busy    chan struct{} // a place for each of them

	stopping sync.Once
	stop     chan struct{} // closed to end Run
}

// Run serves until ctx ends or the control verb "stop" comes: it subscribes, announces the instance and, at the end, leaves
// the queue groups, withdraws the instance, finishes what it was given (also what was still on its way in) and sends the last
// replies. Requests that come meanwhile go to other instances. Run can be called once; the connection stays open.
//
// The error is already_exists when another process has the instance's id, before anything was subscribed, or took it later,
// while this one seemed dead; permission_denied when the server refuses the service's subjects; unavailable when the
// connection was closed; deadline_exceeded when handlers were not done after Config.Drain. Without JetStream it serves
// after 3 s, and is announced as soon as JetStream is there.
func (s *Service) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return bus.Errorf(bus.FailedPrecondition, "service %q: Run was called before", s.cfg.Name)
	}
	defer func() { _ = s.mux.Close() }() // has no error
	if err := s.claim(ctx); err != nil {
		s.stop()
		return err
	}
	r, err := s.begin(ctx)
	if err != nil {
		s.stop()
		return errors.Join(err, s.unclaim(ctx))
	}
	s.hooks.add(s.cfg.Hooks.Started)
	s.hooks.run()
	var keeping sync.WaitGroup
	announced := make(chan error, 1)
	announcing, withdraw := context.WithCancel(context.WithoutCancel(ctx))
	defer withdraw()
	keeping.Go(func() { announced <- s.announcer.Run(announcing) })
	keeping.Go(func() { s.keepRecord(announcing) })

	closed := false
	select {
	case <-ctx.Done():
	case <-r.stop:
	case err = <-announced:
	case <-s.conn.Closed():
		closed = true
	}
	deadline := time.Now().Add(s.cfg.Drain)
	endpoints := s.leave(deadline)
	withdraw()
	keeping.Wait()
	select {
	case err = <-announced:
	default:
	}
	err = errors.Join(err, s.finish(ctx, r, endpoints, deadline, closed, err == nil))
	if closed {
		err = bus.Errorf(bus.Unavailable, "service %q: the connection was closed while it ran", s.cfg.Name)
	}
	s.hooks.add(s.cfg.Hooks.Stopped)
	s.hooks.finish()
	return err
}

// stop ends what changes the service.
func (s *Service) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}

// claim takes the instance's id, before requests to another of that id could come here. Where JetStream is away nobody can
// tell whose it is; then the announcer finds out when it is back.
func (s *Service) claim(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	err := s.announcer.Claim(ctx)
	if bus.CodeOf(err) == bus.AlreadyExists {
		return err
	}
	if err != nil {
		s.log.DebugContext(ctx, "instance not announced yet", "error", err)
	}
	return nil
}

// unclaim gives the id back.
func (s *Service) unclaim(ctx context.Context) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	return s.announcer.Run(ended)
}

// begin subscribes.
func (s *Service) begin(ctx context.Context) (*run, error) {
	r := &run{
		fresh: func() *handlers { return newHandlers(ctx) },
		verbs: newHandlers(ctx),
		busy:  make(chan struct{}, maxVerbs),
		stop:  make(chan struct{}),
	}
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if err := s.listenAll(ctx, r); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.run = r
	s.wanted++
	s.mu.Unlock()
	if err := s.writeRecord(context.WithoutCancel(ctx)); err != nil { // what is not announced yet is only kept: no wait
		r.giveUp(s.sortedEndpoints())
		return nil, err
	}
	return r, nil
}

func (s *Service) listenAll(ctx context.Context, r *run) (err error) {
	eps := s.sortedEndpoints()
	to := newSettling()
	defer to.end()
	defer func() {
		if err != nil {
			r.giveUp(eps)
		}
	}()
	s.mu.Lock()
	registered := s.registered
	s.mu.Unlock()
	if err = s.listenEach(to, r, eps, registered); err != nil {
		return err
	}
	if r.control, err = s.subscribe(to, s.controlPlaces(r)); err != nil {
		return err
	}
	return s.confirm(ctx, to)
}

// giveUp ends a run that has not begun.
func (r *run) giveUp(eps []*endpoint) {
	unsubscribe(r.control)
	giveUp(eps)
	r.verbs.end(0)
}

// leave ends what changes the service, leaves the queue groups and returns all endpoints, also those being removed.
func (s *Service) leave(deadline time.Time) []*endpoint {
	s.turn <- struct{}{}
	s.mu.Lock()
	s.stopped = true
	var eps []*endpoint
	var queues []*subscription
	for _, ep := range s.endpoints {
		eps = append(eps, ep)
		queues = append(queues, ep.queues...)
	}
	for ep := range s.leaving {
		eps = append(eps, ep)
	}
	s.mu.Unlock()
	<-s.turn
	drain(s.conn.NATS(), queues, deadline)
	s.mu.Lock()
	s.unregisteredLocked()
	s.mu.Unlock()
	s.hooks.run()
	return eps
}

// finish waits for the handlers, ends what is not done at the deadline and sends the last replies.
func (s *Service) finish(ctx context.Context, r *run, eps []*endpoint, deadline time.Time, closed, withdrawn bool) error {
	rest := r.control
	for _, ep := range eps {
		rest = append(rest, ep.named...)
	}
	drain(s.conn.NATS(), rest, deadline)
	if closed {
		deadline = time.Now() // nobody can be answered
	}
	left := r.verbs.end(time.Until(deadline))
	for _, n := range endAll(eps, deadline) {
		left += n
	}
	if closed {
		return nil
	}
	var err error
	if left > 0 {
		err = bus.Errorf(bus.DeadlineExceeded, "service %q: %d requests were not finished within %v and given up", s.cfg.Name, left, s.cfg.Drain)
	}
	if withdrawn && err == nil || s.conn.NATS().IsConnected() { // else the withdrawal has waited for the connection, in vain
		err = errors.Join(err, s.flush(ctx))
	}
	return err
}

// endAll ends the handlers of eps side by side, and returns how many of each are left.
func endAll(eps []*endpoint, deadline time.Time) []int64 {
	left := make([]int64, len(eps))
	var ending sync.WaitGroup
	for i, ep := range eps {
		ending.Go(func() { left[i] = ep.handlers.end(time.Until(deadline)) })
	}
	ending.Wait()
	return left
}

func (s *Service) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if err := s.conn.NATS().FlushWithContext(ctx); err != nil {
		return bus.Errorf(bus.Unavailable, "service %q: the last replies may not be sent: %w", s.cfg.Name, err)
	}
	return nil
}

func notify(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
