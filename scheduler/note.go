package scheduler

import (
	"encoding/binary"
	"sync"
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

// noteAhead is how long before a timer is due its note has all of it: a little longer than owners look ahead.
const noteAhead = nearTime + time.Second

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

// notes are those of a CreateMany on their way: some at a time cost the servers less than each by itself.
type notes struct {
	s *Scheduler

	mu    sync.Mutex
	of    map[*shard]*notesOf
	timer *time.Timer // nil while there are none
}

type notesOf struct {
	data []byte
	n    int
}

const (
	notesMost  = 64
	notesBytes = 16 << 10
	notesWait  = 2 * time.Millisecond // the loop that CreateMany yields to may take its time
)

// add sends a note: at once where the timer is due soon.
func (b *notes) add(sh *shard, n note) {
	if n.body != nil {
		b.s.note(sh, n)
		return
	}
	var full []byte
	b.mu.Lock()
	m := b.of[sh]
	if m == nil {
		m = &notesOf{}
		b.of[sh] = m
	}
	m.data, m.n = n.append(m.data), m.n+1
	if m.n == notesMost || len(m.data) > notesBytes {
		full, *m = m.data, notesOf{}
	}
	if b.timer == nil {
		b.timer = time.AfterFunc(notesWait, b.flush)
	}
	b.mu.Unlock()
	if full != nil {
		b.s.publishNotes(sh, full)
	}
}

// flush sends what there is.
func (b *notes) flush() {
	b.mu.Lock()
	of := b.of
	b.of = map[*shard]*notesOf{}
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	b.mu.Unlock()
	for sh, m := range of {
		if m.n > 0 {
			b.s.publishNotes(sh, m.data)
		}
	}
}

// note tells the shard's owner of what was stored. That it is not heard is no failure: see [note].
func (s *Scheduler) note(sh *shard, n note) {
	s.publishNotes(sh, n.append(make([]byte, 0, 64+len(n.body))))
}

func (s *Scheduler) publishNotes(sh *shard, data []byte) {
	if err := s.conn.NATS().Publish(sh.feed(), data); err != nil {
		s.log.Debug("owner of a shard not told of timers", "shard", sh.shard, "error", err)
	}
}
