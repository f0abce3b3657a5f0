package limit

import (
	"container/heap"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	maxShards = 64
	minShard  = 256 // buckets that make a shard of their own worth it
	shared    = 256 // buckets of each entry for those that have none of their own, over all shards
)

// sharedName is in the key of a shared bucket. No principal has it: their keys have a colon.
const sharedName = "shared"

// bucketKey is whose bucket it is.
type bucketKey struct {
	entry string
	kind  Kind
	who   string
	addr  netip.Addr
}

// shard is a part of the buckets with a lock of its own.
type shard struct {
	mu      sync.Mutex
	buckets map[bucketKey]*bucket
	order   byFull
	most    int
	shared  uint64 // how many of its buckets are shared, per entry and kind
}

// bucket is a token bucket.
type bucket struct {
	key    bucketKey
	tokens *rate.Limiter
	rate   Rate
	// full is when the bucket is full again, or earlier: it is not moved by what is taken, only when the bucket comes first.
	full time.Time
}

// byFull is a heap of the buckets: first is the one that may be full first.
type byFull []*bucket

var _ heap.Interface = (*byFull)(nil)

// Len is how many there are.
func (h *byFull) Len() int { return len(*h) }

// Less tells whether i may be full before j.
func (h *byFull) Less(i, j int) bool { return (*h)[i].full.Before((*h)[j].full) }

// Swap swaps i and j.
func (h *byFull) Swap(i, j int) { (*h)[i], (*h)[j] = (*h)[j], (*h)[i] }

// Push adds a bucket.
func (h *byFull) Push(b any) { *h = append(*h, b.(*bucket)) }

// Pop takes the last one away.
func (h *byFull) Pop() any {
	last := len(*h) - 1
	b := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return b
}

func (s *shard) init(most, shared int) {
	s.most, s.shared = most, uint64(shared)
	s.buckets = map[bucketKey]*bucket{}
}

// take takes one token out of the bucket of key.
func (l *Limiter) take(kind Kind, key bucketKey, r *Rate) Decision {
	hash := l.hash(key)
	s := &l.shards[hash%uint64(len(l.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now() // after the lock: a bucket's time never goes back
	b := s.bucket(key, hash, r, now)
	if b.rate != *r { // the entry was edited: what was taken stays taken
		b.tokens.SetLimitAt(now, r.limit())
		b.tokens.SetBurstAt(now, r.burst())
		b.rate = *r
	}
	ok := b.tokens.AllowN(now, 1)
	return decide(kind, ok, r, b.tokens.TokensAt(now))
}

// bucket finds the bucket of key, or makes it. Where there is no room, it is one of those that are shared.
func (s *shard) bucket(key bucketKey, hash uint64, r *Rate, now time.Time) *bucket {
	if b := s.buckets[key]; b != nil {
		return b
	}
	if len(s.buckets) >= s.most && !s.forget(now) {
		// By entry and kind, so that it has their rate; by a hash whose seed nobody outside knows.
		key = bucketKey{entry: key.entry, kind: key.kind, who: sharedName, addr: netip.AddrFrom4([4]byte{byte((hash >> 32) % s.shared)})}
		if b := s.buckets[key]; b != nil {
			return b
		}
	}
	b := &bucket{key: key, tokens: rate.NewLimiter(r.limit(), r.burst()), rate: *r, full: now}
	s.buckets[key] = b
	heap.Push(&s.order, b)
	return b
}

// forget removes a bucket that is full again, as a new one would be. False means that there is none: all hold something against their
// owner. What was taken from a bucket since it came first the last time is made up for now, so this costs a heap's step per
// request at most, if not at once.
func (s *shard) forget(now time.Time) bool {
	for len(s.order) > 0 {
		b := s.order[0]
		if b.full.After(now) {
			return false
		}
		missing := float64(b.rate.burst()) - b.tokens.TokensAt(now)
		if missing <= 0 {
			heap.Pop(&s.order)
			delete(s.buckets, b.key)
			return true
		}
		b.full = now.Add(max(1, seconds(missing/float64(b.rate.limit()))))
		heap.Fix(&s.order, 0)
	}
	return false
}

func (l *Limiter) hash(key bucketKey) uint64 {
	h := maphash.String(l.seed, key.entry) + uint64(key.kind)
	if key.who != "" {
		return h ^ maphash.String(l.seed, key.who)
	}
	bytes := key.addr.As16()
	return h ^ maphash.Bytes(l.seed, bytes[:])
}
