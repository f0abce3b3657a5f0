package limit_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/http/limit"
	"github.com/skybus-io/skybus/micro/route"
)

func newLimiter(t testing.TB, buckets int) *limit.Limiter {
	t.Helper()
	l, err := limit.New(limit.Config{MaxBuckets: buckets})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func perMinute(n int) *limit.Rate { return &limit.Rate{Requests: n, Per: route.Duration(time.Minute)} }

// taken counts how many of n requests pass.
func taken(n int, f func() limit.Decision) int {
	ok := 0
	for range n {
		if f().OK {
			ok++
		}
	}
	return ok
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newLimiter(t, 0).Entry("orders", limit.Limits{
			Key: &limit.Rate{Requests: 10, Burst: 3}, IP: perMinute(6), Entry: &limit.Rate{Requests: 100, Per: route.Duration(100 * time.Millisecond), Burst: 5},
		})
		addr := netip.MustParseAddr("192.0.2.1")
		for name, f := range map[string]struct {
			take              func() limit.Decision
			burst, afterAWait int
		}{
			"key":   {func() limit.Decision { return e.Key("key:a") }, 3, 3},
			"ip":    {func() limit.Decision { return e.IP(addr) }, 6, 1},
			"entry": {e.All, 5, 5},
		} {
			if got := taken(20, f.take); got != f.burst {
				t.Errorf("%s: %d at once, want %d", name, got, f.burst)
			}
		}
		time.Sleep(10 * time.Second)
		if got := taken(20, func() limit.Decision { return e.IP(addr) }); got != 1 {
			t.Errorf("%d from an address after 10 s, want 1", got)
		}
		time.Sleep(time.Hour)
		for name, f := range map[string]struct {
			take func() limit.Decision
			want int
		}{
			"key": {func() limit.Decision { return e.Key("key:a") }, 3}, "ip": {func() limit.Decision { return e.IP(addr) }, 6}, "entry": {e.All, 5},
		} {
			if got := taken(20, f.take); got != f.want {
				t.Errorf("%s: %d after an hour, want %d", name, got, f.want)
			}
		}
	})
}

func TestBucketsAreApart(t *testing.T) {
	t.Parallel()
	l := newLimiter(t, 0)
	one := &limit.Rate{Requests: 1, Per: route.Duration(24 * time.Hour)}
	limits := limit.Limits{Key: one, IP: one, Entry: one}
	a, b := l.Entry("a", limits), l.Entry("b", limits)
	for name, f := range map[string]func() limit.Decision{
		"key of a":       func() limit.Decision { return a.Key("key:x") },
		"another key":    func() limit.Decision { return a.Key("key:y") },
		"key of b":       func() limit.Decision { return b.Key("key:x") },
		"address of a":   func() limit.Decision { return a.IP(netip.MustParseAddr("192.0.2.1")) },
		"address of b":   func() limit.Decision { return b.IP(netip.MustParseAddr("192.0.2.1")) },
		"IPv6 address":   func() limit.Decision { return a.IP(netip.MustParseAddr("2001:db8::1")) },
		"another /64":    func() limit.Decision { return a.IP(netip.MustParseAddr("2001:db8:0:1::1")) },
		"no address":     func() limit.Decision { return a.IP(netip.Addr{}) },
		"0.0.0.0":        func() limit.Decision { return a.IP(netip.IPv4Unspecified()) },
		"all of a":       a.All,
		"all of b":       b.All,
		"a key as kinds": func() limit.Decision { return a.Key("192.0.2.1") },
	} {
		if got := taken(5, f); got != 1 {
			t.Errorf("%s: %d of 5 pass, want 1", name, got)
		}
	}
	for name, text := range map[string]string{"same /64": "2001:db8::ffff", "with a zone": "2001:db8::1%eth0", "IPv4 in IPv6": "::ffff:192.0.2.1"} {
		if a.IP(netip.MustParseAddr(text)).OK {
			t.Errorf("%s has a bucket of its own", name)
		}
	}
	if got := taken(5, func() limit.Decision { return a.Key("") }); got != 5 {
		t.Errorf("nobody is counted as a key: %d of 5 pass", got)
	}
	if got := taken(5, l.Entry("free", limit.Limits{}).All); got != 5 {
		t.Errorf("no limit, and %d of 5 pass", got)
	}
}

