package balance_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skybus-io/skybus/micro/balance"
	"github.com/skybus-io/skybus/micro/registry"
)

var errFailed = errors.New("failed")

// fleet answers calls in fake time: what each instance takes, and whether it fails, may be changed meanwhile.
type fleet struct {
	mu     sync.Mutex
	took   map[string]time.Duration
	failed map[string]error
	calls  map[string]int
}

func newFleet(took map[string]time.Duration) *fleet {
	return &fleet{took: took, failed: map[string]error{}, calls: map[string]int{}}
}

// change changes what the second instance takes and how it answers.
func (f *fleet) change(took time.Duration, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.took["i0001"], f.failed["i0001"] = took, err
}

func (f *fleet) begin(id string) (time.Duration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[id]++
	return f.took[id], f.failed[id]
}

// since is the calls since it was asked last, and their sum.
func (f *fleet) since() (calls map[string]int, sum int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls, f.calls = f.calls, map[string]int{}
	for _, n := range calls {
		sum += n
	}
	return calls, sum
}

// call has n callers make calls one after the other for a time, with a pause between them.
func (f *fleet) call(p balance.Policy, instances []*registry.Instance, n int, pause, d time.Duration) {
	var wg sync.WaitGroup
	end := time.Now().Add(d)
	for range n {
		wg.Go(func() {
			for time.Now().Before(end) {
				call := balance.Call{Endpoint: "do"}
				i := p.Pick(instances, call)
				done := balance.Observe(p, i, call)
				took, err := f.begin(i.Instance)
				time.Sleep(took)
				done(took, err)
				time.Sleep(pause)
			}
		})
	}
	wg.Wait()
}

const (
	quick = 2 * time.Millisecond
	slow  = 100 * time.Millisecond
)

// One of three is slow: it gets far fewer calls, and all callers together get many more answers than by turns.
func TestQualityOneSlow(t *testing.T) {
	t.Parallel()
	instances := online(t, named(3)...)
	synctest.Test(t, func(t *testing.T) {
		took := map[string]time.Duration{"i0000": quick, "i0001": slow, "i0002": quick}
		f := newFleet(took)
		f.call(balance.RoundRobin(), instances, 16, 0, 4*time.Second)
		_, turns := f.since()
		f.call(balance.BestQuality(), instances, 16, 0, 4*time.Second)
		got, sum := f.since()
		t.Logf("by turns %d, best quality %d: %v", turns, sum, got)
		if got["i0001"] > sum/200 {
			t.Errorf("the slow one gets %d of %d calls", got["i0001"], sum)
		}
		if sum < 10*turns {
			t.Errorf("%d calls, by turns %d", sum, turns)
		}
		if got["i0000"] < sum*4/10 || got["i0002"] < sum*4/10 {
			t.Errorf("the quick ones do not share: %v", got)
		}
	})
}

// Instances that are alike get the same.
func TestQualityAlike(t *testing.T) {
	t.Parallel()
	instances := online(t, named(4)...)
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(map[string]time.Duration{"i0000": quick, "i0001": quick, "i0002": quick, "i0003": quick})
		for _, callers := range []int{1, 16} {
			f.call(balance.BestQuality(), instances, callers, time.Millisecond, 20*time.Second)
			got, sum := f.since()
			for _, i := range instances {
				if !near(got[i.Instance], sum, 0.25) {
					t.Errorf("%d callers: %s gets %d of %d", callers, i.Instance, got[i.Instance], sum)
				}
			}
		}
	})
}

// One that becomes slow is left at once, tried now and then, and has its share again within a minute of being quick again.
func TestQualityRecovery(t *testing.T) {
	t.Parallel()
	for _, callers := range []int{1, 8} {
		t.Run(fmt.Sprintf("%d callers", callers), func(t *testing.T) {
			t.Parallel()
			instances := online(t, named(3)...)
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(map[string]time.Duration{"i0000": quick, "i0001": quick, "i0002": quick})
				p := balance.BestQuality()
				run := func(d time.Duration) (int, int) {
					f.call(p, instances, callers, 10*time.Millisecond, d)
					got, sum := f.since()
					return got["i0001"], sum
				}
				run(10 * time.Second)
				f.change(slow, nil)
				if got, sum := run(time.Second); got > sum/10 {
					t.Errorf("in the second in which it became slow: %d of %d", got, sum)
				}
				if got, sum := run(2 * time.Minute); got > sum/50 || got < 4 {
					t.Errorf("in two minutes while it is slow: %d of %d", got, sum)
				}
				f.change(quick, nil)
				run(time.Minute)
				if got, sum := run(20 * time.Second); got < sum/4 {
					t.Errorf("a minute after it recovered: %d of %d", got, sum)
				}
			})
		})
	}
}

