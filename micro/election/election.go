// Package election gives a service one leader.
//
// Candidates campaign for the leadership of a service by name; one of them at a time has it, as a lease in the bucket
// skybus_leases under <app>.<env>.election.<service>. The leader renews the lease three times per TTL. When it dies, the
// lease ends a TTL after the last renewal and somebody else is elected; when it resigns, at once.
//
// # What is promised
//
// Two leaderships of a service are never valid at the same time. Each has a term, which is higher than that of all before.
// A leader that cannot renew (the servers are gone, or have no quorum, or the process was frozen) is the leader until its
// deadline and not longer: nobody leads then, until the servers are back. The change of a stream leader inside a NATS
// cluster takes 4 to 9 seconds and may cost a leader of a shorter TTL its leadership.
//
// Valid is a matter of clocks: between asking and acting a process may be frozen. Work that must not be done twice carries
// the term along as a fencing token, and who receives it refuses a term lower than one it has seen.
//
// # Permissions
//
// Those of package kv for the bucket skybus_leases: following and writing for candidates, following for who only watches.
package election

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

const (
	defaultTTL    = 5 * time.Second
	minTTL        = 2 * time.Second
	maxTTL        = time.Hour
	maxCandidate  = 255 // bytes
	resignTimeout = 2 * time.Second
)

// What can be wrong, to ask for with errors.Is.
var (
	// ErrNoLeader is the error of [Election.Leader] when nobody leads.
	ErrNoLeader = errors.New("nobody leads")
	// ErrNotLeader is the error of who resigns without leading, and the cause of contexts that ended with a leadership.
	ErrNotLeader = errors.New("not the leader any more")
	// ErrCandidate is the error of a second campaign of a candidate for the same service.
	ErrCandidate = errors.New("is a candidate already")
	// ErrClosed is the error of everything after [Election.Close].
	ErrClosed = errors.New("the election is closed")
)

// Config is what [Open] may be told. The zero value works.
type Config struct {
	// TTL is how long a leadership outlives a leader that stopped renewing it, 2 s to 1 h. 0 means 5 s. All candidates of
	// a service use the same.
	TTL time.Duration
	// Logger hears who was elected and who lost a leadership. Nil means discard.
	Logger *slog.Logger
}

// Election is where one process campaigns for, and asks after, the leaderships of its namespace. It is safe for concurrent
// use.
type Election struct {
	leases *kv.Leases
	prefix string
	ttl    time.Duration
	log    *slog.Logger
	wg     sync.WaitGroup

	mu         sync.Mutex
	closed     bool
	candidates map[candidacy]*campaign
}

// candidacy is who wants to lead what.
type candidacy struct{ service, candidate string }

// Leader is who leads a service.
type Leader struct {
	Service   string
	Candidate string
	Term      kv.Term
}

// Open binds to the bucket of the leases and creates it if it does not exist. ctx bounds only that.
func Open(ctx context.Context, conn *bus.Conn, cfg Config) (*Election, error) {
	if cfg.TTL == 0 {
		cfg.TTL = defaultTTL
	}
	if cfg.TTL < minTTL || cfg.TTL > maxTTL {
		return nil, fmt.Errorf("election: open: %w", bus.Errorf(bus.InvalidArgument, "ttl of %v: want %v to %v", cfg.TTL, minTTL, maxTTL))
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	leases, err := kv.OpenLeases(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("election: open: %w", err)
	}
	return &Election{
		leases:     leases,
		prefix:     conn.Namespace().Key("election", ""),
		ttl:        cfg.TTL,
		log:        cfg.Logger.With("component", "election"),
		candidates: map[candidacy]*campaign{},
	}, nil
}

// Close ends all campaigns, which fail with [ErrClosed], and resigns from all leaderships. A leadership that the servers do
// not take back within two seconds ends too, but is free for others only after its TTL. Watches go on.
// Further calls do nothing.
func (e *Election) Close() error {
	var leaderships []*Leadership
	e.mu.Lock()
	e.closed = true
	for _, c := range e.candidates {
		c.cancel(ErrClosed)
		if c.leadership != nil {
			leaderships = append(leaderships, c.leadership)
		}
	}
	e.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), resignTimeout)
	defer cancel()
	errs := make([]error, len(leaderships))
	var resigning sync.WaitGroup
	for i, l := range leaderships {
		resigning.Go(func() {
			if err := l.Resign(ctx); !errors.Is(err, ErrNotLeader) {
				errs[i] = err
			}
		})
	}
	resigning.Wait()
	e.wg.Wait()
	return errors.Join(errs...)
}

// Leader asks who leads the service, by the word of the bucket's leader: it waits for the servers until ctx ends. The error
// is [ErrNoLeader] when nobody does. A leader that died is named until its lease has run out.
func (e *Election) Leader(ctx context.Context, service string) (Leader, error) {
	if err := bus.CheckToken("service", service); err != nil {
		return Leader{}, fmt.Errorf("election: leader: %w", err)
	}
	h, err := e.leases.Holder(ctx, e.prefix+service)
	if errors.Is(err, kv.ErrNotFound) {
		err = fmt.Errorf("%w: %w", ErrNoLeader, err)
	}
	if err != nil {
		return Leader{}, fmt.Errorf("election: leader of %q: %w", service, err)
	}
	return Leader{Service: service, Candidate: h.Owner, Term: h.Term}, nil
}

func (c candidacy) check() error {
	if err := bus.CheckToken("service", c.service); err != nil {
		return err
	}
	if n := len(c.candidate); n == 0 || n > maxCandidate {
		return bus.Errorf(bus.InvalidArgument, "candidate of %d bytes: want 1 to %d", n, maxCandidate)
	}
	if !utf8.ValidString(c.candidate) {
		return bus.Errorf(bus.InvalidArgument, "candidate %q is no text in UTF-8", c.candidate)
	}
	return nil
}
