package scheduler

import (
	"strconv"
	"strings"

	"github.com/skybus-io/skybus/bus"
)

// Kinds of messages in a shard's stream, a token of their subjects.
const (
	kindPending = "s" // the timer itself: a native schedule, or a plain message while it is paused
	kindDue     = "f" // an occurrence to be delivered
	kindRetry   = "r" // one to be tried again: a native schedule
)

const (
	streamPrefix  = "SKYBUS_TMR_"
	subjectPrefix = "skybus.tmr."
	feedPrefix    = "skybus.tmrn." // where owners are told of stored timers
)

// StreamName is the name of the stream that holds a shard.
func streamName(shard int) string { return streamPrefix + strconv.Itoa(shard) }

// shardOf is the shard that holds the timer of a name: FNV-1a, as in hash/fnv.
func shardOf(namespace, id string, shards int) int {
	h := uint64(14695981039346656037)
	for _, part := range [...]string{namespace, ".", id} {
		for i := range len(part) {
			h = (h ^ uint64(part[i])) * 1099511628211
		}
	}
	return int(h % uint64(shards))
}

// space is the subjects of one shard and namespace.
type space struct {
	shard      int
	ns         bus.Namespace
	namespace  string // ns
	head, tail string // of subjects: what is before the kind, and between it and the id
}

func newSpace(shard int, ns bus.Namespace) space {
	return space{shard, ns, ns.String(), subjectPrefix + strconv.Itoa(shard) + ".", "." + ns.String() + "."}
}

func (s space) subject(kind, id string) string { return s.head + kind + s.tail + id }

// name is what a timer is called in all of the account.
func (s space) name(id string) string { return s.namespace + "." + id }

// all matches every message of the kind; the retries have one token more.
func (s space) all(kind string) string { return s.subject(kind, ">") }

// retry is where one delivery waits to be tried again. Several of a timer may at the same time.
func (s space) retry(id, delivery string) string { return s.subject(kindRetry, id) + "." + delivery }

// overdue is where the server tells that a recurring timer was not fired in time. It is among what is due, so that workers hear it.
func (s space) overdue(id string) string { return s.subject(kindDue, id) + ".overdue" }

// isHint tells whether a subject is that of an overdue hint and not of a delivery.
func isHint(subject string) bool {
	return kindOf(subject) == kindDue && strings.HasSuffix(subject, ".overdue")
}

// feed is where the owner hears of pending timers stored.
func (s space) feed() string { return feedPrefix + strconv.Itoa(s.shard) + "." + s.namespace }

// elected is where the servers tell that the shard has a leader, perhaps another one.
func (s space) elected() string {
	return "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED." + streamName(s.shard)
}

// idOf is the timer's id in any subject of this package.
func idOf(subject string) string {
	tokens := strings.SplitN(subject, ".", 8)
	if len(tokens) < 7 {
		return ""
	}
	return tokens[6]
}

// kindOf is the kind of message that any subject of this package is for.
func kindOf(subject string) string {
	tokens := strings.SplitN(subject, ".", 5)
	if len(tokens) < 5 {
		return ""
	}
	return tokens[3]
}