// One that fails answers quickest of all, and that must not make it best.
func TestQualityErrorsAreSlow(t *testing.T) {
	t.Parallel()
	instances := online(t, named(3)...)
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(map[string]time.Duration{"i0000": quick, "i0001": quick, "i0002": quick})
		p := balance.BestQuality()
		run := func(d time.Duration) (int, int) {
			f.call(p, instances, 4, time.Millisecond, d)
			got, sum := f.since()
			return got["i0001"], sum
		}
		f.change(50*time.Microsecond, errFailed)
		if got, sum := run(30 * time.Second); got > sum/1000 {
			t.Errorf("from the beginning: %d of %d", got, sum)
		}
		f.change(quick, nil)
		run(time.Minute)
		if got, sum := run(10 * time.Second); got < sum/4 {
			t.Errorf("a minute after it recovered: %d of %d", got, sum)
		}
		f.change(50*time.Microsecond, errFailed)
		if got, sum := run(30 * time.Second); got > sum/1000 {
			t.Errorf("from the middle: %d of %d", got, sum)
		}
	})
}

// One that was never called is neither best nor worst: it gets its share from the first moment, and no burst.
func TestQualityNewcomer(t *testing.T) {
	t.Parallel()
	instances := online(t, named(4)...)
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(map[string]time.Duration{"i0000": slow, "i0001": slow, "i0002": slow, "i0003": slow})
		p := balance.BestQuality()
		f.call(p, instances[:3], 32, 0, 10*time.Second)
		f.since()
		f.call(p, instances, 32, 0, slow) // none of these calls ends before all begin
		if got, sum := f.since(); got["i0003"] < sum*15/100 || got["i0003"] > sum*35/100 {
			t.Errorf("the newcomer gets %v of the first %d calls, want about a fourth", got, sum)
		}
	})
}

// Nor does one that was not called for long get all calls until it answers.
func TestQualityNoBurstAfterAPause(t *testing.T) {
	t.Parallel()
	instances := online(t, named(3)...)
	synctest.Test(t, func(t *testing.T) {
		for _, pause := range []time.Duration{10 * time.Second, 50 * time.Second, time.Hour} {
			f := newFleet(map[string]time.Duration{"i0000": slow, "i0001": slow, "i0002": slow})
			p := balance.BestQuality()
			f.call(p, instances, 9, 0, 10*time.Second)
			time.Sleep(pause)
			f.call(p, instances[:2], 1, 0, 2*time.Second)
			f.since()
			f.call(p, instances, 60, 0, slow)
			if got, sum := f.since(); got["i0002"] > sum*55/100 {
				t.Errorf("after %v: %v of %d", pause, got, sum)
			}
		}
	})
}

// Callers that know only the reports prefer who has less to do, and do not all go there.
func TestQualityColdCallersSpread(t *testing.T) {
	t.Parallel()
	const n = 6000
	list := named(3)
	for i, busy := range []int{0, 40, 50} {
		list[i].load = registry.Load{InFlight: busy, Limit: 100, Latency: 2000}
	}
	instances := online(t, list...)
	got := map[string]int{}
	for range n {
		got[balance.BestQuality().Pick(instances, balance.Call{}).Instance]++
	}
	if got["i0000"] < n*40/100 || got["i0000"] > n*55/100 {
		t.Errorf("who has nothing to do gets %d of %d first calls", got["i0000"], n)
	}
	if got["i0001"] < n*20/100 || got["i0002"] < n*15/100 {
		t.Errorf("the others get too little: %v", got)
	}
}

// A caller without measurements of its own goes by the latencies in the reports; who has none to report is not best.
func TestQualityReportedLatency(t *testing.T) {
	t.Parallel()
	const n = 6000
	list := named(3)
	for i, us := range []int64{2000, 100_000, 0} {
		list[i].load = registry.Load{Latency: us}
	}
	instances := online(t, list...)
	got := tally(balance.BestQuality(), instances, balance.Call{}, n)
	if got["i0000"] < n*45/100 || got["i0001"] > n*20/100 || got["i0002"] > n*37/100 {
		t.Errorf("%v", got)
	}
	if got := tally(balance.BestQuality(), instances[:2], balance.Call{}, n); got["i0001"] > 0 {
		t.Errorf("the slow of two: %v", got)
	}
}

