package kv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
)

const (
	leaseBucket = "skybus_leases"
	minLease    = 2 * time.Second
	maxLease    = time.Hour
	maxOwner    = 255
)

// Leases is the bucket of the leases, skybus_leases. It is safe for concurrent use and needs no Close.
type Leases struct {
	t *Table[leaseRecord]
}

type leaseRecord struct {
	Owner string `json:"owner"`
	Epoch int64  `json:"epoch"`
	Term  uint64 `json:"term,omitempty"` // 0 in the write that acquired: it is that write's revision
}

// Term is a fencing token: of two holdings of a lease the later has the higher. Epoch tells the buckets apart if the
// bucket was lost and made anew.
type Term struct {
	Epoch    int64  // when the bucket was created, in nanoseconds since 1970
	Revision uint64 // of the write that acquired the lease
}

// Compare is negative when t is of before u, positive when it is of after u, and 0 when they are the same.
func (t Term) Compare(u Term) int {
	return cmp.Or(cmp.Compare(t.Epoch, u.Epoch), cmp.Compare(t.Revision, u.Revision))
}

// String is the term as [ParseTerm] reads it.
func (t Term) String() string {
	return strconv.FormatInt(t.Epoch, 10) + "." + strconv.FormatUint(t.Revision, 10)
}

// ParseTerm reads a term that traveled as text.
func ParseTerm(s string) (Term, error) {
	epoch, revision, _ := strings.Cut(s, ".")
	var t Term
	var err1, err2 error
	t.Epoch, err1 = strconv.ParseInt(epoch, 10, 64)
	t.Revision, err2 = strconv.ParseUint(revision, 10, 64)
	if err1 != nil || err2 != nil {
		return Term{}, fmt.Errorf("kv: parse term %.40q: want <epoch>.<revision>", s)
	}
	return t, nil
}

// Holder is who holds a lease.
type Holder struct {
	Key   string
	Owner string
	Term  Term
}

func holderOf(e Entry[leaseRecord]) Holder {
	return Holder{e.Key, e.Value.Owner, Term{e.Value.Epoch, cmp.Or(e.Value.Term, e.Revision)}}
}

// HeldError says who holds the lease that was asked for. It is [ErrHeld].
type HeldError struct {
	// Holder is empty when nobody knows: the bucket was lost, or the servers lack the quorum.
	Holder Holder
	// RetryAfter is how long to wait for what cannot be heard of, 0 when there is a holder.
	RetryAfter time.Duration
}

// Error names the holder.
func (e *HeldError) Error() string {
	if e.RetryAfter > 0 {
		return fmt.Sprintf("nobody can get it for %v: its bucket was made anew and who held it may still do so, or another is about to get it, or the servers lack the quorum", e.RetryAfter)
	}
	return fmt.Sprintf("lease is held by %.80q with term %v", e.Holder.Owner, e.Holder.Term)
}

// Is tells that it is [ErrHeld].
func (e *HeldError) Is(target error) bool { return target == ErrHeld }

// OpenLeases opens the bucket of the leases, as [Open] does. It logs to the connection's logger.
func OpenLeases(ctx context.Context, c *bus.Conn) (*Leases, error) {
	t, err := Open[leaseRecord](ctx, c, leaseBucket, Config{
		Logger:      c.Logger(),
		Description: "who leads, owns or sends",
		// A lease of a bucket that was lost must not be taken for one of the next: their revisions never meet.
		firstSeq: func() uint64 { return uint64(time.Now().UnixMicro()) },
		expiring: true,
	})
	if err != nil {
		return nil, err
	}
	return &Leases{t: t}, nil
}

// Acquire makes one attempt to get the lease key for owner, a name for people to read. ttl, 2 s to 1 h, is how long the
// lease outlives an owner who stopped renewing; all who want the same lease use the same ttl. Who holds it already is
// refused too, under whatever name.
//
// The error is a [KeyError]: a [HeldError] in its chain when somebody holds it, else why ctx ended. After the bucket was
// lost (a memory-only server that restarted, or somebody deleted it) nobody gets a lease before ttl has passed, since who
// had it then may still go by it; but where a process that opens the bucket for the first time makes it anew, it cannot know
// that there was one, and nobody waits. That a lease is free goes by the clock of the server that leads the bucket: clocks of
// servers have to agree to a twentieth of ttl.
func (l *Leases) Acquire(ctx context.Context, key, owner string, ttl time.Duration) (*Lease, error) {
	lease, err := l.acquire(ctx, key, owner, ttl)
	if err != nil {
		return nil, l.t.b.keyError("acquire", key, err)
	}
	return lease, nil
}

// Wait gets the lease as [Leases.Acquire] does, and waits until nobody holds it any more. It tries when it hears that the
// lease is free, and when it heard nothing for a ttl. What can be over without a change here it logs and waits out, too: a full
// store, or another error of JetStream. The error is why ctx ended, permission_denied, a bad argument, or that the
// connection is closed.
func (l *Leases) Wait(ctx context.Context, key, owner string, ttl time.Duration) (*Lease, error) {
	lease, err := l.wait(ctx, key, owner, ttl)
	if err != nil {
		return nil, l.t.b.keyError("wait for", key, cmp.Or(context.Cause(ctx), err))
	}
	return lease, nil
}

