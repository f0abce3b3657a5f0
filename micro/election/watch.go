package election

import (
	"context"
	"fmt"
	"iter"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

// Change is the end or the begin of a leadership.
type Change struct {
	Kind ChangeKind
	Leader
}

// ChangeKind says which of both.
type ChangeKind string

// What a watcher is told.
const (
	Got  ChangeKind = "got"  // it leads from now on
	Lost ChangeKind = "lost" // it leads no more
)

// Watch yields the leader of the service, if there is one, as Got, and then each change until ctx ends or the loop is left.
// A leader is Lost before the next is Got, always: also for a loop that is slow or was cut off from the servers and
// therefore misses leaderships in between. When nobody follows, Lost is all. While there is no connection, nothing is known
// and nothing is told; a leadership that ended meanwhile is told of when the connection is back.
//
// An error ends the sequence: a service that is no token, or a connection that was closed for good. The end of ctx is none.
func (e *Election) Watch(ctx context.Context, service string) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		if err := bus.CheckToken("service", service); err != nil {
			yield(Change{}, fmt.Errorf("election: watch: %w", err))
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		left := false
		told := Leader{Service: service}
		err := e.leases.Follow(ctx, e.prefix+service, func(batch []kv.Holder) {
			for _, h := range batch {
				for _, c := range changes(&told, h) {
					if left = left || ctx.Err() != nil || !yield(c, nil); left {
						cancel()
						return
					}
				}
			}
		})
		if err != nil && !left {
			yield(Change{}, fmt.Errorf("election: watch %q: %w", service, err))
		}
	}
}

// changes is what is new since told, which it brings up to date.
func changes(told *Leader, h kv.Holder) []Change {
	next := Leader{Service: told.Service, Candidate: h.Owner, Term: h.Term}
	if next == *told {
		return nil
	}
	var list []Change
	if told.Candidate != "" {
		list = append(list, Change{Lost, *told})
	}
	if next.Candidate != "" {
		list = append(list, Change{Got, next})
	}
	*told = next
	return list
}
