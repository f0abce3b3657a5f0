package scheduler

import (
	"context"
	"iter"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// DeadLetter is a delivery that was given up.
type DeadLetter struct {
	ID       string // [Delivery.ID]
	Timer    Timer  // as it was; its Attempts are all that were made, up to MaxAttempts
	Died     time.Time
	Error    string // why it was given up
	Code     bus.Code
	Attempts int
}

// DeadLetters are the deliveries of a namespace that were given up.
type DeadLetters struct{ s *Scheduler }

// DeadLetters are those of the scheduler's namespace.
func (s *Scheduler) DeadLetters() *DeadLetters { return &DeadLetters{s} }

// List is the letters, oldest first.
func (d *DeadLetters) List(ctx context.Context, f DeadFilter) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		yield(DeadLetter{}, bus.Errorf(bus.Unimplemented, "scheduler: dead letters"))
	}
}

// DeadFilter chooses letters. The zero value chooses all.
type DeadFilter struct {
	TimerID string // of one timer
	Prefix  string // of timer ids
	After   string // an ID: those that died after it
}

// Get is one letter.
func (d *DeadLetters) Get(ctx context.Context, id string) (DeadLetter, error) {
	return DeadLetter{}, bus.Errorf(bus.Unimplemented, "scheduler: dead letters")
}

// Redrive delivers a letter once more, with new attempts and the same Delivery.ID, and removes it.
func (d *DeadLetters) Redrive(ctx context.Context, id string) error {
	return bus.Errorf(bus.Unimplemented, "scheduler: dead letters")
}

// Remove forgets a letter.
func (d *DeadLetters) Remove(ctx context.Context, id string) error {
	return bus.Errorf(bus.Unimplemented, "scheduler: dead letters")
}
