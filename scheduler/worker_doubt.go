package scheduler

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/internal/backoff"
)

// A server that dies takes acknowledgements with it, and what it knew of who has what in the last tenth of a second. So when it is back, or another
// one is in its place, processes acknowledge again what they have finished, and say again what they hold: the server takes that once it knows that
// it has delivered the message. And what it delivers as if for the first time, although it was stored before, they have come again after a while: by
// then it is acknowledged by who has finished it, or known to be held.
const (
	doubtTime   = time.Second // for so long after the server is back
	doubtWait   = time.Second
	insistEvery = 250 * time.Millisecond // at least twice within doubtWait
	insistTimes = 12
	maxReceipts = 1 << 13 // of a shard
	receiptAge  = 10 * time.Second
)

// receipts are the acknowledgements of late of a shard.
type receipts struct {
	mu    sync.Mutex
	epoch uint64 // how often the server may have forgotten something
	since time.Time
	until time.Time // of the doubt
	sent  fifo[receipt]
}

type receipt struct {
	reply string
	seq   uint64
	epoch uint64
	at    time.Time
}

// add remembers that an acknowledgement was sent.
func (r *receipts) add(x *parcel) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.sent.len() > 0 && (r.sent.len() >= maxReceipts || now.Sub(r.sent.items[r.sent.head].at) > receiptAge) {
		r.sent.pop()
	}
	r.sent.push(receipt{x.msg.Reply, x.seq, x.epoch, now})
}

// present is the epoch.
func (r *receipts) present() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.epoch
}

// begin begins a new epoch after an old one, by the server's time, and tells whether nobody else has.
func (r *receipts) begin(after uint64, server time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch != after {
		return false
	}
	r.epoch++
	r.since, r.until = server, time.Now().Add(doubtTime)
	return true
}

// doubtful tells whether a message may have been delivered before, although the server does not know.
func (r *receipts) doubtful(meta *nats.MsgMetadata) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return meta.NumDelivered == 1 && meta.Timestamp.Before(r.since) && time.Now().Before(r.until)
}

// earlier is the acknowledgements of earlier epochs of messages from a sequence on.
func (r *receipts) earlier(from uint64) (replies []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sent.items[r.sent.head:] {
		if s.epoch < r.epoch && s.seq >= from {
			replies = append(replies, s.reply)
		}
	}
	return replies
}

// insist tells the server again what it may have forgotten. It knows that it has delivered messages up to a sequence.
func (p *pipe) insist(ctx context.Context, delivered uint64) {
	from := uint64(0)
	for range insistTimes {
		p.insistOnce(from)
		if !backoff.Sleep(ctx, insistEvery) {
			return
		}
		from = delivered + 1
	}
}

func (p *pipe) insistOnce(from uint64) {
	nc := p.courier.s.conn.NATS()
	for _, reply := range p.receipts.earlier(from) {
		_ = nc.Publish(reply, nil) // fails without a connection; then there is another time
	}
	for _, msg := range p.courier.heldSince(p, from) {
		_ = msg.InProgress() // the same
	}
}

// heldSince is the messages of a pipe's earlier epochs that are held, from a sequence on.
func (c *courier) heldSince(p *pipe, from uint64) (held []*nats.Msg) {
	epoch := p.receipts.present()
	c.mu.Lock()
	defer c.mu.Unlock()
	for x := c.held.first; x != nil; x = x.after {
		if x.pipe == p && x.epoch < epoch && x.seq >= from {
			held = append(held, x.msg)
		}
	}
	return held
}
