package scheduler

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// EventKind is what happened to a timer.
type EventKind string

// The events. They are told at once, on the subject <app>.<env>.ev.timer.<kind>.<id>, to whoever listens then, and kept nowhere.
const (
	Created   EventKind = "created"
	Updated   EventKind = "updated" // also by Pause and Resume
	Fired     EventKind = "fired"
	Delivered EventKind = "delivered"
	Retried   EventKind = "retried" // an attempt failed, another one will be made
	Failed    EventKind = "failed"  // an attempt failed
	DeadEvent EventKind = "dead"    // given up
	Cancelled EventKind = "cancelled"
	Skipped   EventKind = "skipped" // an occurrence did not happen: Repeat.Overlap or Repeat.Missed
)

// Event is one thing that happened to a timer.
type Event struct {
	Kind       EventKind `json:"kind"`
	ID         string    `json:"id"`
	Time       time.Time `json:"time"` // by the server's clock, as Due is
	Due        time.Time `json:"due,omitzero"`
	Occurrence int64     `json:"occurrence,omitempty"`
	Delivery   string    `json:"delivery,omitempty"` // [Delivery.ID]
	Count      int64     `json:"count,omitempty"`    // of occurrences that were skipped
	Attempt    int       `json:"attempt,omitempty"`
	Status     int       `json:"status,omitempty"`
	Code       bus.Code  `json:"code,omitempty"`
	Error      string    `json:"error,omitempty"`
	Next       time.Time `json:"next,omitzero"` // when it fires or is tried next
}

// tell publishes an event. That nobody hears it, or that it may not be published, is no failure of what it tells of.
func (s *Scheduler) tell(e Event) {
	body, err := e.encode()
	if err != nil {
		s.log.Error("event not encoded", "timer", e.ID, "error", err)
		return
	}
	if err := s.conn.NATS().Publish(s.shards[0].namespace+eventInfix+string(e.Kind)+"."+e.ID, body); err != nil {
		s.log.Debug("event not told", "timer", e.ID, "event", e.Kind, "error", err)
	}
}

// encode is the event as encoding/json has it, at a fifth of the price where nothing failed: each creation and each fire is told of.
func (e *Event) encode() ([]byte, error) {
	if e.Status != 0 || e.Code != "" || e.Error != "" || e.Count != 0 {
		return json.Marshal(e)
	}
	const usual = 256 // bytes at most, where ids are not long
	b := append(make([]byte, 0, usual), `{"kind":"`...)
	b = append(append(append(b, e.Kind...), `","id":"`...), e.ID...)
	b = e.Time.AppendFormat(append(b, `","time":"`...), time.RFC3339Nano)
	if !e.Due.IsZero() {
		b = e.Due.AppendFormat(append(b, `","due":"`...), time.RFC3339Nano)
	}
	b = append(b, '"')
	if e.Occurrence != 0 {
		b = strconv.AppendInt(append(b, `,"occurrence":`...), e.Occurrence, 10)
	}
	if e.Delivery != "" {
		b = append(append(append(b, `,"delivery":"`...), e.Delivery...), '"')
	}
	if e.Attempt != 0 {
		b = strconv.AppendInt(append(b, `,"attempt":`...), int64(e.Attempt), 10)
	}
	if !e.Next.IsZero() {
		b = append(e.Next.AppendFormat(append(b, `,"next":"`...), time.RFC3339Nano), '"')
	}
	return append(b, '}'), nil
}

const eventInfix = ".ev.timer."

func eventSubject(ns bus.Namespace, kind, id string) string {
	return ns.String() + eventInfix + kind + "." + id
}
