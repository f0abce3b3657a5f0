package mirror

import (
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/leanhttp"
)

// Ack says whose answer a client gets. Whatever it says, the write reaches every backend.
type Ack string

// Policies for the answer to a client.
const (
	First   Ack = "first"   // the first that is 2xx or 3xx, else the one most backends gave
	Primary Ack = "primary" // that of one backend
	Quorum  Ack = "quorum"  // the first that is 2xx or 3xx once more than half of the backends have given one, else the one most gave
	All     Ack = "all"     // the first in priority order once all have answered; one that is not 2xx or 3xx if there is any
	Queued  Ack = "queued"  // none: 202 once the write is stored
)

// Acks are all policies.
func Acks() []Ack { return []Ack{First, Primary, Quorum, All, Queued} }

func (a Ack) check() error {
	if !slices.Contains(Acks(), a) {
		return bus.Errorf(bus.InvalidArgument, "mirror: ack: %.40q is none of first, primary, quorum, all and queued", a).With("field", "ack")
	}
	return nil
}

// AckRule is an exception from [Config].Ack, for writes with the method, if any, whose path is Path or, when that ends in a slash, lies below it.
type AckRule struct {
	Method string
	Path   string
	Ack    Ack
}

func (c Config) ackFor(method, path string) Ack {
	for _, r := range c.AckRules {
		if (r.Method == "" || r.Method == method) && (r.Path == "" || r.Path == path || strings.HasSuffix(r.Path, "/") && strings.HasPrefix(path, r.Path)) {
			return r.Ack
		}
	}
	return c.Ack
}

// answer is what a backend finally said to a write.
type answer struct {
	backend  string
	status   int // 0 when it never answered, and nobody waits for it any more
	fields   leanhttp.Header
	body     []byte
	tooLarge bool // the body was, and is left out
	hash     uint32
}

// ok tells whether the backend took the write.
func (a *answer) ok() bool { return a.status >= http.StatusOK && a.status < http.StatusBadRequest }

// outcome gathers the answers to a write for a client that waits.
type outcome struct {
	ack     Ack
	primary string   // for the policy of that name
	voters  []string // in priority order
	tell    func(*answer)
	room    *room // for bodies of answers that do not decide yet

	mu      sync.Mutex
	answers []*answer // in the order they came
	held    int64     // bytes of their bodies
	decided bool
}

// add takes an answer, and tells the client when it decides.
func (o *outcome) add(a *answer) {
	o.mu.Lock()
	if o.decided || !slices.Contains(o.voters, a.backend) || slices.ContainsFunc(o.answers, func(b *answer) bool { return b.backend == a.backend }) {
		o.mu.Unlock()
		return
	}
	o.answers = append(o.answers, a)
	chosen := o.decide()
	if chosen != nil {
		o.endLocked()
	} else {
		o.holdLocked(a)
	}
	o.mu.Unlock()
	if chosen != nil {
		o.tell(chosen)
	}
}

// holdLocked keeps the last answer, a, without its body where there is no room for that.
func (o *outcome) holdLocked(a *answer) {
	size := int64(len(a.body))
	if o.room.take(size) {
		o.held += size
		return
	}
	short := *a
	short.body, short.tooLarge = nil, true
	o.answers[len(o.answers)-1] = &short
}

// giveUp is called when nobody waits any more. The write itself may wait for a backend for long, and its answers with it.
func (o *outcome) giveUp() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.endLocked()
}

func (o *outcome) endLocked() {
	o.room.give(o.held)
	o.answers, o.held, o.decided = nil, 0, true
}

func (o *outcome) decide() *answer {
	taken := slices.IndexFunc(o.answers, (*answer).ok)
	complete := len(o.answers) == len(o.voters)
	switch o.ack {
	case First:
		if taken >= 0 {
			return o.answers[taken]
		}
	case Primary:
		if i := slices.IndexFunc(o.answers, func(a *answer) bool { return a.backend == o.primary }); i >= 0 {
			return o.answers[i]
		}
		return nil
	case Quorum:
		n := 0
		for _, a := range o.answers {
			if a.ok() {
				n++
			}
		}
		if n > len(o.voters)/2 {
			return o.answers[taken]
		}
		if refused := len(o.answers) - n; refused > len(o.voters)/2 {
			return o.most(func(a *answer) bool { return !a.ok() })
		}
	case All:
		if complete && slices.ContainsFunc(o.answers, func(a *answer) bool { return !a.ok() }) {
			return o.most(func(a *answer) bool { return !a.ok() })
		}
	case Queued:
		return nil
	}
	if complete {
		return o.most(func(*answer) bool { return true })
	}
	return nil
}

// most is, of the answers that count, one with the status most of them have; of several the one of the backend that comes first in priority order.
func (o *outcome) most(counts func(*answer) bool) *answer {
	n := map[int]int{}
	for _, a := range o.answers {
		if counts(a) {
			n[a.status]++
		}
	}
	var best *answer
	for _, name := range o.voters {
		for _, a := range o.answers {
			if a.backend == name && counts(a) && (best == nil || n[a.status] > n[best.status]) {
				best = a
			}
		}
	}
	return best
}
