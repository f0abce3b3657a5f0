package mirror_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/mirror"
)

// Those who try a parked write again at the same time are all told what the backend said. Where three servers store its answers there is a moment in which they
// cannot tell whose was first.
func TestRetriesAtTheSameTime(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	node := bustest.Cluster(t, 3).Node(0)
	r := &rig{node: node, conn: connect(t, node), backends: []*backend{newBackend(t), newBackend(t)}}
	r.backends[0].setRefuse(refuseWith(http.StatusConflict, "/odd"))
	m := r.open(t, mirror.Config{Ack: mirror.All})
	run(t, m)
	front := serve(t, m)
	seq := put(t, front.URL+"/odd", "x")
	want := fmt.Sprintf("a %d 409 taken", seq)
	eventually(t, "it is parked", func() bool {
		got := parked(t, m, mirror.ParkedFilter{})
		return len(got) == 1 && got[0] == want
	})
	for range 10 {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := m.Parked().Retry(t.Context(), "a", seq); bus.CodeOf(err) != bus.FailedPrecondition {
					t.Errorf("%v, want that the backend refuses it", err)
				}
			})
		}
		all.Wait()
	}
	if got := parked(t, m, mirror.ParkedFilter{}); len(got) != 1 || got[0] != want {
		t.Errorf("parked %q, want %q", got, want)
	}
}
