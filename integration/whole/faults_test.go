//go:build unix

package whole_test

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// The kinds of faults.
const (
	killed    = "kill"    // kill -9, and started again
	frozen    = "freeze"  // SIGSTOP, and SIGCONT
	restarted = "restart" // SIGTERM, and started again
)

// stopLimit is how long a process may take to end when it is asked to: the longest drain is 10 s, and 1.5 s is given to what is left.
const stopLimit = 15 * time.Second

// injection is one fault of a schedule, which depends on the seed alone.
type injection struct {
	kind  string
	of    string        // the kind of process
	place int           // which of them, counted round
	pause time.Duration // since the fault before was over
	hold  time.Duration // how long it is frozen, or away
}

func (f injection) String() string {
	return fmt.Sprintf("after %v %s of %s %d for %v", f.pause, f.kind, f.of, f.place, f.hold)
}

// schedule is a number of faults. Each kind of process has its turn before any has another, and so has each kind of fault for it.
type schedule struct {
	rnd   *rand.Rand
	short bool
	deck  []string            // kinds of processes whose turn it is
	kinds map[string][]string // of faults, whose turn it is, by kind of process
}

// newSchedule is for the faults of the short form, or those of longer ones.
func newSchedule(seed uint64, short bool) *schedule {
	return &schedule{rnd: rand.New(rand.NewPCG(seed, 1)), short: short, kinds: map[string][]string{}} //nolint:gosec // for tests
}

// faults are those that begin in so long a time, or in the short form one for each kind of process.
func (s *schedule) faults(during time.Duration) []injection {
	var all []injection
	for took := time.Duration(0); s.short && len(all) < len(processKinds()) || !s.short && took < during; {
		f := s.next()
		all = append(all, f)
		took += f.pause + f.hold
	}
	return all
}

func processKinds() []string {
	return []string{serverKind, gatewayKind, routerKind, schedulerKind, mirrorKind, filesKind, serviceKind, backendRole, receiverRole}
}

func (s *schedule) next() injection {
	if len(s.deck) == 0 {
		s.deck = s.shuffled(processKinds())
	}
	f := injection{of: s.deck[0], place: s.rnd.IntN(60)}
	s.deck = s.deck[1:]
	kinds := s.kinds[f.of]
	if len(kinds) == 0 {
		kinds = s.shuffled([]string{killed, frozen, restarted})
	}
	f.kind, s.kinds[f.of] = kinds[0], kinds[1:]
	f.pause, f.hold = s.between(3000, 6000), s.between(0, 3000)
	if s.short {
		f.pause, f.hold = s.between(500, 1500), s.between(0, 1500)
	}
	switch {
	case f.of == serviceKind && f.kind == frozen:
		f.hold = serviceTTL + time.Second + s.between(1500, 3000)
	case f.of == serverKind && f.kind == killed:
		f.hold = s.between(3000, 8000)
	case f.kind == frozen:
		f.hold += s.between(2000, 5000)
	}
	return f
}

func (s *schedule) shuffled(words []string) []string {
	s.rnd.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
	return words
}

// between is a time in milliseconds.
func (s *schedule) between(least, most int) time.Duration {
	return time.Duration(least+s.rnd.IntN(most-least)) * time.Millisecond
}