func (l *Leases) wait(ctx context.Context, key, owner string, ttl time.Duration) (*Lease, error) {
	fctx, cancel := context.WithCancel(ctx)
	free := make(chan bool)
	ended := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		ended <- l.t.b.follow(fctx, key, func(batch []record) {
			select {
			case free <- len(batch) == 0 || batch[len(batch)-1].deleted:
			case <-fctx.Done():
			}
		})
	})
	defer wg.Wait()
	defer cancel()

	timer := time.NewTimer(ttl)
	defer timer.Stop()
	warn := l.t.b.log.WarnContext // the first time, until somebody was seen to hold it
	for {
		try := true
		select {
		case err := <-ended:
			return nil, cmp.Or(err, context.Cause(ctx))
		case try = <-free:
		case <-timer.C: // a holder is heard of three times per ttl
		}
		next := ttl
		if try {
			lease, err := l.acquire(ctx, key, owner, ttl)
			held, ok := errors.AsType[*HeldError](err)
			switch {
			case ok:
				next, warn = cmp.Or(held.RetryAfter, ttl), l.t.b.log.WarnContext
			case passing(err) && ctx.Err() == nil:
				warn(ctx, "lease cannot be had yet", "key", key, "error", err)
				next, warn = attemptTimeout+pause(), l.t.b.log.DebugContext
			default:
				return lease, err
			}
		}
		timer.Reset(next)
	}
}

// Holder is who holds the lease key now, by the word of the bucket's leader. Nobody is [ErrNotFound].
func (l *Leases) Holder(ctx context.Context, key string) (Holder, error) {
	e, err := l.t.Get(ctx, key)
	if err != nil {
		return Holder{}, err
	}
	return holderOf(e), nil
}

// Follow calls f with who holds the leases that match pattern, all in one batch that may be empty, and then with each batch
// of changes, as [Table.Follow] does. Of a lease that nobody holds any more f hears a Holder without an owner. f hears
// renewals too: a holder it knows, with the same term.
func (l *Leases) Follow(ctx context.Context, pattern string, f func(batch []Holder)) error {
	return l.t.Follow(ctx, pattern, func(entries []Entry[leaseRecord]) {
		batch := make([]Holder, len(entries))
		for i, e := range entries {
			batch[i] = Holder{Key: e.Key}
			if !e.Deleted && e.Err == nil {
				batch[i] = holderOf(e)
			}
		}
		f(batch)
	})
}

func (l *Leases) acquire(ctx context.Context, key, owner string, ttl time.Duration) (*Lease, error) {
	switch {
	case ttl < minLease || ttl > maxLease:
		return nil, fmt.Errorf("ttl of %v: want %v to %v", ttl, minLease, maxLease)
	case owner == "" || len(owner) > maxOwner:
		return nil, fmt.Errorf("owner of %d characters: want 1 to %d", len(owner), maxOwner)
	}
	for {
		info, err := l.epoch(ctx, ttl)
		if err != nil {
			return nil, err
		}
		sent := time.Now()
		value := leaseRecord{Owner: owner, Epoch: info.Created.UnixNano()}
		rev, err := l.t.Create(ctx, key, value, TTL(ttl))
		if errors.Is(err, ErrExists) {
			holder, herr := l.Holder(ctx, key)
			if errors.Is(herr, ErrNotFound) {
				continue // gone meanwhile
			}
			if herr != nil {
				return nil, herr
			}
			return nil, &HeldError{Holder: holder}
		}
		if errors.Is(err, ErrConflict) {
			// Somebody else is about to get it; or nobody can, because the servers lack the quorum to replace one that has
			// run out.
			return nil, &HeldError{RetryAfter: min(ttl, attemptTimeout)}
		}
		if err != nil {
			return nil, err
		}
		lease := l.start(ctx, key, owner, ttl, Term{value.Epoch, rev}, sent)
		// The bucket may have been lost in between: then this is a term of neither. And the answer may have come late.
		if again, err := l.epoch(ctx, 0); err == nil && again.Created.Equal(info.Created) && lease.Valid() {
			return lease, nil
		}
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTimeout)
		err = lease.Release(rctx)
		cancel()
		if err = cmp.Or(context.Cause(ctx), err); err != nil {
			return nil, err
		}
	}
}

// epoch asks for the bucket's creation, and refuses when that was less than ttl ago for not the first time.
func (l *Leases) epoch(ctx context.Context, ttl time.Duration) (streamInfo, error) {
	var info streamInfo
	err := l.t.b.retry(ctx, func() (err error) {
		info, err = l.t.b.info(ctx)
		return err
	})
	if err != nil {
		return info, err
	}
	if left := ttl - info.Now.Sub(info.Created); left > 0 && info.Config.Metadata[metaRecreated] != "" {
		return info, &HeldError{RetryAfter: left}
	}
	return info, nil
}

func (l *Leases) start(ctx context.Context, key, owner string, ttl time.Duration, term Term, sent time.Time) *Lease {
	lease := &Lease{
		t:        l.t,
		key:      key,
		owner:    owner,
		ttl:      ttl,
		term:     term,
		lost:     make(chan struct{}),
		kept:     make(chan struct{}),
		rev:      term.Revision,
		deadline: sent.Add(ttl - margin(ttl)),
	}
	ctx, lease.cancel = context.WithCancel(context.WithoutCancel(ctx))
	lease.mu.Lock()
	lease.watchdog = time.AfterFunc(time.Until(lease.deadline), lease.expire)
	lease.mu.Unlock()
	go lease.keep(ctx)
	return lease
}
