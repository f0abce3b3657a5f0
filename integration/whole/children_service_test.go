//go:build unix

package whole_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/config"
	"github.com/skybus-io/skybus/micro/election"
)

const (
	electionTTL = 3 * time.Second
	leadPause   = 30 * time.Millisecond // between two looks of a leader whether it leads
	actPause    = 100 * time.Millisecond
	actsBucket  = "whole_acts"
	actsKey     = "last"
	settingKey  = "whole.setting" // of the configuration, which the load edits

	// What steps take, by chance, so that some are under way whenever a process ends: those that a client waits for up to one time, those that
	// nobody waits for up to another.
	stepMost  = 50 * time.Millisecond
	asyncMost = 500 * time.Millisecond
)

// asked is the request of each endpoint.
type asked struct {
	ID    string `json:"id"`
	After string `json:"after,omitempty"` // of stock.remind: until a timer of that id is due that it makes
	Hook  string `json:"hook,omitempty"`  // and whom the timer calls
}

// done is what the steps of a route make together.
type done struct {
	Order string `json:"order,omitempty"` // instances
	Stock string `json:"stock,omitempty"`

	Due   time.Time `json:"due,omitzero"`    // of the timer that was made, where it was answered so
	Tries int       `json:"tries,omitempty"` // to make it
}

// instance is a service in its own process. It notes each call before it answers.
type instance struct {
	*part

	conn    *bus.Conn
	timers  *client      // the schedulers
	handled atomic.Int64 // requests that are under way
}

func runService(ctx context.Context, p *part) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	conn, err := bus.Connect(ctx, bus.Config{Server: p.Server, Name: p.Name, Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	s := &instance{part: p, conn: conn, timers: newClient(p.Schedulers, 0)}
	defer s.timers.close()
	svc, err := micro.NewService(conn, micro.Config{
		Name: p.Role, Instance: p.Name, Heartbeat: serviceHeartbeat, TTL: serviceTTL,
		Hooks: micro.Hooks{Registered: sync.OnceFunc(func() { p.ready("") })},
	})
	if err != nil {
		return err
	}
	if err := errors.Join(s.handle(svc), p.handleProbe(svc)); err != nil {
		return err
	}
	values, err := config.Open(ctx, conn, config.Config{Layers: []config.Layer{}, Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, values.Close()) }()
	var besides sync.WaitGroup
	defer besides.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	besides.Go(func() { s.follow(ctx, values) })
	if p.Role == orderService {
		e, err := election.Open(ctx, conn, election.Config{TTL: electionTTL, Logger: log})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, e.Close()) }()
		besides.Go(func() { s.campaign(ctx, e) })
	}
	err = svc.Run(ctx)
	if n := s.handled.Load(); n > 0 {
		s.own(record{What: abandoned, Number: uint64(n)}) //nolint:gosec // not negative
	}
	return err
}

// handle adds the endpoints of the instance's service.
func (s *instance) handle(svc *micro.Service) error {
	handle := func(name string, work func(ctx context.Context, req asked) (done, error)) error {
		return micro.Handle(svc, name, func(ctx context.Context, req asked) (done, error) {
			if req.ID == "" {
				return done{}, bus.Errorf(bus.InvalidArgument, "id is empty")
			}
			s.handled.Add(1)
			defer s.handled.Add(-1)
			return work(ctx, req)
		}, micro.Idempotent())
	}
	note := func(ctx context.Context, name string, req asked) error {
		return s.add(record{What: stepped, Step: s.Role + "." + name, ID: req.ID, Key: micro.RequestHeader(ctx).Get(initiators.HeaderKey)})
	}
	step := func(name string, most time.Duration, answer done) error {
		return handle(name, func(ctx context.Context, req asked) (done, error) {
			time.Sleep(rand.N(most)) // it works
			return answer, note(ctx, name, req)
		})
	}
	switch s.Role {
	case orderService:
		return step("create", stepMost, done{Order: s.Name})
	case stockService:
		remind := handle("remind", func(ctx context.Context, req asked) (done, error) {
			if err := note(ctx, "remind", req); err != nil || req.After == "" { // noted before: then it is known how often a timer may have been made
				return done{}, err
			}
			return s.remind(ctx, req)
		})
		return errors.Join(step("reserve", stepMost, done{Stock: s.Name}), remind, step("later", asyncMost, done{}))
	case noteService:
		return errors.Join(step("write", asyncMost, done{}), step("take", time.Microsecond, done{}))
	}
	return fmt.Errorf("there is no service %q", s.Role)
}