// An instance that reports refusals, or that it is full, is left out for a while.
func TestQualityReportedShedding(t *testing.T) {
	t.Parallel()
	h := open(t)
	instances := h.add(t, named(2)...)
	p := balance.BestQuality()
	observe := func(took time.Duration) {
		for _, i := range instances {
			p.Observe(i, balance.Call{})(took, nil)
		}
	}
	observe(quick)
	if got := tally(p, instances, balance.Call{}, 1000); got["i0000"] < 300 {
		t.Fatalf("before: %v", got)
	}
	h.report(t, "i0000", registry.Load{Shed: 17})
	eventually(t, "the report", func() bool { return instances[0].Load().Shed == 17 })
	if got := tally(p, instances, balance.Call{}, 1000); got["i0000"] > 50 {
		t.Errorf("while it sheds: %v", got)
	}
	h.report(t, "i0001", registry.Load{InFlight: 0, Limit: 1})
	h.report(t, "i0001", registry.Load{InFlight: 1, Limit: 1})
	eventually(t, "the report", func() bool { return instances[1].Load().InFlight == 1 })
	if got := tally(balance.BestQuality(), instances, balance.Call{}, 1000); got["i0001"] > 50 {
		t.Errorf("a full one, in the eyes of another caller: %v", got)
	}
}

// What one measurement says.
func TestQualityOneMeasurement(t *testing.T) {
	t.Parallel()
	instances := online(t, named(2)...)
	for _, tt := range []struct {
		name  string
		learn func(first, second func(took time.Duration, err error))
	}{
		{"the first call failed at once", func(first, second func(time.Duration, error)) {
			first(time.Microsecond, errFailed)
			second(slow, nil)
		}},
		{"a later one failed at once", func(first, second func(time.Duration, error)) {
			first(quick, nil)
			second(quick, nil)
			first(time.Microsecond, errFailed)
		}},
		{"one took much longer", func(first, second func(time.Duration, error)) {
			for range 100 {
				first(quick, nil)
				second(quick, nil)
			}
			first(slow, nil)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := balance.BestQuality()
			observe := func(n int) func(time.Duration, error) {
				return func(took time.Duration, err error) { p.Observe(instances[n], balance.Call{})(took, err) }
			}
			tt.learn(observe(0), observe(1))
			if got := tally(p, instances, balance.Call{}, 1000); got["i0000"] > 0 {
				t.Errorf("it gets %d of 1000", got["i0000"])
			}
		})
	}
}

// After minutes without a call nothing is left of what was known.
func TestQualityForgets(t *testing.T) {
	t.Parallel()
	instances := online(t, named(2)...)
	synctest.Test(t, func(t *testing.T) {
		for _, pause := range []time.Duration{2 * time.Minute, 24 * time.Hour} {
			p := balance.BestQuality()
			p.Observe(instances[0], balance.Call{})(slow, nil)
			p.Observe(instances[1], balance.Call{})(quick, nil)
			time.Sleep(pause)
			if got := tally(p, instances, balance.Call{}, 1000); got["i0000"] < 400 || got["i0000"] > 600 {
				t.Errorf("after %v: %v", pause, got)
			}
		}
	})
}

// A slow endpoint says nothing of another one.
func TestQualityByEndpoint(t *testing.T) {
	t.Parallel()
	instances := online(t, named(2)...)
	p := balance.BestQuality()
	p.Observe(instances[0], balance.Call{Endpoint: "report"})(time.Second, nil)
	p.Observe(instances[1], balance.Call{Endpoint: "report"})(time.Millisecond, nil)
	if got := tally(p, instances, balance.Call{Endpoint: "report"}, 1000); got["i0000"] > 0 {
		t.Errorf("its own: %v", got)
	}
	if got := tally(p, instances, balance.Call{Endpoint: "ping"}, 1000); got["i0000"] < 400 {
		t.Errorf("another: %v", got)
	}
}

func ExampleBestQuality() {
	instances, end := begin("a", "b") // in a program: the registry's
	defer end()
	p := balance.BestQuality()
	p.Observe(instances[0], balance.Call{})(100*time.Millisecond, nil)
	p.Observe(instances[1], balance.Call{})(2*time.Millisecond, nil)
	fmt.Println(p.Pick(instances, balance.Call{}).Instance)
	// Output: b
}
