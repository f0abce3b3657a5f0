package scheduler_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
)

// Who has created a timer finds it, and can cancel it, whichever of three servers answers.
func TestReadYourWrites(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	nodes := bustest.Cluster(t, 3)
	r := &rig{nodes.Node(0), connect(t, nodes.Node(0))}
	s := r.open(t, scheduler.Config{})
	const long = 6 * time.Second // those who follow begin to answer after some seconds
	var found, cancelled, missing, refused atomic.Int32
	var wg sync.WaitGroup
	begin := time.Now()
	for w := range 16 {
		wg.Go(func() {
			for i := 0; time.Since(begin) < long; i++ {
				id := fmt.Sprint(w, "-", i)
				if _, err := s.Create(t.Context(), scheduler.Spec{ID: id, After: time.Hour, Target: target()}); err != nil {
					t.Error(err)
					return
				}
				if i%2 == 0 {
					_, err := s.Get(t.Context(), id)
					count(err, &found, &missing)
					continue
				}
				count(s.Cancel(t.Context(), id, 0), &cancelled, &refused)
			}
		})
	}
	wg.Wait()
	if missing.Load()+refused.Load() > 0 || found.Load() == 0 || cancelled.Load() == 0 {
		t.Errorf("after their creation %d were found and %d not, %d cancelled and %d not", found.Load(), missing.Load(), cancelled.Load(), refused.Load())
	}
}

func count(err error, ok, missing *atomic.Int32) {
	if bus.CodeOf(err) == bus.NotFound {
		missing.Add(1)
		return
	}
	if err == nil {
		ok.Add(1)
	}
}

// More bytes are due together than one answer of the server has, and than an owner holds.
func TestOwnerFetchesLargeTimers(t *testing.T) {
	t.Parallel()
	s, p, _ := newRig(t).run(t, scheduler.Config{Grace: time.Minute}) // the server would be a minute late
	const n = 240
	at := time.Now().Add(8 * time.Second) // later than what is held whole
	specs := func(yield func(scheduler.Spec) bool) {
		for i := range n {
			if !yield(scheduler.Spec{ID: fmt.Sprint(i), At: at, Target: target(), Payload: make([]byte, 300<<10)}) {
				return
			}
		}
	}
	for _, err := range s.CreateMany(t.Context(), specs) {
		if err != nil {
			t.Fatal(err)
		}
	}
	p.wait(t, n)
}
