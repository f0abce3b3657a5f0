package scheduler

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// Headers of messages in a shard's stream, and of dead letters.
const (
	headerTimer    = "Skybus-Timer"    // of dead letters: the record, JSON, so that people can read it
	headerDue      = "Skybus-Due-Ns"   // of dead letters: Unix nanoseconds, jitter included
	headerFired    = "Skybus-Fired-Ns" // the same; absent where the server fired
	headerAttempts = "Skybus-Attempts" // what was tried so far, JSON: on retries
	headerDefers   = "Skybus-Defers"   // how often in a row it was put off without an attempt: on retries

	// NATS's own, ADR-51 and ADR-8.
	headerSchedule       = "Nats-Schedule"
	headerScheduleTarget = "Nats-Schedule-Target"
	headerScheduleRollup = "Nats-Schedule-Rollup"
	headerScheduleNext   = "Nats-Schedule-Next"
	headerScheduler      = "Nats-Scheduler"
	headerRollup         = "Nats-Rollup"
	headerTTL            = "Nats-TTL"
	headerExpectSeq      = "Nats-Expected-Last-Subject-Sequence"
	headerExpectSubject  = "Nats-Expected-Last-Subject-Sequence-Subject"
	headerNumPending     = "Nats-Num-Pending" // of answers to a direct get
)

// record is all of a timer but its id, time due and payload. It goes along with every message of the timer, see [record.encode].
type record struct {
	name string // of the timer in all of the account: the namespace, a dot, and its id. Dead letters have it in their subjects
	// Gen tells this life of the id from others: the id may be given again once the timer is gone. It is also what a creation whose
	// answer was lost is recognised by.
	Gen string `json:"g"`
	// N is the number of the occurrence, from 1.
	N int64 `json:"n"`
	// Manual makes the delivery of an occurrence fired by hand, beside the schedule, another one than that of the schedule.
	Manual      string            `json:"m,omitempty"`
	Created     int64             `json:"c"`           // Unix nanoseconds
	Nominal     int64             `json:"d,omitempty"` // of recurring timers: when the occurrence is due without its jitter
	Target      Target            `json:"t"`
	ContentType string            `json:"y,omitempty"`
	Header      map[string]string `json:"h,omitempty"`
	Retry       Retry             `json:"r,omitzero"`
	Repeat      *Repeat           `json:"p,omitempty"`
	Labels      map[string]string `json:"l,omitempty"`
	Key         string            `json:"k,omitempty"`
	Paused      bool              `json:"z,omitempty"`
}

