package scheduler

import (
	"encoding/binary"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// note tells the owner of a shard what was stored at the pending subject of a timer. Whoever stored it publishes the note, once, when the
// server has acknowledged it. An owner that does not get one finds the timer when it next reads the shard; until then the
// server fires it, a grace late.
type note struct {
	id   string
	seq  uint64
	due  int64
	gone bool   // or paused
	body []byte // nil where it is due later than soon, and then the owner reads it itself
}

// noteAhead is how long before a timer is due its note has all of it: longer than owners look ahead.
const noteAhead = 2 * nearTime

// What a note says.
const (
	noteGone = iota
	noteLater
	noteWhole
)

// noteOf is the note of a message, by what time it is.
func noteOf(id string, seq uint64, body []byte, now time.Time) note {
	b, err := readBrief(body)
	n := note{id: id, seq: seq, due: b.due, gone: err != nil || b.paused}
	if !n.gone && b.due < now.Add(noteAhead).UnixNano() {
		n.body = body
	}
	return n
}

// append adds the note to a message of notes: what it says, 1 byte; the sequence, uvarint; the id, and the time due of 8 bytes or the body,
// with their lengths as uvarints.
func (n *note) append(b []byte) []byte {
	kind := byte(noteLater)
	switch {
	case n.gone:
		kind = noteGone
	case n.body != nil:
		kind = noteWhole
	}
	b = binary.AppendUvarint(append(b, kind), n.seq)
	b = appendText(b, n.id)
	switch kind {
	case noteLater:
		b = binary.BigEndian.AppendUint64(b, uint64(n.due))
	case noteWhole:
		b = append(binary.AppendUvarint(b, uint64(len(n.body))), n.body...)
	}
	return b
}

// readNotes calls f with the notes of a message, as long as they can be read.
func readNotes(data []byte, f func(note)) {
	d := decoder{rest: string(data)}
	for d.rest != "" {
		kind := d.rest[0]
		d.rest = d.rest[1:]
		n := note{seq: d.uvarint(), id: d.text(), gone: kind == noteGone}
		switch kind {
		case noteGone:
		case noteLater:
			n.due = int64(d.fixed())
		case noteWhole:
			n.body = []byte(d.text())
			b, err := readBrief(n.body)
			n.due, d.bad = b.due, d.bad || err != nil || b.paused
		default:
			return
		}
		if d.bad || bus.CheckToken("id", n.id) != nil { // the id becomes part of a subject
			return
		}
		f(n)
	}
}

// noteStored tells of a message, if it is at a pending subject.
func (s *Scheduler) noteStored(sh *shard, msg *nats.Msg, seq uint64) {
	if kindOf(msg.Subject) == kindPending {
		s.note(sh, noteOf(idOf(msg.Subject), seq, msg.Data, sh.clock.at(time.Now())))
	}
}

// note tells the shard's owner of what was stored. That it is not heard is no failure: see [note].
func (s *Scheduler) note(sh *shard, n note) {
	if err := s.conn.NATS().Publish(sh.feed(), n.append(make([]byte, 0, 64+len(n.body)))); err != nil {
		s.log.Debug("owner of a shard not told of a timer", "timer", n.id, "error", err)
	}
}
