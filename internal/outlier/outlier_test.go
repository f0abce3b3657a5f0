package outlier_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/internal/outlier"
)

// fail reports n failures in a row and returns whether the last one ejected the host.
func fail(d *outlier.Detector, key string, n int) (ejected bool) {
	for range n {
		ejected = d.Report(key, false)
	}
	return ejected
}

func healthy(d *outlier.Detector, keys ...string) []string {
	return outlier.Healthy(d, keys, func(k string) string { return k })
}

func TestConsecutiveFailures(t *testing.T) {
	t.Parallel()
	d := outlier.New(outlier.Config{})
	if !d.Clean() {
		t.Error("something is known before anything happened")
	}
	if fail(d, "a", 4) || d.Ejected("a") || d.Clean() {
		t.Error("ejected after 4 failures, or nothing is known of them")
	}
	if d.Report("a", true); !d.Clean() {
		t.Error("failures are known after a success")
	}
	if fail(d, "a", 4) || d.Ejected("a") {
		t.Error("a success did not begin the count anew")
	}
	if !fail(d, "a", 1) || !d.Ejected("a") {
		t.Error("not ejected by the fifth failure in a row")
	}
	if d.Ejected("b") {
		t.Error("ejected another one")
	}
}

// Each time out is longer than the one before, up to the longest.
func TestEjectionTimeGrows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := outlier.New(outlier.Config{})
		fail(d, "a", 5)
		for times := range 14 {
			want := min(time.Duration(times+1)*30*time.Second, 300*time.Second)
			time.Sleep(want - time.Nanosecond)
			if !d.Ejected("a") {
				t.Fatalf("ejection %d ended before %v", times+1, want)
			}
			time.Sleep(time.Nanosecond)
			if d.Ejected("a") {
				t.Fatalf("ejection %d is longer than %v", times+1, want)
			}
			if !d.Begin("a") || !d.Report("a", false) { // the probe fails
				t.Fatalf("ejection %d: the failed probe does not eject", times+1)
			}
		}
		if s := d.Snapshot(); s[0].Times != 10 {
			t.Errorf("counts %d ejections, more than make it longer", s[0].Times)
		}
	})
}

func TestUntil(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := outlier.New(outlier.Config{})
		fail(d, "a", 4)
		if u := d.Until("a"); !u.IsZero() {
			t.Errorf("out until %v before it is out", u)
		}
		fail(d, "a", 1)
		if u := d.Until("a"); !u.Equal(time.Now().Add(30 * time.Second)) {
			t.Errorf("out until %v, want 30 s from now", u)
		}
		if u := d.Until("b"); !u.IsZero() {
			t.Errorf("another one is out until %v", u)
		}
		time.Sleep(30 * time.Second)
		if u := d.Until("a"); !u.IsZero() {
			t.Errorf("out until %v, although it may be probed", u)
		}
	})
}

func TestGoodConductIsRewarded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := outlier.New(outlier.Config{})
		fail(d, "a", 5)
		for range 2 { // out for the second and the third time
			time.Sleep(5 * time.Minute)
			d.Report("a", false)
		}
		time.Sleep(90 * time.Second)
		d.Report("a", true)
		want := []outlier.Status{{Key: "a", State: outlier.Back, Times: 3}}
		if diff := cmp.Diff(want, d.Snapshot()); diff != "" {
			t.Errorf("after the return (-want +got):\n%s", diff)
		}
		time.Sleep(21 * time.Second)
		fail(d, "a", 5) // 3 - 2 intervals + 1
		want = []outlier.Status{{Key: "a", State: outlier.Out, Times: 2, Until: time.Now().Add(time.Minute)}}
		if diff := cmp.Diff(want, d.Snapshot()); diff != "" {
			t.Errorf("two intervals later (-want +got):\n%s", diff)
		}
		time.Sleep(time.Minute)
		d.Report("a", true)
		time.Sleep(20 * time.Second)
		if got := d.Snapshot(); len(got) > 0 {
			t.Errorf("after all intervals: %+v", got)
		}
	})
}

// After its time one request may try, whose end decides for all.
func TestProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := outlier.New(outlier.Config{})
		fail(d, "a", 5)
		time.Sleep(30 * time.Second)
		if got := healthy(d, "a", "b"); !slices.Equal(got, []string{"a", "b"}) {
			t.Fatalf("nobody can probe: %v", got)
		}
		var mu sync.Mutex
		var first int
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if d.Begin("a") {
					mu.Lock()
					defer mu.Unlock()
					first++
				}
			})
		}
		wg.Wait()
		if first != 1 {
			t.Errorf("%d of 50 probe at once", first)
		}
		if got := healthy(d, "a", "b"); !slices.Equal(got, []string{"b"}) {
			t.Errorf("offered during the probe: %v", got)
		}
		d.Report("a", true)
		if first, second := d.Begin("a"), d.Begin("a"); !first || !second || d.Ejected("a") {
			t.Error("not back after a good probe")
		}
		if fail(d, "a", 4); d.Ejected("a") {
			t.Error("ejected by fewer failures than the first time")
		}
		d.Report("a", true)
		if fail(d, "a", 4); d.Ejected("a") {
			t.Error("a success after the return did not begin the count anew")
		}
	})
}