// remind makes a timer, by the first scheduler as long as that answers.
func (s *instance) remind(ctx context.Context, req asked) (done, error) {
	a := s.timers.ask(ctx, createRequest(req.ID, req.After, req.Hook))
	due, unfit := madeTimer(a)
	if a.err != "" || unfit != "" {
		return done{}, bus.Errorf(bus.Unavailable, "timer %s: %s%s", req.ID, a.err, unfit)
	}
	return done{Due: due, Tries: a.tries}, nil
}

// follow notes each value of the configuration.
func (s *instance) follow(ctx context.Context, values *config.Values) {
	for v := range config.Watch(ctx, values, config.Scope{Service: s.Role}, settingKey, "") {
		s.own(record{What: learned, Body: v})
	}
}

// act is what leaders write one after the other: of which term the last act was.
type act struct {
	Term string `json:"term"`
}

// campaign wants to lead, for as long as ctx lets it.
func (s *instance) campaign(ctx context.Context, e *election.Election) {
	for ctx.Err() == nil {
		l, err := e.Campaign(ctx, s.Role, s.Name)
		if errors.Is(err, election.ErrClosed) {
			return
		}
		if err != nil {
			continue // it was lost while it was won, or ctx has ended
		}
		s.lead(ctx, l)
	}
}

// lead looks again and again whether it is the leader, and acts meanwhile, until it is not or ctx ends.
func (s *instance) lead(ctx context.Context, l *election.Leadership) {
	var acting sync.WaitGroup
	defer acting.Wait()
	work, cancel := l.Context(ctx)
	defer cancel()
	acting.Go(func() { s.act(work, l.Term()) })
	for {
		before := l.Valid()
		at := time.Now().UnixNano()
		if before && l.Valid() { // it leads at that time: a freeze in between would have shown
			s.own(record{What: led, At: at, Term: l.Term().String()})
		}
		select {
		case <-l.Lost():
			return
		case <-ctx.Done():
			return // closing the election resigns
		case <-time.After(leadPause):
		}
	}
}

// act does what only the leader may do, with its term as the fence: nobody may act after a later leader has.
func (s *instance) act(ctx context.Context, term kv.Term) {
	var table *kv.Table[act]
	for ctx.Err() == nil {
		var err error
		if table == nil {
			table, err = kv.Open[act](ctx, s.conn, actsBucket, kv.Config{})
		}
		if err == nil {
			var revision uint64
			if revision, err = fenced(ctx, table, term); err == nil {
				s.own(record{What: acted, Term: term.String(), Revision: revision})
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(actPause):
		}
	}
}

// fenced writes the term unless a later one was there, and tells under which revision.
func fenced(ctx context.Context, table *kv.Table[act], term kv.Term) (uint64, error) {
	last, err := table.Get(ctx, actsKey)
	if errors.Is(err, kv.ErrNotFound) {
		return table.Create(ctx, actsKey, act{term.String()})
	}
	if err != nil {
		return 0, err
	}
	before, err := kv.ParseTerm(last.Value.Term)
	if err != nil {
		return 0, err
	}
	if before.Compare(term) > 0 {
		return 0, fmt.Errorf("term %v is over, %v acts", term, before)
	}
	return table.Update(ctx, actsKey, act{term.String()}, last.Revision)
}
