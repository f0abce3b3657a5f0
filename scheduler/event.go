package scheduler

import (
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"

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
	Time       time.Time `json:"time"`
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
	body, err := json.Marshal(e)
	if err != nil {
		s.log.Error("event not encoded", "timer", e.ID, "error", err)
		return
	}
	if err := s.conn.Publish(&nats.Msg{Subject: eventSubject(s.conn.Namespace(), string(e.Kind), e.ID), Data: body}); err != nil {
		s.log.Debug("event not told", "timer", e.ID, "event", e.Kind, "error", err)
	}
}

func eventSubject(ns bus.Namespace, kind, id string) string {
	return ns.String() + ".ev.timer." + kind + "." + id
}
