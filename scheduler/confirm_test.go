package scheduler_test

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler"
)

// A server that stood still while another one was elected may answer once more as the leader it was. Who changes a timer that it has never
// heard of is not told that there is none.
func TestFormerLeaderAnswers(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	const n = 60
	nodes := bustest.Cluster(t, 3)
	first := &rig{nodes.Node(0), connect(t, nodes.Node(0))}
	first.open(t, scheduler.Config{Shards: 1})
	away := nodes.Node((nodes.Leader(t, "SKYBUS_TMR_0") + 1) % 3) // what it asks the leader takes longer than what it is told here
	r := &rig{away, connect(t, away)}
	s := r.open(t, scheduler.Config{})
	var stale atomic.Int32
	answerAsFormerLeader(t, away, &stale)

	changes := map[string]func(id string) error{
		"cancel": func(id string) error { return s.Cancel(t.Context(), id, 0) },
		"update": func(id string) error {
			_, err := s.Update(t.Context(), id, 0, scheduler.Spec{After: 2 * time.Hour, Target: target()})
			return err
		},
		"pause": func(id string) error { _, err := s.Pause(t.Context(), id, 0); return err },
		"fire":  func(id string) error { _, err := s.FireNow(t.Context(), id, 0); return err },
	}
	for name, change := range changes {
		for i := range n / len(changes) {
			id := fmt.Sprintf("%s-%d", name, i)
			create(t, s, scheduler.Spec{ID: id, After: time.Hour})
			if err := change(id); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		}
	}
	bustest.Eventually(t, "the former leader answered for each timer", func() bool { return stale.Load() >= n })
	for _, change := range changes { // what is not there is still told so
		wantCode(t, change("nobody-made-this"), bus.NotFound)
	}
}

// answerAsFormerLeader answers the first time that the shard's leader is asked for a timer, as one that has never heard of it.
func answerAsFormerLeader(t *testing.T, node *bustest.Node, answered *atomic.Int32) {
	t.Helper()
	nc := node.Connect(t)
	asked := map[string]bool{}
	_, err := nc.Subscribe("$JS.API.STREAM.MSG.GET.SKYBUS_TMR_0", func(m *nats.Msg) {
		var req struct {
			Last string `json:"last_by_subj"`
		}
		if json.Unmarshal(m.Data, &req) != nil || req.Last == "" || asked[req.Last] {
			return
		}
		asked[req.Last] = true
		answered.Add(1)
		_ = m.Respond([]byte(`{"type":"io.nats.jetstream.api.v1.stream_msg_get_response","error":{"code":404,"err_code":10037,"description":"no message found"}}`)) // then the leader does
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
}
