package scheduler

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus/bustest"
)

// forget has the server forget what it has delivered, as one does that is killed, and the pipe notice.
func forget(t *testing.T, c *courier, p *pipe) (delivered uint64) {
	t.Helper()
	if err := p.stream.DeleteConsumer(t.Context(), consumerName(p.ns)); err != nil {
		t.Fatal(err)
	}
	delivered, err := c.openConsumer(t.Context(), p.shard)
	if err != nil {
		t.Fatal(err)
	}
	now, err := p.clock.now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !p.receipts.begin(p.receipts.present(), now.Add(time.Second)) || p.receipts.begin(0, now) {
		t.Fatal("a doubt begins not at all, or twice")
	}
	return delivered
}

// What one process has finished is not delivered by another one, although the server forgot that it was delivered.
func TestServerForgetsFinished(t *testing.T) {
	t.Parallel()
	c, x := workbench(t)
	x.pipe.receipts.add(x) // and what was sent is lost
	delivered := forget(t, c, x.pipe)
	x.pipe.insistOnce(0) // too early: it has delivered nothing
	if err := c.s.conn.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	msg := fetchMessage(t, c)
	if again := c.read(t.Context(), x.pipe, msg); again != nil {
		t.Fatal("delivered again, at once")
	}
	x.pipe.insistOnce(delivered + 1)
	bustest.Eventually(t, "the message to be gone", func() bool {
		info, err := x.pipe.stream.Info(t.Context())
		return err == nil && info.State.Msgs == 0
	})
}

// What nobody has finished or holds is delivered after a while.
func TestServerForgetsUnfinished(t *testing.T) {
	t.Parallel()
	c, x := workbench(t)
	forget(t, c, x.pipe)
	if again := c.read(t.Context(), x.pipe, fetchMessage(t, c)); again != nil {
		t.Fatal("delivered again, at once")
	}
	if again := c.read(t.Context(), x.pipe, fetchMessage(t, c)); again == nil || again.delivery != x.delivery {
		t.Errorf("%+v is delivered, want %q", again, x.delivery)
	}
	y := due(t, c, "t2")
	if y.pipe.receipts.doubtful(&nats.MsgMetadata{NumDelivered: 1, Timestamp: y.at}) {
		t.Error("what is new is doubted")
	}
}

// What is held is said again, and so given to nobody else.
func TestServerForgetsHeld(t *testing.T) {
	t.Parallel()
	c, x := workbench(t)
	c.held.add(x, time.Now())
	forget(t, c, x.pipe)
	if held := c.heldSince(x.pipe, x.seq); len(held) != 1 || held[0] != x.msg {
		t.Errorf("%d messages are held, want the one", len(held))
	}
	if held := c.heldSince(x.pipe, x.seq+1); len(held) != 0 {
		t.Errorf("%d messages are held that came later, want none", len(held))
	}
}

func TestReceiptsAreBounded(t *testing.T) {
	t.Parallel()
	var r receipts
	for i := range uint64(maxReceipts + 10) {
		r.add(&parcel{stored: &stored{seq: i + 1}, msg: &nats.Msg{Reply: "reply"}})
	}
	r.begin(0, time.Now())
	if n := len(r.earlier(0)); n != maxReceipts {
		t.Errorf("%d are kept, want %d", n, maxReceipts)
	}
	if n := len(r.earlier(maxReceipts + 1)); n != 10 {
		t.Errorf("%d are of the last 10", n)
	}
	for i := range r.sent.items {
		r.sent.items[i].at = time.Now().Add(-2 * receiptAge)
	}
	r.add(&parcel{stored: &stored{seq: 1}, msg: &nats.Msg{Reply: "reply"}, epoch: 1})
	if n := r.sent.len(); n != 1 {
		t.Errorf("%d are kept, want the one of late", n)
	}
}

// A process that stood still does not deliver what was sent to it meanwhile, since others have it by then.
func TestStandstillDropsWhatCame(t *testing.T) {
	t.Parallel()
	c, x := workbench(t)
	c.stopped = true // what it takes is kept apart
	p := newPuller(x.pipe)
	p.n, p.left, p.ran = 1, 10, time.Now()
	p.hear(t.Context(), x.msg)
	if len(c.late) != 1 {
		t.Fatal("a message is not taken")
	}
	marks, err := c.s.conn.NATS().SubscribeSync(p.inbox + "*")
	if err != nil {
		t.Fatal(err)
	}
	p.ran = p.ran.Add(-2 * pullStood)
	p.hear(t.Context(), x.msg)
	p.hear(t.Context(), x.msg)
	if len(c.late) != 1 {
		t.Errorf("%d messages are taken, want one", len(c.late))
	}
	mark, err := marks.NextMsg(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	p.hear(t.Context(), mark)
	p.hear(t.Context(), x.msg)
	if len(c.late) != 2 {
		t.Errorf("%d messages are taken, want the one after the mark, too", len(c.late))
	}
}

// What waited for its turn while the server did not hear of it is not begun: somebody else has it.
func TestStandstillDropsWhatWaits(t *testing.T) {
	t.Parallel()
	for name, look := range map[string]bool{"looked at first": true, "popped first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, x := workbench(t)
			to := &destination{key: x.destination, waiting: fifo[*parcel]{}}
			c.destinations[to.key], c.waiting, c.busy = to, 1, 2
			c.held.add(x, time.Now().Add(-2*ackWait))
			x.to = to
			to.waiting.push(x)
			c.mu.Lock()
			c.listLocked(to)
			c.mu.Unlock()
			if look {
				c.look(t.Context(), time.Now())
			}
			if again := c.next(nil, 0); again != nil || c.held.n != 0 || len(c.destinations) != 0 {
				t.Errorf("%+v is begun, %d are held", again, c.held.n)
			}
		})
	}
}
