//go:build unix

package integration_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

// sink is a receiver of webhooks that remembers what came.
type sink struct {
	*httptest.Server

	hold func(id string) // called before it answers, when it is not nil

	mu  sync.Mutex
	got map[string][]arrival // by timer
}

// arrival is one attempt as the receiver saw it.
type arrival struct {
	delivery string
	due      time.Time
	at       time.Time
}

func newSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{got: map[string][]arrival{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		at := time.Now()
		due, err := time.Parse(time.RFC3339Nano, r.Header.Get(scheduler.HeaderDue))
		id := r.Header.Get(scheduler.HeaderTimerID)
		if err != nil || id == "" {
			t.Errorf("a webhook without its headers: %v", r.Header)
			return
		}
		s.mu.Lock()
		s.got[id] = append(s.got[id], arrival{r.Header.Get(scheduler.HeaderIdempotencyKey), due, at})
		s.mu.Unlock()
		if s.hold != nil {
			s.hold(id)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *sink) target() scheduler.Target { return scheduler.Target{URI: s.URL + "/hook"} }

// timers is how many have arrived.
func (s *sink) timers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

func (s *sink) arrived(id string) []arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got[id])
}

// ledger is what clients were told about timers.
type ledger struct {
	mu        sync.Mutex
	acked     map[string]time.Time // created, by id, and when it is due
	cancelled map[string]bool      // the cancel was acknowledged
	unknown   map[string]bool      // nobody knows whether it was created, or whether the cancel was in time
	refused   map[string]bool      // nothing was stored
	errors    map[string]int
}

func newLedger() *ledger {
	return &ledger{acked: map[string]time.Time{}, cancelled: map[string]bool{}, unknown: map[string]bool{}, refused: map[string]bool{}, errors: map[string]int{}}
}

func (l *ledger) created(id string, tm scheduler.Timer, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.acked[id] = tm.Due
		return
	}
	l.errors["create: "+string(bus.CodeOf(err))]++
	if e := bus.AsError(err); e.Code == bus.Unavailable && e.Details["reason"] != "uncertain" {
		l.refused[id] = true
		return
	}
	l.unknown[id] = true
}

func (l *ledger) ended(id string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	code := bus.CodeOf(err)
	switch {
	case err == nil:
		l.cancelled[id] = true
	case code == bus.NotFound, code == bus.FailedPrecondition:
		l.errors["cancel: "+string(code)]++ // it was too late: the timer fires
	default:
		l.unknown[id] = true
		l.errors["cancel: "+string(code)]++
	}
}

func (l *ledger) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// verdict is what came of it all.
type verdict struct {
	acked, lost, cancelled, afterCancel, afterRefusal, early, foreign int
	repeats                                                           []repeat
	p50, p99, max                                                     time.Duration // of the lateness
	errors                                                            map[string]int
	missing                                                           []string
}

// repeat is a delivery that came more than once: when it came before, and when again.
type repeat struct{ before, again time.Time }

// fault is what a process suffered: when it began, and when it was over, if it goes on.
type fault struct{ begin, end time.Time }

// explains tells whether r is of what was under way when the fault began, or while it lasted and all went on.
func (f fault) explains(r repeat) bool {
	const (
		underWay = time.Second     // a machine that is busy takes that long for what takes milliseconds
		settles  = 3 * time.Second // until all are told what was done before
	)
	return r.before.Sub(f.begin).Abs() < underWay || r.again.After(f.begin) && r.again.Before(f.end.Add(settles))
}

// around is how many repeats a fault explains.
func (v verdict) around(t *testing.T, faults []fault) (n int) {
	t.Helper()
	for _, r := range v.repeats {
		if slices.ContainsFunc(faults, func(f fault) bool { return f.explains(r) }) {
			n++
			continue
		}
		for _, f := range faults {
			t.Logf("without a reason: came %v after a fault began, and again %v after it", r.before.Sub(f.begin), r.again.Sub(f.begin))
		}
	}
	return n
}

// checkRepeats holds a run to what is promised: of what no fault explains at most one delivery of a thousand is repeated, and at most so many that are explained.
func (v verdict) checkRepeats(t *testing.T, faults []fault, most int, why string) {
	t.Helper()
	explained := v.around(t, faults)
	if explained > most {
		t.Errorf("%d deliveries were repeated around %d faults, want at most %d: %s", explained, len(faults), most, why)
	}
	if rest := len(v.repeats) - explained; rest > v.acked/1000 {
		t.Errorf("%d deliveries were repeated without a reason, want at most 0.1 %% of %d", rest, v.acked)
	}
}

func (v verdict) String() string {
	return fmt.Sprintf("acked %d, lost %d, duplicate %d, early %d; cancelled %d, fired nevertheless %d; lateness p50 %v p99 %v max %v; errors %v",
		v.acked, v.lost, len(v.repeats), v.early, v.cancelled, v.afterCancel, v.p50, v.p99, v.max, v.errors)
}

