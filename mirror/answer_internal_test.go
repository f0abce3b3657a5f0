package mirror

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

// Answers wait for those of others no longer than a client does, and without their bodies where too many wait.
func TestOutcomesHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var all outcomes
		all.open(10 * time.Second)
		all.room.limit = 100
		told := map[uint64]*answer{}
		of := func(seq uint64) *outcome {
			return all.of(seq, func() *outcome {
				return &outcome{ack: All, voters: []string{"a", "b"}, room: &all.room, tell: func(a *answer) {
					all.forget(seq)
					told[seq] = a
				}}
			})
		}
		body := bytes.Repeat([]byte("x"), 60)
		one, two := of(1), of(2)
		one.add(&answer{backend: "a", status: 200, body: body})
		two.add(&answer{backend: "a", status: 200, body: body})
		if n := all.room.used.Load(); n != 60 {
			t.Errorf("%d bytes are held, want those of one", n)
		}
		two.add(&answer{backend: "b", status: 200, body: body})
		if a := told[2]; a == nil || a.backend != "a" || !a.tooLarge || a.body != nil {
			t.Errorf("told %+v", told[2])
		}
		time.Sleep(11 * time.Second) // fake time: nobody waits any more
		all.sweep()
		if n := all.room.used.Load(); n != 0 || len(all.all) != 0 || one.answers != nil {
			t.Errorf("%d bytes of %d outcomes are held", n, len(all.all))
		}
		one.add(&answer{backend: "b", status: 200, body: body}) // when it is back
		if n := all.room.used.Load(); n != 0 || told[1] != nil {
			t.Errorf("%d bytes are held, told %+v", n, told[1])
		}
	})
}
