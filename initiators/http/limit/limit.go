// Package limit keeps clients of a gateway to rates: token buckets per principal, per address and per entry, and how many requests of an
// entry may run at a time. It knows nothing of HTTP but the headers that tell a client where it stands.
//
// # Order
//
// What is narrow is asked first: the address before anybody is authenticated, since that costs more than counting; then the
// principal; then the entry; then the gateway ([Whole]). Who is refused by an earlier one takes nothing from the bucket that all share, so one greedy client does
// not use up the entry for others.
//
// # Memory
//
// There are at most [Config.MaxBuckets] buckets. A bucket is forgotten only when it is full again, as a new one would be: nobody gets
// rid of a limit by making the gateway remember others. While all buckets are in use, whoever is new shares one of 256 others
// with those that chance put there; which, nobody outside can tell. So with N buckets, clients of a rate r get (N+256)·r together
// at most, from however many addresses they come.
//
// Buckets are those of one process: with n gateways a client gets up to n times the rate.
package limit

import (
	"cmp"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/route"
)

// Defaults and limits.
const (
	DefaultMaxBuckets = 64 << 10
	MaxRequests       = 1_000_000_000 // of a [Rate]
	MaxPer            = 24 * time.Hour
	MaxConcurrent     = 1_000_000
)

// Rate is how many requests may come in a time. The bucket holds Burst of them and is filled evenly.
type Rate struct {
	// Requests is how many may come in each Per. Required; 1 to 1,000,000,000.
	Requests int `json:"requests"`
	// Per is the time. 0 means 1 s; at most 24 h.
	Per route.Duration `json:"per,omitempty"`
	// Burst is how many may come at once after a rest. 0 means Requests; at most 1,000,000,000.
	Burst int `json:"burst,omitempty"`
}

func (r *Rate) per() time.Duration { return cmp.Or(time.Duration(r.Per), time.Second) }

func (r *Rate) burst() int { return cmp.Or(r.Burst, r.Requests) }

// limit is the rate per second.
func (r *Rate) limit() rate.Limit { return rate.Limit(float64(r.Requests) / r.per().Seconds()) }

func (r *Rate) validate(field string) error {
	switch {
	case r == nil:
		return nil
	case r.Requests < 1 || r.Requests > MaxRequests:
		return bus.Errorf(bus.InvalidArgument, "%s.requests: %d: want 1 to %d", field, r.Requests, MaxRequests)
	case r.Per < 0 || time.Duration(r.Per) > MaxPer || r.Per > 0 && time.Duration(r.Per) < time.Millisecond:
		return bus.Errorf(bus.InvalidArgument, "%s.per: %s: want 1ms to %s", field, time.Duration(r.Per), MaxPer)
	case r.Burst < 0 || r.Burst > MaxRequests:
		return bus.Errorf(bus.InvalidArgument, "%s.burst: %d: want 1 to %d", field, r.Burst, MaxRequests)
	}
	return nil
}

// Limits are those of an entry, as data. The zero value limits nothing.
type Limits struct {
	// Key is the rate of each principal. Requests of nobody are not counted there.
	Key *Rate `json:"key,omitempty"`
	// IP is the rate of each IPv4 address, and of each /64 of IPv6, which is what one client has.
	IP *Rate `json:"ip,omitempty"`
	// Entry is the rate of all together.
	Entry *Rate `json:"entry,omitempty"`
	// Concurrent is how many requests may run at a time. 0 means any number; at most 1,000,000.
	Concurrent int `json:"concurrent,omitempty"`
}

// Validate tells whether l can be kept. The error has the code [bus.InvalidArgument] and names the field.
func (l Limits) Validate() error {
	for _, f := range []struct {
		name string
		rate *Rate
	}{{"limits.key", l.Key}, {"limits.ip", l.IP}, {"limits.entry", l.Entry}} {
		if err := f.rate.validate(f.name); err != nil {
			return err
		}
	}
	if l.Concurrent < 0 || l.Concurrent > MaxConcurrent {
		return bus.Errorf(bus.InvalidArgument, "limits.concurrent: %d: want 0, which is any number, to %d", l.Concurrent, MaxConcurrent)
	}
	return nil
}

