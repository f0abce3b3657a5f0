package scheduler

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/kv"
)

const (
	leaseTTL    = 3 * time.Second
	leaseShare  = 100 * time.Millisecond // who owns shards already lets others try first, so long for each
	releaseTime = 2 * time.Second
	ownerPause  = 200 * time.Millisecond
	keptFor     = time.Minute // what the owner of a shard knew, after it lost it
)

// Run fires and delivers timers until ctx ends, together with all other processes that run it for the same namespace. Then it takes
// nothing more, lets what is being delivered finish for Config.Drain, and returns nil. Faults of the servers and of targets it waits out;
// an error means that it could not begin. It may be called once at a time.
func (s *Scheduler) Run(ctx context.Context) error {
	leases, err := kv.OpenLeases(ctx, s.conn)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("scheduler: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, sh := range s.shards {
		wg.Go(func() { s.own(ctx, leases, sh) })
	}
	err = s.runWorkers(ctx)
	if err != nil {
		cancel(err)
	}
	wg.Wait()
	return err
}

// own becomes the owner of a shard whenever nobody else is.
func (s *Scheduler) own(ctx context.Context, leases *kv.Leases, sh *shard) {
	key := s.conn.Namespace().Key("timers", strconv.Itoa(sh.shard))
	w := &vacancy{s: s, leases: leases, key: key, shard: sh.shard}
	defer w.telling.Wait()
	for backoff.Sleep(ctx, time.Duration(s.owned.Load())*leaseShare) {
		lease, err := leases.Wait(ctx, key, s.cfg.Name, leaseTTL)
		if err != nil {
			if ctx.Err() == nil {
				s.log.WarnContext(ctx, "shard of timers not taken, trying again", "shard", sh.shard, "error", err)
				w.begin(ctx, kv.Term{})
				backoff.Sleep(ctx, leaseTTL)
			}
			continue
		}
		s.owned.Add(1)
		err = s.ownUntilLost(ctx, lease, sh)
		s.owned.Add(-1)
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
		if rerr := lease.Release(release); rerr != nil {
			s.log.DebugContext(ctx, "shard of timers not given up, it is free in a moment", "shard", sh.shard, "error", rerr)
		}
		cancel()
		if err == nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "shard of timers lost, as its lease was not renewed in time; until a process has it again the server fires what is due, a little late", "shard", sh.shard)
			w.begin(ctx, lease.Term())
		}
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "shard of timers given up, trying again", "shard", sh.shard, "error", err)
			w.begin(ctx, lease.Term())
			backoff.Sleep(ctx, ownerPause)
		}
	}
}

var errLeaseLost = errors.New("the lease was lost")

func (s *Scheduler) ownUntilLost(life context.Context, lease *kv.Lease, sh *shard) error {
	ctx, cancel := context.WithCancelCause(life)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	ended := make(chan struct{})
	defer close(ended)
	wg.Go(func() {
		select {
		case <-lease.Lost():
			cancel(errLeaseLost)
		case <-ended:
		}
	})
	o := sh.kept.Swap(nil)
	if o == nil {
		o = s.newOwner(sh)
	}
	sh.owner.Store(o)
	defer func() {
		sh.owner.CompareAndSwap(o, nil)
		if life.Err() == nil {
			sh.keep(o)
		}
	}()
	return o.run(ctx)
}

// keep remembers an owner that lost its shard: to read millions of timers takes longer than a server may be too busy to renew a lease.
func (sh *shard) keep(o *owner) {
	sh.kept.Store(o)
	time.AfterFunc(keptFor, func() { sh.kept.CompareAndSwap(o, nil) })
}
