//go:build unix

package integration_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// call is one request of a caller. It returns who answered.
type call func(ctx context.Context) (instance string, err error)

// outcome is what a caller saw of one request.
type outcome struct {
	begin, end time.Time
	instance   string
	err        error
}

func (o outcome) took() time.Duration { return o.end.Sub(o.begin) }

const afterFailure = 5 * time.Millisecond

// load is a number of callers, each of which makes its next request when it has the answer to the last, and
// a moment later when that failed.
type load struct {
	t       *testing.T
	callers sync.WaitGroup
	stop    context.CancelFunc

	mu     sync.Mutex
	done   outcomes
	good   int
	flying map[int]time.Time // by caller: when its request began
}

// startLoad starts callers that go on until end, or the end of the test.
func startLoad(t *testing.T, callers int, c call) *load {
	t.Helper()
	running, stop := context.WithCancel(t.Context())
	l := &load{t: t, stop: stop, flying: map[int]time.Time{}}
	for i := range callers {
		l.callers.Go(func() {
			for running.Err() == nil {
				if l.one(i, c) == nil {
					continue
				}
				select { // as a client would, lest all the machine does is to be refused
				case <-running.Done():
				case <-time.After(afterFailure):
				}
			}
		})
	}
	t.Cleanup(func() {
		l.end()
		if t.Failed() {
			fmt.Fprintf(t.Output(), "--- load of %d callers: %v\n", callers, l.done)
		}
	})
	return l
}

func (l *load) one(caller int, c call) error {
	o := outcome{begin: time.Now()}
	l.mu.Lock()
	l.flying[caller] = o.begin
	l.mu.Unlock()
	o.instance, o.err = c(l.t.Context())
	o.end = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.flying, caller)
	l.done = append(l.done, o)
	if o.err == nil {
		l.good++
	}
	return o.err
}

// end lets each caller finish its request and returns what all of them saw.
func (l *load) end() outcomes {
	l.stop()
	l.callers.Wait()
	return l.done
}

func (l *load) successes() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.good
}

// successesSince counts those that ended after t.
func (l *load) successesSince(t time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, o := range l.done {
		if o.err == nil && o.end.After(t) {
			n++
		}
	}
	return n
}

// await returns after so many more successes.
func (l *load) await(more int) {
	l.t.Helper()
	want := l.successes() + more
	eventually(l.t, patience, fmt.Sprintf("%d more requests succeeded", more), func() bool { return l.successes() >= want })
}

// stuck is how many callers have waited for an answer for at least d.
func (l *load) stuck(d time.Duration) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for begin := range maps.Values(l.flying) {
		if time.Since(begin) >= d {
			n++
		}
	}
	return n
}

// outcomes are what callers saw, in the order of the answers.
type outcomes []outcome

// after are the requests that began at t or later.
func (all outcomes) after(t time.Time) outcomes {
	return slices.DeleteFunc(slices.Clone(all), func(o outcome) bool { return o.begin.Before(t) })
}

// flying are the requests that had begun and were not answered at t.
func (all outcomes) flying(t time.Time) outcomes {
	return slices.DeleteFunc(slices.Clone(all), func(o outcome) bool { return o.begin.After(t) || o.end.Before(t) })
}

func (all outcomes) failed() outcomes {
	return slices.DeleteFunc(slices.Clone(all), func(o outcome) bool { return o.err == nil })
}

func (all outcomes) from(instance string) outcomes {
	return slices.DeleteFunc(slices.Clone(all), func(o outcome) bool { return o.instance != instance })
}

// slowest is the request that took longest.
func (all outcomes) slowest() outcome {
	if len(all) == 0 {
		return outcome{}
	}
	return slices.MaxFunc(all, func(a, b outcome) int { return cmp.Compare(a.took(), b.took()) })
}

// gap is the longest time without a success between from and to.
func (all outcomes) gap(from, to time.Time) time.Duration {
	ends := []time.Time{to}
	for _, o := range all {
		if o.err == nil && o.end.After(from) && o.end.Before(to) {
			ends = append(ends, o.end)
		}
	}
	slices.SortFunc(ends, time.Time.Compare)
	longest := time.Duration(0)
	for _, end := range ends {
		longest, from = max(longest, end.Sub(from)), end
	}
	return longest
}

// String counts the outcomes by what they were.
func (all outcomes) String() string {
	counts, address := map[string]int{}, regexp.MustCompile(`127\.0\.0\.1:\d+`)
	for _, o := range all {
		if o.err == nil {
			counts["ok"]++
			continue
		}
		counts[address.ReplaceAllString(fmt.Sprintf("%.200v", o.err), "address")]++
	}
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d x %s", counts[what], what))
	}
	return fmt.Sprintf("%d requests: %s", len(all), strings.Join(parts, ", "))
}