// What is refused because of one client takes nothing from what all share, if it is asked in order.
func TestRefusedByKeyLeavesTheEntry(t *testing.T) {
	t.Parallel()
	e := newLimiter(t, 0).Entry("a", limit.Limits{Key: perMinute(1), Entry: perMinute(10)})
	admit := func(key string) bool { return e.Key(key).OK && e.All().OK }
	for range 1000 {
		admit("key:greedy")
	}
	others := 0
	for i := range 20 {
		if admit(fmt.Sprint("key:", i)) {
			others++
		}
	}
	if others != 9 {
		t.Errorf("%d others pass, want 9", others)
	}
}

// An edit changes rates at once, and gives nobody back what was taken.
func TestEditKeepsWhatWasCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, 0)
		e := l.Entry("a", limit.Limits{Key: perMinute(10)})
		if got := taken(10, func() limit.Decision { return e.Key("key:x") }); got != 10 {
			t.Fatal(got)
		}
		for _, r := range []*limit.Rate{perMinute(10), perMinute(60), perMinute(5)} {
			e = l.Entry("a", limit.Limits{Key: r})
			if e.Key("key:x").OK {
				t.Errorf("an edit to %d gave a new bucket", r.Requests)
			}
		}
		e = l.Entry("a", limit.Limits{Key: perMinute(60)})
		e.Key("key:x")
		time.Sleep(time.Second)
		if got := taken(5, func() limit.Decision { return e.Key("key:x") }); got != 1 {
			t.Errorf("%d pass after a second at 60 a minute, want 1", got)
		}
	})
}

// Nobody gets rid of a limit by making the limiter remember others: a bucket goes only when it is full again.
func TestEvictionResetsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const buckets = 256
		l := newLimiter(t, buckets)
		e := l.Entry("a", limit.Limits{IP: perMinute(2)})
		victim := netip.MustParseAddr("192.0.2.1")
		if got := taken(5, func() limit.Decision { return e.IP(victim) }); got != 2 {
			t.Fatal(got)
		}
		flood := func(n int) (passed int) {
			for i := range n {
				addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
				if e.IP(addr).OK {
					passed++
				}
			}
			return passed
		}
		passed := flood(100_000)
		if e.IP(victim).OK {
			t.Error("a flood of other addresses gave the first one a new bucket")
		}
		// Who has no bucket of its own shares one: all together get no more than that many buckets hold.
		if most := 2 * (buckets + 256); passed > most {
			t.Errorf("%d of the flood pass, want at most %d", passed, most)
		}
		if n := l.Buckets(); n > buckets+256 {
			t.Errorf("%d buckets, want at most %d", n, buckets+256)
		}
		// Once they are full again they make room, and the others are counted one by one.
		time.Sleep(time.Minute)
		if got := flood(buckets / 2); got != buckets/2 {
			t.Errorf("%d of %d new addresses pass after a minute", got, buckets/2)
		}
		if n := l.Buckets(); n > buckets+256 {
			t.Errorf("%d buckets, want at most %d", n, buckets+256)
		}
	})
}

// A few buckets that take a day to fill do not stand before those that can be forgotten.
func TestSlowBucketsDoNotBlockOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, 256)
		slow := l.Entry("slow", limit.Limits{IP: &limit.Rate{Requests: 2, Per: route.Duration(24 * time.Hour)}})
		fast := l.Entry("fast", limit.Limits{IP: &limit.Rate{Requests: 1}})
		for i := range 100 {
			slow.IP(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
		}
		for round := range 50 {
			for i := range 50 {
				if !fast.IP(netip.AddrFrom4([4]byte{20, byte(round), 0, byte(i)})).OK {
					t.Fatalf("round %d: address %d has no bucket of its own", round, i)
				}
			}
			time.Sleep(2 * time.Second)
		}
		if n := l.Buckets(); n > 256 {
			t.Errorf("%d buckets", n)
		}
		for i := range 100 { // of which one was taken each
			addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
			if got := taken(3, func() limit.Decision { return slow.IP(addr) }); got != 1 {
				t.Errorf("a slow bucket was forgotten: %d pass", got)
			}
		}
	})
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	l := newLimiter(t, 0)
	e := l.Entry("a", limit.Limits{Concurrent: 3})
	var most, running, passed atomic.Int64
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for range 1000 {
				if !e.Begin() {
					continue
				}
				passed.Add(1)
				n := running.Add(1)
				for {
					m := most.Load()
					if n <= m || most.CompareAndSwap(m, n) {
						break
					}
				}
				running.Add(-1)
				e.End()
			}
		})
	}
	all.Wait()
	if most.Load() > 3 || passed.Load() == 0 || e.Running() != 0 {
		t.Errorf("%d at a time, %d passed, %d left", most.Load(), passed.Load(), e.Running())
	}
	// Edits count the same requests.
	for range 3 {
		e.Begin()
	}
	edited := l.Entry("a", limit.Limits{Concurrent: 4})
	if !edited.Begin() || edited.Begin() {
		t.Error("an edited entry does not count what runs")
	}
	if n := edited.Running(); n != 4 { // who is refused has taken no place
		t.Errorf("%d run, want 4", n)
	}
	edited.End()
	if !edited.Begin() {
		t.Error("a place that was given back is not taken again")
	}
	if err := edited.ErrBusy(); err.HTTPStatus() != http.StatusServiceUnavailable || !strings.Contains(err.Message, "4") {
		t.Error(err)
	}
	free := l.Entry("b", limit.Limits{})
	if !free.Begin() || free.Running() != 1 {
		t.Error("without a limit there is no place")
	}
	l.Remove("b")
	free.End()
}

func TestDecisionHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newLimiter(t, 0).Entry("a", limit.Limits{Key: &limit.Rate{Requests: 2, Per: route.Duration(10 * time.Second)}, IP: perMinute(100)})
		tell := func(d limit.Decision) string {
			h := http.Header{}
			d.SetHeader(h)
			return fmt.Sprint(h.Get("RateLimit-Policy"), " | ", h.Get("RateLimit"), " | ", h.Get("Retry-After"))
		}
		first := e.Key("key:x")
		if got := tell(first); got != `"key";q=2;w=10 | "key";r=1;t=5 | ` {
			t.Errorf("first: %s", got)
		}
		e.Key("key:x")
		time.Sleep(1500 * time.Millisecond)
		refused := e.Key("key:x")
		if got := tell(refused); got != `"key";q=2;w=10 | "key";r=0;t=9 | 4` {
			t.Errorf("refused: %s", got)
		}
		err := bus.AsError(refused.Err())
		if err.HTTPStatus() != http.StatusTooManyRequests || err.Details["limit"] != "key" || err.Details["retry_after"] != "3.5s" {
			t.Errorf("%v, %v", err, err.Details)
		}
		time.Sleep(4 * time.Second)
		if !e.Key("key:x").OK {
			t.Error("refused after the time that was told")
		}
		ip := e.IP(netip.MustParseAddr("192.0.2.1"))
		for _, d := range []limit.Decision{ip.Tighter(refused), refused.Tighter(ip), limit.Decision{OK: true}.Tighter(refused), refused.Tighter(limit.Decision{OK: true})} {
			if d != refused {
				t.Errorf("tighter is %+v", d)
			}
		}
		if d := ip.Tighter(first); d != first {
			t.Errorf("tighter is %+v", d)
		}
		if got := tell(limit.Decision{OK: true}); got != " |  | " {
			t.Errorf("no limit tells %s", got)
		}
		if first.Err() != nil {
			t.Error(first.Err())
		}
	})
}

func TestLimitsRefuse(t *testing.T) {
	t.Parallel()
	for field, l := range map[string]limit.Limits{
		"limits.key.requests":   {Key: &limit.Rate{}},
		"limits.ip.requests":    {IP: &limit.Rate{Requests: -1}},
		"limits.entry.requests": {Entry: &limit.Rate{Requests: 2_000_000_000}},
		"limits.key.per":        {Key: &limit.Rate{Requests: 1, Per: -1}},
		"limits.ip.per":         {IP: &limit.Rate{Requests: 1, Per: route.Duration(25 * time.Hour)}},
		"limits.entry.per":      {Entry: &limit.Rate{Requests: 1, Per: 1}},
		"limits.key.burst":      {Key: &limit.Rate{Requests: 1, Burst: -1}},
		"limits.concurrent":     {Concurrent: -1},
	} {
		if err := l.Validate(); bus.CodeOf(err) != bus.InvalidArgument || !strings.Contains(err.Error(), field+":") {
			t.Errorf("%s: %v", field, err)
		}
	}
	good := limit.Limits{Key: perMinute(1), IP: &limit.Rate{Requests: 1_000_000_000, Burst: 1}, Entry: &limit.Rate{Requests: 1, Per: route.Duration(time.Millisecond)}, Concurrent: 1}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	if _, err := limit.New(limit.Config{MaxBuckets: -1}); bus.CodeOf(err) != bus.InvalidArgument {
		t.Error(err)
	}
}

