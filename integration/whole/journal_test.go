//go:build unix

package whole_test

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// kind is what a client asked for.
type kind string

const (
	called   kind = "call"         // HTTP through a gateway to the route
	once     kind = "call once"    // the same with an Idempotency-Key
	routed   kind = "call routed"  // by the SDK through a router
	later    kind = "call later"   // answered later: Prefer: respond-async
	created  kind = "timer create" //
	moved    kind = "timer move"   //
	canceled kind = "timer cancel" //
	written  kind = "write"        // through a mirror
	read     kind = "read"         // through a mirror, with Skybus-Min-Seq
	dropped  kind = "file"         // of records, put into place
	edited   kind = "config"       // a value of the configuration
	rerouted kind = "route"        // the route was edited
)

// kinds are all of them, in the order of tables.
func kinds() []kind {
	return []kind{called, once, routed, later, created, moved, canceled, written, read, dropped, edited, rerouted}
}

// outcome is what a client was told.
type outcome int

const (
	acked   outcome = iota // it has happened
	refused                // it has not: it was too late for it
	failed                 // nobody knows, or it could not be
)

// operation is what a client asked for, with all its tries.
type operation struct {
	kind    kind
	id      string // unique in the run
	outcome outcome
	begin   time.Time
	end     time.Time
	tries   int    // 1 means that the first was answered
	err     string // of the last try, where it failed, or was refused

	timer   string        // of created, moved, canceled
	after   time.Duration // of created, moved: when it is due, from begin on
	due     time.Time     // the same as it was answered, if it was
	step    bool          // of created: by a step of the route
	path    string        // of written, read
	add     bool          // of written, read: at this path writes add a line
	number  uint64        // of written, where it was answered: Skybus-Seq; of read: the least that was asked for
	lane    int           // with number
	body    string        // of read: what came; of called, once, routed, and of created by a step: the same; of edited: the value
	records int           // of dropped
}

// fault is something done to a process.
type fault struct {
	kind   string
	target string
	begin  time.Time // before it was done
	end    time.Time // when the process was itself again: it ran, or was ready
}

// froze tells whether the target stood still and is a child of that name.
func (f fault) froze(child string) bool { return f.kind == frozen && f.target == child }

// outage tells whether clients may fail meanwhile: a server of the cluster was away, or all that there is.
func (f fault) outage() bool { return strings.HasPrefix(f.target, "server") || f.target == "all" }

// journal is what all clients of a run were told, and when which fault was.
type journal struct {
	mu     sync.Mutex
	ops    []operation
	faults []fault
	last   map[kind]time.Time // begin of the last that succeeded
}

var _ witness = (*journal)(nil)

func newJournal() *journal { return &journal{last: map[kind]time.Time{}} }

// add notes what a client was told.
func (j *journal) add(o operation) {
	if o.end.IsZero() {
		o.end = time.Now()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ops = append(j.ops, o)
	if o.outcome == acked {
		if o.begin.After(j.last[o.kind]) {
			j.last[o.kind] = o.begin
		}
	}
}

// fault notes that something was done to a process, when it is over. The kind "freeze" means that it stood still from begin to end. Of
// targets that begin with "server", and of "all", clients may notice more than of others.
func (j *journal) fault(kind, target string, begin, end time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.faults = append(j.faults, fault{kind, target, begin, end})
}

// idle is what has not succeeded since a time, when it was asked for after that.
func (j *journal) idle(since time.Time) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var idle []string
	for _, k := range kinds() {
		if k != rerouted && !j.last[k].After(since) {
			idle = append(idle, string(k))
		}
	}
	return idle
}

// snapshot is all of it, operations in the order of their ends.
func (j *journal) snapshot() ([]operation, []fault) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.ops), slices.Clone(j.faults)
}