// A caller may die with its probe.
func TestLostProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := outlier.New(outlier.Config{})
		fail(d, "a", 5)
		time.Sleep(30 * time.Second)
		if !d.Begin("a") || d.Begin("a") {
			t.Fatal("want one probe")
		}
		time.Sleep(30 * time.Second)
		if d.Ejected("a") || !d.Begin("a") {
			t.Error("no other probe after the first was lost")
		}
	})
}

// Answers to requests from before an ejection do not end it.
func TestStragglers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := outlier.New(outlier.Config{})
		fail(d, "a", 5)
		d.Report("a", true)
		if fail(d, "a", 20) || !d.Ejected("a") {
			t.Error("stragglers changed the ejection")
		}
		time.Sleep(30 * time.Second)
		if d.Ejected("a") {
			t.Error("stragglers made the ejection longer")
		}
	})
}

func TestHealthyNeverNone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		hosts, failing, percent int
		out                     int
	}{
		{1, 1, 0, 0},
		{2, 1, 0, 1},
		{2, 2, 0, 1},
		{3, 3, 0, 1},
		{10, 10, 0, 1},
		{20, 1, 0, 1},
		{20, 20, 0, 2},
		{39, 39, 0, 3},
		{3, 3, 50, 1},
		{4, 4, 50, 2},
		{4, 4, 100, 3},
		{4, 4, 1000, 3},
	} {
		t.Run(fmt.Sprintf("%d of %d fail, %d percent", tt.failing, tt.hosts, tt.percent), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := outlier.New(outlier.Config{MaxEjectionPercent: tt.percent})
				var keys []string
				for i := range tt.hosts {
					keys = append(keys, fmt.Sprintf("h%02d", i))
				}
				for i := range tt.failing { // the last first
					fail(d, keys[tt.hosts-1-i], 5)
					time.Sleep(time.Millisecond)
				}
				if got, want := healthy(d, keys...), keys[:tt.hosts-tt.out]; !slices.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
			})
		})
	}
}

// An ejected host that is gone takes no place of those that are there.
func TestGoneHosts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := outlier.New(outlier.Config{})
		fail(d, "gone", 5)
		time.Sleep(time.Second)
		fail(d, "b", 5)
		if got := healthy(d, "a", "b", "c"); !slices.Equal(got, []string{"a", "c"}) {
			t.Errorf("got %v", got)
		}
		time.Sleep(time.Hour)
		healthy(d, "a", "b", "c")
		if got := d.Snapshot(); len(got) > 0 {
			t.Errorf("remembers after an hour: %+v", got)
		}
	})
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := outlier.New(outlier.Config{})
		fail(d, "probing", 5)
		time.Sleep(30 * time.Second)
		fail(d, "out", 5)
		fail(d, "failing", 2)
		d.Report("fine", true)
		want := []outlier.Status{
			{Key: "failing", State: outlier.Failing, Failures: 2},
			{Key: "out", State: outlier.Out, Times: 1, Until: time.Now().Add(30 * time.Second)},
			{Key: "probing", State: outlier.Probing, Times: 1},
		}
		if diff := cmp.Diff(want, d.Snapshot()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	d := outlier.New(outlier.Config{BaseEjectionTime: time.Microsecond, MaxEjectionTime: time.Millisecond})
	keys := []string{"a", "b", "c", "d"}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				got := healthy(d, keys...)
				if len(got) == 0 {
					t.Error("nobody left")
					return
				}
				if key := got[(i+g)%len(got)]; d.Begin(key) {
					d.Report(key, i%7 < 2)
				}
				d.Snapshot()
			}
		})
	}
	wg.Wait()
}

func TestNothingAgainstAnyoneCostsNothing(t *testing.T) {
	d := outlier.New(outlier.Config{})
	keys := []string{"a", "b", "c"}
	if n := testing.AllocsPerRun(100, func() {
		healthy(d, keys...)
		d.Begin("a")
		d.Report("a", true)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHealthy(b *testing.B) {
	for _, n := range []int{3, 100, 1000} {
		var keys []string
		for i := range n {
			keys = append(keys, fmt.Sprintf("h%04d", i))
		}
		for _, failing := range []int{0, 1} {
			b.Run(fmt.Sprintf("hosts=%d/out=%d", n, failing), func(b *testing.B) {
				d := outlier.New(outlier.Config{})
				fail(d, keys[0], 5*failing)
				b.ReportAllocs()
				for b.Loop() {
					healthy(d, keys...)
				}
			})
		}
	}
}

func BenchmarkReport(b *testing.B) {
	d := outlier.New(outlier.Config{})
	for b.Loop() {
		d.Report("a", true)
	}
}

func Example() {
	d := outlier.New(outlier.Config{})
	for range outlier.DefaultConsecutiveFailures {
		d.Report("a", false)
	}
	hosts := []string{"a", "b", "c"}
	fmt.Println(outlier.Healthy(d, hosts, func(host string) string { return host }))
	// Output: [b c]
}

// A probe that takes longer than an ejection is not joined by others.
func TestPatient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := outlier.NewPatient(outlier.Config{BaseEjectionTime: time.Second}, time.Minute)
		fail(d, "a", 5)
		time.Sleep(time.Second)
		if !d.Begin("a") {
			t.Fatal("there is no probe when the ejection is over")
		}
		time.Sleep(59 * time.Second)
		if d.Begin("a") {
			t.Error("another probe is made beside one that is under way")
		}
		time.Sleep(time.Second)
		if !d.Begin("a") {
			t.Error("a probe that was not reported makes way for none")
		}
	})
}
