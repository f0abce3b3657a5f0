// Package file is the initiator for files: what is put into a directory, or written to a file that is rotated, is cut into records,
// and each record is sent to a [initiators.Target] once it can be read whole.
//
// # Delivery
//
// At least once. A record counts as done when the target took it, or when it was refused for good and stands in the failed
// directory with the reason. How far each file is done is kept in the bucket [Bucket], so that a process that dies, by kill -9 too,
// loses no record, and the next one repeats at most [Config.Window] of them. A record that is sent again has the same
// [initiators.Request] Key: made of the file's identity, which survives being renamed, and the record's offset.
//
// # Order
//
// With Config.Parallel 1, the default, a record is sent when the one before is done: in the order of the file, and of files in
// [Config.Order]. After a process died the next one repeats the last records in the same order. With more there is no order.
//
// # Failure
//
// What the target cannot take now (unavailable, deadline_exceeded, resource_exhausted, aborted) is tried again, with growing
// pauses, for ever or Config.Tries times. What it refuses is put aside, and the rest goes on. A directory that cannot be read or
// written holds the source up and is told on the log and in [Source.Stats]: nothing is passed over.
//
// Of all processes that run a source of the same name in a namespace one works, by lease; the others wait until it ends. A process
// that was frozen and has lost its lease sends nothing more, and its checkpoints are refused.
//
// # Permissions
//
// To read and write the buckets [Bucket] and skybus_leases (see package kv), below <app>.<env>.; and what the target needs.
package file

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/kv"
)

const (
	leaseKind   = "files"
	releaseTime = 2 * time.Second
	againFirst  = 200 * time.Millisecond
	againLast   = 10 * time.Second
)

// Source is a directory, or a file that is followed, whose records go to a target. It is safe for concurrent use.
type Source struct {
	conn   *bus.Conn
	target initiators.Target
	cfg    Config
	log    *slog.Logger
	counts counts
}

// New checks cfg and makes a source, which does nothing before [Source.Run]. The error is invalid_argument and names the field.
func New(conn *bus.Conn, target initiators.Target, cfg Config) (*Source, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Source{conn: conn, target: target, cfg: cfg}
	s.log = cfg.Logger.With("component", "files", "source", cfg.Name)
	return s, nil
}

// Name is the name of the source.
func (s *Source) Name() string { return s.cfg.Name }

// Run sends the records of the source whenever no other process does, until ctx ends. Then it reads nothing more, waits up to
// Config.Drain for what is being sent, writes down how far it is, and returns nil. With Config.Once it returns nil when there is
// nothing left to send, or an error when something is left that cannot be read. Faults of servers, targets and disks it waits out; an error means that it could not begin: the directory is not
// there, or the buckets are not. It may be called once at a time.
func (s *Source) Run(ctx context.Context) error {
	if info, err := os.Stat(s.cfg.dir()); err != nil {
		return fmt.Errorf("file: source %q: %w", s.cfg.Name, err)
	} else if !info.IsDir() {
		return fmt.Errorf("file: source %q: %s is not a directory", s.cfg.Name, s.cfg.dir())
	}
	table, leases, err := s.open(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was stopped before it began
		}
		return fmt.Errorf("file: source %q: %w", s.cfg.Name, err)
	}
	key := s.conn.Namespace().Key(leaseKind, s.cfg.Name)
	for failures := 0; ctx.Err() == nil; {
		lease, err := s.acquire(ctx, leases, key)
		if err != nil {
			if ctx.Err() == nil {
				s.log.WarnContext(ctx, "source not taken over, trying again", "error", err)
				backoff.Sleep(ctx, s.cfg.Lease)
			}
			continue
		}
		begin := time.Now()
		err = s.hold(ctx, table, lease)
		s.release(ctx, lease)
		if time.Since(begin) > againLast {
			failures = 0 // it has worked since the last one
		}
		if ctx.Err() != nil {
			break
		}
		if s.cfg.Once && (err == nil || errors.Is(err, errLeft)) {
			return s.over(err)
		}
		if err == nil {
			continue
		}
		failures++
		s.counts.fault(err)
		s.log.WarnContext(ctx, "source given up, trying again", "error", err)
		backoff.Sleep(ctx, backoff.Full(failures, againFirst, againLast))
	}
	return nil //nolint:nilerr // it was stopped
}

// over is the end of a source with Config.Once.
func (s *Source) over(err error) error {
	if err != nil {
		err = fmt.Errorf("file: source %q: %w: %s", s.cfg.Name, err, s.Stats().LastFault)
	}
	return err
}

func (s *Source) release(ctx context.Context, lease *kv.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	if err := lease.Release(ctx); err != nil {
		s.log.DebugContext(ctx, "source not given up, it is free in a moment", "error", err)
	}
}

func (s *Source) open(ctx context.Context) (*kv.Table[row], *kv.Leases, error) {
	table, err := openTable(ctx, s.conn, s.log)
	if err != nil {
		return nil, nil, err
	}
	leases, err := kv.OpenLeases(ctx, s.conn)
	return table, leases, err
}

// acquire waits for the lease, and says once who has it.
func (s *Source) acquire(ctx context.Context, leases *kv.Leases, key string) (*kv.Lease, error) {
	lease, err := leases.Acquire(ctx, key, s.cfg.Owner, s.cfg.Lease)
	if held, ok := errors.AsType[*kv.HeldError](err); ok {
		s.log.InfoContext(ctx, "another process has this source, standing by", "owner", held.Holder.Owner)
		return leases.Wait(ctx, key, s.cfg.Owner, s.cfg.Lease)
	}
	return lease, err
}

// errLeaseLost ends a session: another process may have the source.
var errLeaseLost = errors.New("the lease was lost")

// hold works until ctx ends, the lease is lost, or nothing is left to do with Config.Once.
func (s *Source) hold(ctx context.Context, table *kv.Table[row], lease *kv.Lease) error {
	root, err := os.OpenRoot(s.cfg.dir())
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // nothing was written to it
	n, err := s.begin(ctx, table, lease, root)
	if err != nil {
		return err
	}
	s.counts.takeovers.Add(1)
	s.counts.active.Store(true)
	defer s.counts.active.Store(false)
	s.log.InfoContext(ctx, "working", "dir", s.cfg.dir(), "term", n.term)
	return n.run(ctx)
}
