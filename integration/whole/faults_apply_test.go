//go:build unix

package whole_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/internal/proctest"
)

// apply does a fault and returns when all is there again.
func (r *rig) apply(f injection, j witness) {
	r.t.Helper()
	time.Sleep(f.pause) // between two faults
	some := r.of(f.of)
	u := some[f.place%len(some)]
	begin := time.Now()
	switch f.kind {
	case killed:
		u.process.Kill()
		time.Sleep(f.hold) // it is away
		r.run(u)
	case restarted:
		r.stop(u)
		time.Sleep(f.hold) // it is away
		r.run(u)
	default:
		r.freeze(u, f.hold)
	}
	end := time.Now()
	if f.of == serverKind {
		r.awaitCluster()
	}
	r.t.Logf("%s: %s of %s for %v", begin.Format(clock), f.kind, u.name, end.Sub(begin).Round(time.Millisecond))
	j.fault(f.kind, u.name, begin, end)
}

const clock = "15:04:05.000" // as in logs

// freeze stops a process for so long. What is frozen for longer than its TTL allows must get no more calls.
func (r *rig) freeze(u *unit, hold time.Duration) {
	r.t.Helper()
	u.process.Freeze()
	until := time.Now().Add(hold)
	if u.kind == serviceKind {
		time.Sleep(serviceTTL + time.Second) // so long it may be in rotation
		r.around(u, until)
	}
	time.Sleep(time.Until(until)) // it is frozen
	u.process.Thaw()
}

// stop asks processes to end, which they must in time, and with success.
func (r *rig) stop(units ...*unit) {
	r.t.Helper()
	begin := time.Now()
	for _, u := range units {
		u.process.Signal(syscall.SIGTERM)
	}
	for _, u := range units {
		if code := u.process.Exit(); code != 0 {
			r.t.Errorf("%s ended with %d when it was asked to end, want 0", u.name, code)
		}
		if took := time.Since(begin); took > stopLimit {
			r.t.Errorf("%s took %v to end, want at most %v", u.name, took, stopLimit)
		}
	}
}

// restartAll ends everything and starts it again where it was: what was asked to end first what uses the servers, what was killed all at once.
func (r *rig) restartAll(kind string, j witness) {
	r.t.Helper()
	begin := time.Now()
	servers := r.of(serverKind)
	rest := slices.DeleteFunc(slices.Clone(r.units), func(u *unit) bool { return u.kind == serverKind })
	if kind == restarted {
		r.stop(rest...)
		r.stop(servers...)
	} else {
		for _, u := range r.units {
			u.process.Signal(syscall.SIGKILL)
		}
		for _, u := range r.units {
			u.process.Kill()
		}
	}
	r.run(servers...)
	r.run(rest...)
	end := time.Now()
	r.awaitCluster()
	r.t.Logf("%s: %s of all for %v", begin.Format(clock), kind, end.Sub(begin).Round(time.Millisecond))
	j.fault(kind, "all", begin, end)
}

// awaitCluster waits until each stream and bucket is on three servers, all of which are up to date.
func (r *rig) awaitCluster() {
	r.t.Helper()
	var why string
	if !proctest.Within(elections, func() bool { why = r.incomplete(); return why == "" }) {
		r.t.Fatalf("the cluster is not whole after %v: %s", elections, why)
	}
}

// incomplete tells what a cluster lacks, or nothing.
func (r *rig) incomplete() string {
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
	defer cancel()
	streams := r.client.Conn().JetStream().ListStreams(ctx)
	var lacks []string
	count := 0
	for info := range streams.Info() {
		count++
		if why := lacking(info); why != "" {
			lacks = append(lacks, info.Config.Name+": "+why)
		}
	}
	if err := streams.Err(); err != nil {
		return err.Error()
	}
	if count == 0 {
		return "there are no streams"
	}
	return strings.Join(lacks, "; ")
}

func lacking(info *jetstream.StreamInfo) string {
	c := info.Cluster
	switch {
	case info.Config.Replicas != 3:
		return fmt.Sprintf("%d replicas", info.Config.Replicas)
	case c == nil || c.Leader == "":
		return "no leader"
	case len(c.Replicas) != 2:
		return fmt.Sprintf("%d followers", len(c.Replicas))
	}
	for _, p := range c.Replicas {
		if !p.Current || p.Offline {
			return p.Name + " is behind"
		}
	}
	return ""
}