// Config adjusts a [Limiter]. The zero value works.
type Config struct {
	// MaxBuckets is how many buckets there may be, about 200 bytes each. 0 means 65,536.
	MaxBuckets int
}

// Limiter holds the buckets of all entries of a gateway. It is safe for concurrent use.
type Limiter struct {
	seed   maphash.Seed
	shards []shard

	mu      sync.Mutex
	running map[string]*atomic.Int64 // requests by entry
}

// New makes a limiter without buckets.
func New(cfg Config) (*Limiter, error) {
	if cfg.MaxBuckets < 0 {
		return nil, bus.Errorf(bus.InvalidArgument, "limit: MaxBuckets is %d: want 1 or more", cfg.MaxBuckets)
	}
	most := cmp.Or(cfg.MaxBuckets, DefaultMaxBuckets)
	l := &Limiter{seed: maphash.MakeSeed(), running: map[string]*atomic.Int64{}, shards: make([]shard, min(maxShards, max(1, most/minShard)))}
	for i := range l.shards {
		l.shards[i].init((most+len(l.shards)-1)/len(l.shards), max(1, shared/len(l.shards)))
	}
	return l, nil
}

// Entry is the limits of the entry of that name. Making it again, with other limits too, takes up what was counted: an edit gives nobody
// a new bucket. limits must be valid.
func (l *Limiter) Entry(name string, limits Limits) *Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	running := l.running[name]
	if running == nil {
		running = new(atomic.Int64)
		l.running[name] = running
	}
	return &Entry{limiter: l, name: name, limits: limits, running: running, all: ByEntry}
}

// Remove forgets the entry of that name; its buckets go when they are full again.
func (l *Limiter) Remove(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.running, name)
}

// Buckets is how many buckets there are.
func (l *Limiter) Buckets() int {
	n := 0
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		n += len(s.buckets)
		s.mu.Unlock()
	}
	return n
}

// Entry is what limits the requests of one entry, or of a gateway as a whole. It is safe for concurrent use. Nil takes any request.
type Entry struct {
	limiter *Limiter
	name    string
	limits  Limits
	running *atomic.Int64
	all     Kind // of what all together have
}

// Limits are those that the entry was made with.
func (e *Entry) Limits() Limits { return e.limits }

// IP takes a request of that address, before anybody is authenticated. An address that is not valid counts as one of its own.
func (e *Entry) IP(addr netip.Addr) Decision {
	if e == nil || e.limits.IP == nil {
		return Decision{OK: true}
	}
	return e.limiter.take(ByIP, bucketKey{entry: e.name, kind: ByIP, addr: Network(addr)}, e.limits.IP)
}

// Key takes a request of the principal of that key, which is empty for nobody.
func (e *Entry) Key(key string) Decision {
	if e == nil || e.limits.Key == nil || key == "" {
		return Decision{OK: true}
	}
	return e.limiter.take(ByKey, bucketKey{entry: e.name, kind: ByKey, who: key}, e.limits.Key)
}

// All takes a request from what all together have.
func (e *Entry) All() Decision {
	if e == nil || e.limits.Entry == nil {
		return Decision{OK: true}
	}
	return e.limiter.take(e.all, bucketKey{entry: e.name, kind: e.all}, e.limits.Entry)
}

// Begin takes one of the places of Concurrent; [Entry.End] gives it back. False means that all are taken, and no End follows.
func (e *Entry) Begin() bool {
	if n := e.running.Add(1); e.limits.Concurrent > 0 && n > int64(e.limits.Concurrent) {
		e.running.Add(-1)
		return false
	}
	return true
}

// End gives back the place that a Begin took.
func (e *Entry) End() { e.running.Add(-1) }

// Running is how many requests have a place.
func (e *Entry) Running() int { return int(e.running.Load()) }

// ErrBusy is the answer to a request that found no place: unavailable (503), to be tried again soon.
func (e *Entry) ErrBusy() *bus.Error {
	return bus.Errorf(bus.Unavailable, "this entry works on %d requests already", e.limits.Concurrent)
}

// Network is what counts as one client: an IPv4 address, or a /64 of IPv6.
func Network(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if !addr.Is6() {
		return addr
	}
	p, err := addr.Prefix(64)
	if err != nil {
		return addr
	}
	return p.Addr()
}