// judge compares what clients were told with what arrived, after all has arrived that has to or the time is over.
func (l *ledger) judge(t *testing.T, s *sink, within time.Duration) verdict {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < within && l.missing(s, 1) != nil; {
		time.Sleep(longest) // between two looks
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	v := verdict{acked: len(l.acked), cancelled: len(l.cancelled), errors: maps.Clone(l.errors)}
	var late []time.Duration
	for id, due := range l.acked {
		got := s.got[id]
		switch {
		case l.cancelled[id] && len(got) > 0:
			v.afterCancel++
		case len(got) == 0 && !l.cancelled[id] && !l.unknown[id]:
			v.lost++
			v.missing = append(v.missing, id)
		}
		for i, a := range got {
			if i > 0 {
				v.repeats = append(v.repeats, repeat{got[i-1].at, a.at})
				if a.delivery != got[0].delivery {
					v.foreign++
				}
			}
			if a.at.Before(a.due) || a.due.Before(due) {
				v.early++
			}
		}
		if len(got) > 0 {
			late = append(late, got[0].at.Sub(got[0].due))
		}
	}
	for id := range l.refused {
		if len(s.got[id]) > 0 {
			v.afterRefusal++
		}
	}
	slices.Sort(late)
	if n := len(late); n > 0 {
		v.p50, v.p99, v.max = late[n/2], late[n*99/100], late[n-1]
	}
	return v
}

// missing is up to n timers that should have arrived.
func (l *ledger) missing(s *sink, n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id := range l.acked {
		if len(s.got[id]) == 0 && !l.cancelled[id] && !l.unknown[id] {
			if ids = append(ids, id); len(ids) == n {
				break
			}
		}
	}
	return ids
}

// check is what has to hold whatever fails.
func (v verdict) check(t *testing.T) {
	t.Helper()
	t.Log(v)
	if v.lost > 0 {
		t.Errorf("%d acknowledged timers never fired, such as %q", v.lost, v.missing[:min(5, len(v.missing))])
	}
	if v.early > 0 || v.afterCancel > 0 || v.afterRefusal > 0 || v.foreign > 0 {
		t.Errorf("%d fired early, %d after an acknowledged cancel, %d of which it was said that they were not stored, %d twice under different ids",
			v.early, v.afterCancel, v.afterRefusal, v.foreign)
	}
}

// setters keep creating timers, and cancel some of them about when they are due, until ctx ends.
func (l *ledger) setters(ctx context.Context, wg *sync.WaitGroup, s *scheduler.Scheduler, target scheduler.Target, callers int, pause time.Duration) {
	for c := range callers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(c), 1))
			for i := 0; ctx.Err() == nil; i++ {
				l.set(ctx, s, target, fmt.Sprintf("t-%d-%d", c, i), r)
				select {
				case <-time.After(pause):
				case <-ctx.Done():
				}
			}
		})
	}
}

// bulkSetters keep creating timers by CreateMany until ctx ends.
func (l *ledger) bulkSetters(ctx context.Context, wg *sync.WaitGroup, s *scheduler.Scheduler, target scheduler.Target, callers int, pause time.Duration) {
	for c := range callers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(c), 2))
			id := func(i int) string { return fmt.Sprintf("m-%d-%d", c, i) }
			specs := func(yield func(scheduler.Spec) bool) {
				for i := 0; ctx.Err() == nil; i++ {
					after := 50*time.Millisecond + time.Duration(r.IntN(1450))*time.Millisecond
					if !yield(scheduler.Spec{ID: id(i), After: after, Target: target, Payload: []byte(id(i))}) {
						return
					}
					select {
					case <-time.After(pause):
					case <-ctx.Done():
					}
				}
			}
			i := 0
			for tm, err := range s.CreateMany(context.WithoutCancel(ctx), specs) {
				l.created(id(i), tm, err)
				i++
			}
		})
	}
}

// set creates a timer that is due within 1.5 s; every fifth is cancelled about then.
func (l *ledger) set(ctx context.Context, s *scheduler.Scheduler, target scheduler.Target, id string, r *rand.Rand) {
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	after := 50*time.Millisecond + time.Duration(r.IntN(1450))*time.Millisecond
	doomed := r.IntN(5) == 0
	if doomed {
		after = 20*time.Millisecond + time.Duration(r.IntN(30))*time.Millisecond
	}
	tm, err := s.Create(call, scheduler.Spec{ID: id, After: after, Target: target, Payload: []byte(id)})
	l.created(id, tm, err)
	if err != nil || !doomed {
		return
	}
	time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond) // about when it is due
	l.ended(id, s.Cancel(call, id, 0))
}

// openTimers is a client of the scheduler library.
func openTimers(t *testing.T, url string) *scheduler.Scheduler {
	t.Helper()
	return openTimersOn(t, connect(t, url))
}

// startScheduler starts `skybus scheduler`.
func startScheduler(t *testing.T, url string) *platform {
	t.Helper()
	return startPlatform(t, "scheduler", "--server", url, "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--allow-network", "127.0.0.0/8")
}
