package scheduler

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
)

const (
	roomKept  = 10 // percent of the store that timers leave, so that those there are can fire, be cancelled and tried again
	roomFresh = time.Second
	roomNoise = 64 // bytes that a timer may grow by when its time changes: to move one takes no leave
)

// room tells whether the store has room for more timers. To fire one takes a message more, before there is one less: in a store that timers
// had filled none would fire, and so none would ever go.
type room struct {
	conn     *bus.Conn
	replicas int64 // of the timers

	left    atomic.Int64 // bytes of one replica, by the last look, less what was stored since
	looked  atomic.Int64 // when that was, Unix nanoseconds
	looking atomic.Bool
}

func (r *room) open(conn *bus.Conn, replicas int) {
	r.conn, r.replicas = conn, int64(max(replicas, 1))
	r.left.Store(math.MaxInt64 / 2)
}

// take is asked before the timers take n bytes more. Where nobody says how large the store is, it may be filled.
func (r *room) take(ctx context.Context, n int) error {
	if n <= 0 {
		return nil
	}
	if now := time.Now().UnixNano(); now-r.looked.Load() > int64(roomFresh) && r.looking.CompareAndSwap(false, true) {
		r.look(ctx)
		r.looked.Store(time.Now().UnixNano())
		r.looking.Store(false)
	}
	if r.left.Add(-int64(n)) >= 0 {
		return nil
	}
	r.left.Add(int64(n))
	e := bus.Errorf(bus.ResourceExhausted, "scheduler: the store is nearly full, and its last %d percent are kept for the timers there are: "+
		"free space in it, or raise its limit", roomKept)
	e.Status = 507
	return e
}

// look asks how much of the store is used.
func (r *room) look(ctx context.Context) {
	var info *jetstream.AccountInfo
	err := r.conn.Permitted(ctx, bus.Access{Publish: []string{"$JS.API.INFO"}}, func(ctx context.Context) (err error) {
		info, err = r.conn.JetStream().AccountInfo(ctx)
		return err
	})
	left := int64(math.MaxInt64 / 2)
	if err == nil {
		// What is used is the sum of all replicas, and so is the limit of the account. The store is that of one server, which has one of them.
		used := int64(info.Store)
		if size := r.conn.StoreLimit(); size > 0 {
			left = timersShare(size) - used/r.replicas
		}
		if limit := info.Limits.MaxStore; limit > 0 {
			left = min(left, (timersShare(limit)-used)/r.replicas)
		}
	}
	r.left.Store(left)
}

// timersShare is how much of a store timers may fill.
func timersShare(size int64) int64 { return size / 100 * (100 - roomKept) }