// Racing clients get what the rate allows and no more.
func TestRatesUnderRace(t *testing.T) {
	t.Parallel()
	e := newLimiter(t, 64).Entry("a", limit.Limits{Key: &limit.Rate{Requests: 100, Per: route.Duration(24 * time.Hour)}})
	var passed [8]atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for i := range 8000 {
				if e.Key(fmt.Sprint("key:", i%8)).OK {
					passed[i%8].Add(1)
				}
			}
		})
	}
	all.Wait()
	for i := range passed {
		if n := passed[i].Load(); n != 100 {
			t.Errorf("key %d: %d pass, want 100", i, n)
		}
	}
}

func TestHotPathAllocatesNothing(t *testing.T) {
	e := newLimiter(t, 0).Entry("a", limit.Limits{Key: perMinute(1 << 20), IP: perMinute(1 << 20), Entry: perMinute(1 << 20), Concurrent: 10})
	r := &http.Request{RemoteAddr: "[2001:db8::1]:4242", Header: http.Header{}}
	var none limit.Proxies
	n := testing.AllocsPerRun(1000, func() {
		if !e.IP(none.ClientIP(r)).OK || !e.Key("key:abcdefgh").OK || !e.All().OK || !e.Begin() {
			t.Error("refused")
		}
		e.End()
	})
	if n != 0 {
		t.Errorf("%v allocations per request", n)
	}
}

func BenchmarkLimits(b *testing.B) {
	l := newLimiter(b, 0)
	huge := &limit.Rate{Requests: 1_000_000_000}
	e := l.Entry("a", limit.Limits{Key: huge, IP: huge, Entry: huge, Concurrent: 1000})
	addr := netip.MustParseAddr("192.0.2.1")
	b.Run("key", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e.Key("key:abcdefgh")
		}
	})
	b.Run("all", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if e.IP(addr).OK && e.Key("key:abcdefgh").OK && e.All().OK && e.Begin() {
					e.End()
				}
			}
		})
	})
	b.Run("new address each time", func(b *testing.B) {
		b.ReportAllocs()
		var n uint32
		for b.Loop() {
			n++
			e.IP(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}))
		}
	})
}

// What a gateway has as a whole is apart from what its entries have, and says so.
func TestWhole(t *testing.T) {
	t.Parallel()
	l := newLimiter(t, 0)
	if e := l.Whole(limit.Whole{}); e != nil {
		t.Errorf("without limits there is %+v", e)
	}
	var none *limit.Entry
	for name, d := range map[string]limit.Decision{"ip": none.IP(netip.Addr{}), "key": none.Key("key:a"), "all": none.All()} {
		if !d.OK || d.Kind != 0 {
			t.Errorf("%s of nothing: %+v", name, d)
		}
	}
	whole, entry := l.Whole(limit.Whole{IP: perMinute(1), Key: perMinute(2), All: perMinute(3)}), l.Entry("a", limit.Limits{Entry: perMinute(1)})
	addr := netip.MustParseAddr("192.0.2.1")
	for name, tt := range map[string]struct {
		take func() limit.Decision
		want int
		kind string
	}{
		"ip":    {func() limit.Decision { return whole.IP(addr) }, 1, "ip"},
		"key":   {func() limit.Decision { return whole.Key("key:a") }, 2, "key"},
		"all":   {whole.All, 3, "gateway"},
		"entry": {entry.All, 1, "entry"},
	} {
		if got := taken(5, tt.take); got != tt.want {
			t.Errorf("%s: %d pass, want %d", name, got, tt.want)
		}
		d := tt.take()
		h := http.Header{}
		d.SetHeader(h)
		if d.Kind.String() != tt.kind || !strings.HasPrefix(h.Get("RateLimit"), `"`+tt.kind+`";r=0`) || bus.AsError(d.Err()).Details["limit"] != tt.kind {
			t.Errorf("%s: %+v, %v, %v", name, d, h, d.Err())
		}
	}
	// Made again with other rates it goes on counting.
	if got := taken(5, l.Whole(limit.Whole{All: perMinute(4)}).All); got != 0 {
		t.Errorf("an edit gave %d", got)
	}
	for field, w := range map[string]limit.Whole{
		"rates.ip.requests": {IP: &limit.Rate{}}, "rates.key.per": {Key: &limit.Rate{Requests: 1, Per: -1}}, "rates.all.burst": {All: &limit.Rate{Requests: 1, Burst: -1}},
	} {
		if err := w.Validate("rates."); bus.CodeOf(err) != bus.InvalidArgument || !strings.Contains(err.Error(), field+":") {
			t.Errorf("%s: %v", field, err)
		}
	}
}
