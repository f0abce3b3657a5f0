package balance

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// What is known of instances and of sets of them stays bounded while they come and go.
func TestTablesStayBounded(t *testing.T) {
	t.Parallel()
	r := &roundRobin{}
	for n := range 3 * mostTurns {
		r.begin(turnKey{endpoint: fmt.Sprint(n), n: 3})
	}
	if n := len(*r.turns.entries.Load()); n != mostTurns {
		t.Errorf("round robin knows %d sets, want %d", n, mostTurns)
	}
	synctest.Test(t, func(t *testing.T) {
		q := &bestQuality{begin: time.Now()}
		busy := q.meet(peerKey{instance: "busy"}, 0)
		busy.inFlight.Add(1)
		for n := range 100 {
			q.meet(peerKey{instance: fmt.Sprint(n)}, 0)
		}
		time.Sleep(forgetAfter + time.Second)
		q.meet(peerKey{instance: "new"}, 0)
		if n := len(*q.peers.entries.Load()); n != 2 {
			t.Errorf("best quality knows %d instances, want the busy one and the new one", n)
		}
		if q.meet(peerKey{instance: "busy"}, 0) != busy {
			t.Error("the busy one is met twice")
		}
	})
}
