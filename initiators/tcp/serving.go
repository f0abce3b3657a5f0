package tcp

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// serving is one call of Serve.
type serving struct {
	*Server

	running sync.WaitGroup

	mu    sync.Mutex
	conns map[*conn]struct{}
}

func (v *serving) add(c *conn) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.conns[c] = struct{}{}
}

func (v *serving) remove(c *conn) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.conns, c)
}

// all are the connections there are.
func (v *serving) all() []*conn {
	v.mu.Lock()
	defer v.mu.Unlock()
	var all []*conn
	for c := range v.conns {
		all = append(all, c)
	}
	return all
}

// stop lets each connection read what is on its way, and no more. No connection is added after it.
func (v *serving) stop() {
	late := time.Now().Add(lateTimeout)
	for _, c := range v.all() {
		c.nc.endReading(late)
		if v.cfg.OneWay {
			c.halfClose() // so that the client sees it at once: it waits for nothing
		}
	}
}

// drain waits for what is in flight.
func (v *serving) drain(cutOff context.CancelCauseFunc) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		v.running.Wait()
	}()
	timer := time.NewTimer(v.cfg.Drain)
	defer timer.Stop()
	select {
	case <-ended:
		return nil
	case <-timer.C:
	}
	left := v.counts.inFlight.Load()
	cutOff(errStopped)
	now := time.Now()
	for _, c := range v.all() {
		c.nc.endReading(now)
		c.nc.endWriting(now.Add(cutOffTimeout))
	}
	<-ended
	if left == 0 {
		return nil // only clients that did not close
	}
	return bus.Errorf(bus.DeadlineExceeded, "tcp: %d requests were cut off: not done %v after the stop", left, v.cfg.Drain)
}

// door counts connections.
type door struct {
	most, mostPerIP int

	mu   sync.Mutex
	in   int
	byIP map[netip.Addr]int
}

// enter lets a connection in, unless it returns a reason not to.
func (d *door) enter(ip netip.Addr) (Reason, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.in >= d.most {
		return ReasonConnections, bus.Errorf(bus.Unavailable, "there are %d connections already", d.most)
	}
	if d.mostPerIP > 0 && ip.IsValid() && d.byIP[ip] >= d.mostPerIP {
		return ReasonConnectionsPerIP, d.errPerIP(ip)
	}
	d.in++
	if d.byIP == nil {
		d.byIP = map[netip.Addr]int{}
	}
	d.byIP[ip]++
	return "", nil
}

// know counts a connection that was let in without an address as that address's, unless it returns a reason not to.
func (d *door) know(ip netip.Addr) (Reason, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mostPerIP > 0 && ip.IsValid() && d.byIP[ip] >= d.mostPerIP {
		return ReasonConnectionsPerIP, d.errPerIP(ip)
	}
	d.forgetLocked(netip.Addr{})
	d.byIP[ip]++
	return "", nil
}

func (d *door) errPerIP(ip netip.Addr) error {
	return bus.Errorf(bus.ResourceExhausted, "there are %d connections from %s already", d.mostPerIP, ip)
}

func (d *door) forgetLocked(ip netip.Addr) {
	if d.byIP[ip]--; d.byIP[ip] == 0 {
		delete(d.byIP, ip)
	}
}

func (d *door) leave(ip netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.in--
	d.forgetLocked(ip)
}

// open is how many there are.
func (d *door) open() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.in
}