// text is the record as a header holds it.
func (r *record) text() (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // else a URL could take six times its length
	if err := e.Encode(r); err != nil {
		return "", fmt.Errorf("scheduler: encode timer: %w", err)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// delivery is what all attempts of the occurrence have in common: a token of at most 128 characters.
func (r *record) delivery(id string) string {
	n := strconv.FormatInt(r.N, 10)
	if r.Manual != "" {
		n = r.Manual
	}
	return id + "-" + r.Gen + "-" + n
}

// stored is a message of a timer as it was read.
type stored struct {
	id      string
	kind    string // of its subject
	subject string
	seq     uint64
	at      time.Time // when it was stored
	due     int64
	grace   time.Duration
	fired   int64 // 0 where nobody said
	record  record
	header  nats.Header
	body    []byte
	payload []byte // of the body
}

// readStored reads a message of a shard's stream.
func readStored(subject string, seq uint64, at time.Time, h nats.Header, body []byte) (*stored, error) {
	m := &stored{subject: subject, seq: seq, at: at, header: h, body: body, id: idOf(subject), kind: kindOf(subject)}
	var err error
	if m.due, m.grace, m.payload, err = m.record.decode(body); err == nil {
		err = m.readFired()
	}
	if err != nil {
		return nil, fmt.Errorf("scheduler: message %d at %q: %w", seq, subject, err)
	}
	return m, nil
}

// readDead reads a message of a shard's stream as a dead letter has it.
func readDead(seq uint64, at time.Time, h nats.Header, payload []byte) (*stored, error) {
	subject := first(h, headerDeadSubject)
	m := &stored{subject: subject, seq: seq, at: at, header: h, payload: payload, id: idOf(subject), kind: kindOf(subject)}
	var err error
	if m.due, err = parseInt(first(h, headerDue)); err != nil {
		return nil, fmt.Errorf("scheduler: message %d at %q: header %s: %w", seq, subject, headerDue, err)
	}
	if err := json.Unmarshal([]byte(first(h, headerTimer)), &m.record); err != nil {
		return nil, fmt.Errorf("scheduler: message %d at %q: header %s: %w", seq, subject, headerTimer, err)
	}
	if err := m.readFired(); err != nil {
		return nil, fmt.Errorf("scheduler: message %d at %q: %w", seq, subject, err)
	}
	return m, nil
}

func (m *stored) readFired() (err error) {
	if fired := first(m.header, headerFired); fired != "" {
		if m.fired, err = parseInt(fired); err != nil {
			return fmt.Errorf("header %s: %w", headerFired, err)
		}
	}
	return nil
}

// overdue is when the server fires a timer that fires once: as it was told by whoever stored it, whose grace may be another.
func (m *stored) overdue() time.Time { return overdueAt(m.due, m.grace) }

func first(h nats.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// pendingMessage is the timer as it is stored: a native schedule that the server fires by itself, a grace after the time due, should
// nobody else; for recurring timers one that only tells workers, at whole seconds, that it is overdue. A paused timer is no schedule.
// expect is the sequence of the message it takes the place of, 0 for none.
func (s space) pendingMessage(id string, due int64, r *record, payload []byte, grace time.Duration, now time.Time, expect uint64) (*nats.Msg, error) {
	body, err := r.encode(due, grace, payload)
	if err != nil {
		return nil, err
	}
	values := [...]string{"sub", itoa(expect), "", ""} // at once, for there are many
	h := make(nats.Header, len(values)+1)
	h[headerRollup] = values[:1:1] // the server would add it
	h[headerExpectSeq] = values[1:2:2]
	overdue := overdueAt(due, grace)
	switch {
	case r.Paused:
	case r.Repeat != nil:
		// Repeating, so that the record stays where it is: only who fires by compare-and-set may replace it.
		wait := max(overdue.Sub(now), 0).Truncate(time.Second) + time.Second
		h[headerSchedule] = []string{"@every " + wait.String()}
		h[headerScheduleTarget] = []string{s.overdue(id)}
		h[headerScheduleRollup] = []string{"sub"}
	default:
		values[2] = string(overdue.AppendFormat(append(make([]byte, 0, 40), "@at "...), time.RFC3339Nano))
		values[3] = s.subject(kindDue, id)
		h[headerSchedule], h[headerScheduleTarget] = values[2:3:3], values[3:4:4]
	}
	return &nats.Msg{Subject: s.subject(kindPending, id), Header: h, Data: body}, nil
}

// dueMessage fires m: stored only while m is the last message of its subject.
// For a timer that fires once it removes m in the same step. For a recurring or paused one m stays until it is replaced, and a repeat of
// this message within two minutes is recognised by its id.
func (s space) dueMessage(m *stored, fired time.Time) *nats.Msg {
	h := nats.Header{
		headerFired:         {strconv.FormatInt(fired.UnixNano(), 10)},
		headerExpectSeq:     {strconv.FormatUint(m.seq, 10)},
		headerExpectSubject: {m.subject},
	}
	if m.record.Repeat == nil && !m.record.Paused {
		h[headerScheduleNext], h[headerScheduler] = []string{"purge"}, []string{m.subject}
	} else {
		h[nats.MsgIdHdr] = []string{m.record.delivery(m.id)}
	}
	return &nats.Msg{Subject: s.subject(kindDue, m.id), Header: h, Data: m.body}
}

// cancelMessage takes the place of the pending timer m, if that is the last message of its subject, and is gone itself after a
// second. Without a body it is no timer: see [isGone].
func (s space) cancelMessage(m *stored) *nats.Msg {
	return &nats.Msg{Subject: m.subject, Header: nats.Header{
		headerRollup:    {"sub"},
		headerTTL:       {"1s"},
		headerExpectSeq: {strconv.FormatUint(m.seq, 10)},
	}}
}

// isGone tells whether a message is what a cancel left behind.
func isGone(m *nats.Msg) bool { return len(m.Data) == 0 }

// checkHeaderValue finds what would break a header.
func checkHeaderValue(field, value string) error {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return bus.Errorf(bus.InvalidArgument, "%s has a control character at %d", field, i)
		}
	}
	return nil
}

// manualMessage fires m by hand at now: a timer that fires once is gone with it, a recurring one goes on.
func (s space) manualMessage(m *stored, manual string, now time.Time) (*nats.Msg, error) {
	if m.record.Repeat == nil {
		return s.dueMessage(m, now), nil
	}
	r := m.record
	r.Manual = manual
	body, err := r.encode(now.UnixNano(), m.grace, m.payload)
	if err != nil {
		return nil, err
	}
	return &nats.Msg{Subject: s.subject(kindDue, m.id), Data: body, Header: nats.Header{
		headerFired:     {strconv.FormatInt(now.UnixNano(), 10)},
		headerExpectSeq: {itoa(m.seq)}, headerExpectSubject: {m.subject},
		nats.MsgIdHdr: {r.delivery(m.id)},
	}}, nil
}

// reason is the detail of that name of an error.
func reason(err error) string {
	if e := bus.AsError(err); e != nil {
		return e.Details["reason"]
	}
	return ""
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }
