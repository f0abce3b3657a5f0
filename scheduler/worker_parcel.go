package scheduler

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

const (
	patience     = time.Second            // the longest a parcel is to wait in the queue of its destination
	stallLeast   = 250 * time.Millisecond // without the end of any delivery, which tells of a destination; less may be this process
	stallLong    = 5 * time.Second
	spillFirst   = 500 * time.Millisecond // and how long it is put off, else
	spillLast    = 5 * time.Second        // or else
	spillEach    = 2 * time.Millisecond   // for each that is put off, so that those who come back in vain are no load; but
	spillMost    = 2 * time.Minute
	watchEvery   = 100 * time.Millisecond
	maxSettling  = 64
	progressTime = ackWait / 3
)

// parcel is a message under way in this process.
type parcel struct {
	*stored

	pipe     *pipe
	msg      *nats.Msg
	delivery string // its id
	epoch    uint64 // of the receipts, in which it came
	tried    []Attempt
	defers   int        // in a row
	redrives int        // from a dead letter
	redriven time.Time  // the last time
	verdict  *bus.Error // why it was given up, if it was
	early    bool       // it came before it was due, and so does not count as fired

	transport   Transport
	destination string
	to          *destination // while it waits there or is delivered
	aside       func(ctx context.Context, x *parcel)
	wait        time.Duration // how long it is put off, where its destination is crowded

	key           attemptKey
	heard         time.Time // when the server heard last that it is held
	lost          bool      // it did not for so long that it gave the message to somebody else
	begun         bool
	before, after *parcel
}

// attemptKey tells whether two messages are for the same attempt.
type attemptKey struct {
	delivery                string
	redrives, tried, defers int
}

// destination is the parcels of those targets that share a fate.
type destination struct {
	key     string
	waiting fifo[*parcel]
	active  int           // deliveries under way
	listed  bool          // it is in courier.ready
	spilled int           // parcels that were put off because they would have waited too long, and have not come back
	took    time.Duration // by a delivery, lately; 0 before the first
	moved   time.Time     // when the last delivery ended, or the first began
}

// wait is how long the n-th of those who wait will have waited, by how it goes at present.
func (d *destination) wait(n, limit int, now time.Time) time.Duration {
	if d.active < limit {
		return 0 // it is not the destination that it waits for
	}
	pace := d.took
	if stall := now.Sub(d.moved); stall > max(stallLeast, 4*pace) {
		pace = stall
	}
	return pace * time.Duration(n) / time.Duration(limit)
}

// spill is how long to put off one that would wait too long: about until those are delivered that are before it, so that the destination
// gets what was put off as fast as it takes it. It is not long where they are few, since the destination may get faster.
func (d *destination) spill(limit int, now time.Time) time.Duration {
	d.spilled++
	if d.took > 0 && now.Sub(d.moved) < stallLong {
		now = d.moved // a short stall says little of what comes
	}
	most := min(max(spillLast, time.Duration(d.spilled)*spillEach), spillMost)
	wait := min(max(d.wait(d.waiting.len()+d.spilled, limit, now), spillFirst), most)
	return wait*3/4 + rand.N(wait/2)
}

func (d *destination) measure(took time.Duration) {
	if d.took == 0 {
		d.took = took
	} else {
		d.took += (took - d.took) / 8
	}
}

// take takes a message in. It blocks nobody.
func (c *courier) take(ctx context.Context, p *pipe, msg *nats.Msg) {
	x := c.read(ctx, p, msg)
	if x == nil {
		p.give(1, int64(msg.Size()))
		return
	}
	now := time.Now()
	c.mu.Lock()
	if _, there := c.underway[x.key]; there {
		c.mu.Unlock()
		p.give(1, int64(msg.Size())) // it comes again if the one at hand is not finished
		return
	}
	if c.stopped { // not given back yet, for it would come here again
		c.late = append(c.late, msg)
		c.mu.Unlock()
		return
	}
	c.beatLocked(now)
	c.underway[x.key] = struct{}{}
	c.held.add(x, now)
	first := c.held.n == 1
	if x.aside != nil || !c.enqueueLocked(x, now) {
		c.asideLocked(ctx, x)
	} else if c.busy < c.s.cfg.Workers {
		c.busy++
		c.running.Go(func() { c.deliverAll(ctx) })
	}
	c.mu.Unlock()
	if first {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// enqueueLocked has a parcel wait for its destination, unless that would take too long.
func (c *courier) enqueueLocked(x *parcel, now time.Time) bool {
	d := c.destinations[x.destination]
	if d == nil {
		d = &destination{key: x.destination}
		c.destinations[x.destination] = d
	}
	if x.defers > 0 && d.spilled > 0 {
		d.spilled--
	}
	if d.wait(d.waiting.len()+1, c.s.cfg.PerDestination, now) > patience {
		x.aside, x.wait = c.putOffCrowded, d.spill(c.s.cfg.PerDestination, now)
		return false
	}
	x.to = d
	d.waiting.push(x)
	c.waiting++
	c.listLocked(d)
	return true
}

// listLocked lists a destination for the next free place, if one of its parcels may be delivered.
func (c *courier) listLocked(d *destination) {
	if !d.listed && d.waiting.len() > 0 && d.active < c.s.cfg.PerDestination {
		d.listed = true
		c.ready.push(d)
	}
}

// asideLocked has a parcel settled without a delivery.
func (c *courier) asideLocked(ctx context.Context, x *parcel) {
	c.aside.push(x)
	if c.settling < maxSettling {
		c.settling++
		c.running.Go(func() { c.settleAll(ctx) })
	}
}

// settleAll settles what is aside until there is nothing.
func (c *courier) settleAll(ctx context.Context) {
	for {
		c.mu.Lock()
		if c.aside.len() == 0 {
			c.settling--
			c.mu.Unlock()
			return
		}
		x := c.aside.pop()
		c.mu.Unlock()
		x.aside(ctx, x)
		c.mu.Lock()
		c.dropLocked(x)
		c.mu.Unlock()
	}
}

// dropLocked ends the holding of a parcel.
func (c *courier) dropLocked(x *parcel) {
	c.held.remove(x)
	delete(c.underway, x.key)
	x.pipe.give(1, int64(x.msg.Size()))
}

// deliverAll delivers until nothing may be delivered.
func (c *courier) deliverAll(ctx context.Context) {
	for x := c.next(nil, 0); x != nil; {
		took := c.deliver(ctx, x)
		x = c.next(x, took)
	}
}

// next is what to deliver next in the place where done was delivered. Without anything the place is free.
func (c *courier) next(done *parcel, took time.Duration) *parcel {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if done != nil {
		d := done.to
		d.active--
		if d.moved = now; !c.stoodStillLocked(now, now.Add(-took)) {
			d.measure(took)
		}
		c.dropLocked(done)
		c.listLocked(d)
		c.forgetLocked(d)
	}
	for c.ready.len() > 0 && !c.stopped {
		d := c.ready.pop()
		d.listed = false
		if d.waiting.len() == 0 {
			c.forgetLocked(d)
			continue
		}
		x := d.waiting.pop()
		c.waiting--
		if x.lost || now.Sub(x.heard) > ackWait {
			c.dropLocked(x)
			c.listLocked(d)
			c.forgetLocked(d)
			continue
		}
		x.begun = true
		if d.active++; d.active == 1 {
			d.moved = now
		}
		c.listLocked(d)
		return x
	}
	c.busy--
	return nil
}

func (c *courier) forgetLocked(d *destination) {
	if d.active == 0 && d.waiting.len() == 0 && !d.listed {
		delete(c.destinations, d.key)
	}
}

// watch tells the server of what takes long, and puts off what waits too long, until ctx ends.
func (c *courier) watch(ctx context.Context) {
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
		for anything := true; anything; {
			select {
			case <-time.After(watchEvery):
			case <-ctx.Done():
				return
			}
			anything = c.look(ctx, time.Now())
		}
	}
}

// look looks once, and tells whether there is anything to look after.
func (c *courier) look(ctx context.Context, now time.Time) bool {
	var slow []*nats.Msg
	connected := c.s.conn.NATS().IsConnected()
	c.mu.Lock()
	c.beatLocked(now)
	for x := c.held.first; connected && x != nil && now.Sub(x.heard) >= progressTime; x = c.held.first {
		x.lost = x.lost || !x.begun && now.Sub(x.heard) > ackWait
		c.held.remove(x)
		c.held.add(x, now)
		if !x.lost {
			slow = append(slow, x.msg)
		}
	}
	if c.waiting > 0 {
		for _, d := range c.destinations {
			for d.waiting.len() > 0 && d.wait(d.waiting.len(), c.s.cfg.PerDestination, now) > patience {
				x := d.waiting.popNewest()
				c.waiting--
				x.to, x.aside, x.wait = nil, c.putOffCrowded, d.spill(c.s.cfg.PerDestination, now)
				c.asideLocked(ctx, x)
			}
		}
	}
	anything := c.held.n > 0
	c.mu.Unlock()
	for _, msg := range slow {
		_ = msg.InProgress() // fails while the connection is down; then it may come again
	}
	return anything
}

// stop has nothing more begin.
func (c *courier) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
}

// giveBack gives back what was not begun, so that other processes take it at once.
func (c *courier) giveBack() {
	c.mu.Lock()
	c.stopped = true
	back := c.late
	c.late = nil
	var parcels []*parcel
	for _, d := range c.destinations {
		for d.waiting.len() > 0 {
			parcels = append(parcels, d.waiting.pop())
			c.waiting--
		}
	}
	for c.aside.len() > 0 {
		parcels = append(parcels, c.aside.pop())
	}
	for _, x := range parcels {
		c.dropLocked(x)
		back = append(back, x.msg)
	}
	c.mu.Unlock()
	for _, msg := range back {
		_ = msg.Nak() // fails without a connection; then it comes again after ackWait
	}
}
