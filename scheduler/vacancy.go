package scheduler

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/internal/backoff"
	"github.com/skybus-io/skybus/kv"
)

const vacancyLook = time.Second

// vacancy is a time in which, as was told, nobody fires a shard. It tells that it is over, whoever took the shard.
type vacancy struct {
	s      *Scheduler
	leases *kv.Leases
	key    string
	shard  int

	telling sync.WaitGroup
	open    atomic.Bool
	lost    atomic.Pointer[kv.Term] // of the lease that ended last
}

// begin is told that the lease of that term has ended, or, by the zero Term, that none could be had.
func (v *vacancy) begin(ctx context.Context, lost kv.Term) {
	v.lost.Store(&lost)
	if v.open.CompareAndSwap(false, true) {
		v.telling.Go(func() {
			defer v.open.Store(false)
			v.await(ctx)
		})
	}
}

// await looks who has the shard until somebody does, or ctx ends.
func (v *vacancy) await(ctx context.Context) {
	began := time.Now()
	for backoff.Sleep(ctx, vacancyLook) {
		lost := *v.lost.Load()
		holder, err := v.leases.Holder(ctx, v.key)
		if err == nil && holder.Term != lost { // that of a lease that has ended may be there for a while
			v.s.log.InfoContext(ctx, "shard of timers is fired on time again", "shard", v.shard, "by", holder.Owner, "after", time.Since(began).Round(time.Millisecond).String())
			return
		}
	}
}
