package mirror

import (
	"cmp"
	"net/http"
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
)

// With few writes a second each has a chunk of its own. Whoever takes over reads thousands of them before the first write goes on, so it does not
// ask for each.
func TestNotTakenReadsManyChunks(t *testing.T) {
	t.Parallel()
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	m, err := Open(t.Context(), conn, Config{Name: "m", Observe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	b := Backend{Name: "a", Generation: 7}
	const writes = 3000
	var acks []jetstream.PubAckFuture
	for seq := uint64(1); seq <= writes; seq++ {
		status := uint16(http.StatusOK)
		if seq%1000 == 0 {
			status = http.StatusNotFound
		}
		for _, name := range []string{"a", "b"} {
			c := chunk{generation: b.Generation, read: seq, floor: seq, entries: []entry{{seq: seq, status: status}}}
			ack, err := m.js.PublishAsync(m.space.ledger(name), c.encode())
			if err != nil {
				t.Fatal(err)
			}
			acks = append(acks, ack)
		}
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			t.Fatal(err)
		}
	}
	before := conn.NATS().Stats().OutMsgs
	all, err := m.notTaken(t.Context(), b, 500, writes)
	if err != nil {
		t.Fatal(err)
	}
	asked := conn.NATS().Stats().OutMsgs - before
	slices.SortFunc(all, func(a, b found) int { return cmp.Compare(a.seq, b.seq) })
	want := []found{
		{1000, given{backend: "a", generation: 7, class: refused, status: 404}},
		{2000, given{backend: "a", generation: 7, class: refused, status: 404}},
	}
	if !slices.Equal(all, want) {
		t.Errorf("found %+v, want %+v", all, want)
	}
	if most := uint64(100); asked > most {
		t.Errorf("%d chunks were read with %d messages, want at most %d", writes, asked, most)
	}
}
