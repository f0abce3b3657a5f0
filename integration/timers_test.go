//go:build unix

package integration_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/scheduler"
)

func loopback() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

// long makes the tests of faults go on for as long as their figures need.
func long() bool { return flag.Lookup("long").Value.String() == "true" }

var _ = flag.Bool("long", false, "let the tests of faults take minutes")

// forgetful is why some are repeated where a server was killed, of few timers more than one of a thousand.
const forgetful = "with a server goes what it knew of its last tenth of a second: that timers were gone as they fired, and acknowledgements, " +
	"which those who have them tell once more, on a machine that is too busy after they were delivered again"

// TestTimersServerKilled kills the server while timers are created at full rate, one by one and many at once: what was acknowledged fires.
func TestTimersServerKilled(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	rounds := 2
	if long() {
		rounds = 5
	}
	v, kills := killServer(t, rounds, 0)
	v.check(t)
	v.checkRepeats(t, kills, max(rounds*scheduler.DefaultShards, v.acked/1000), forgetful)
}

// TestTimersServerAway kills the server for longer than anybody waits for it: what was refused does not fire. What the server has forgotten to be gone it fires
// as soon as it is back, as all that was due meanwhile: nobody is faster.
func TestTimersServerAway(t *testing.T) {
	t.Parallel()
	if !long() {
		t.Skip("waits for 20 s: give it -long")
	}
	needPrograms(t)
	v, kills := killServer(t, 1, 20*time.Second)
	v.check(t)
	v.checkRepeats(t, kills, v.acked/50, forgetful)
	if v.errors["create: "+string(bus.Unavailable)] == 0 {
		t.Errorf("nobody was refused: %v", v.errors)
	}
}

// killServer kills the server of two schedulers again and again, and lets it be away.
func killServer(t *testing.T, rounds int, away time.Duration) (verdict, []fault) {
	t.Helper()
	server := startServer(t)
	for range 2 { // what the server forgets that one has delivered comes to the other one, too
		startScheduler(t, server.Ports["nats"])
	}
	s, sink, l := openTimers(t, server.Ports["nats"]), newSink(t), newLedger()
	sink.hold = func(string) { time.Sleep(rand.N(30 * time.Millisecond)) } // so that much is under way when the server dies
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	l.setters(ctx, &wg, s, sink.target(), 16, 0)
	l.bulkSetters(ctx, &wg, s, sink.target(), 4, 2*time.Millisecond)
	var kills []fault
	for range rounds {
		before := l.size()
		eventually(t, patience, "timers are created", func() bool { return l.size() > before+4000 })
		killed := time.Now()
		server.Kill()
		time.Sleep(away) // the outage itself, which clients must meet in full
		server = server.Restart()
		kills = append(kills, fault{killed, time.Now()})
	}
	before := l.size()
	eventually(t, patience, "timers are created again", func() bool { return l.size() > before+100 })
	stop()
	wg.Wait()
	return l.judge(t, sink, 2*patience), kills
}

// TestTimersSchedulersKilled kills one of two schedulers every 2 s, by turns.
func TestTimersSchedulersKilled(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startServer(t)
	url := server.Ports["nats"]
	schedulers := []*platform{startScheduler(t, url), startScheduler(t, url)}
	s, sink, l := openTimers(t, url), newSink(t), newLedger()
	total := 10 * time.Second
	if long() {
		total = 30 * time.Second
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	l.setters(ctx, &wg, s, sink.target(), 8, 5*time.Millisecond)
	var kills []fault
	for begin := time.Now(); time.Since(begin) < total; {
		next := time.After(2 * time.Second)
		i := len(kills) % len(schedulers)
		killed := time.Now()
		schedulers[i].Kill()
		kills = append(kills, fault{begin: killed})
		schedulers[i] = startScheduler(t, url)
		<-next
	}
	stop()
	wg.Wait()
	v := l.judge(t, sink, 3*patience) // what a killed worker held is delivered again after 6 s
	t.Logf("%d kills", len(kills))
	v.check(t)
	v.checkRepeats(t, kills, len(kills)*scheduler.DefaultPerDestination, "what a scheduler that was killed was delivering to one destination is delivered again")
}

// TestTimersWorkerKilledBeforeItsAck kills a scheduler while the receiver holds its requests: each is delivered once more, as the same
// delivery, and none is lost.
func TestTimersWorkerKilledBeforeItsAck(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startServer(t)
	url := server.Ports["nats"]
	victim := startScheduler(t, url)
	s, sink, l := openTimers(t, url), newSink(t), newLedger()
	const n = 20
	held, release := make(chan string, 10*n), make(chan struct{})
	sink.hold = func(id string) {
		held <- id
		<-release
	}
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(free)
	for i := range n {
		id := fmt.Sprintf("held-%d", i)
		tm, err := s.Create(t.Context(), scheduler.Spec{ID: id, After: 100 * time.Millisecond, Target: sink.target()})
		l.created(id, tm, err)
	}
	for range n {
		select {
		case <-held:
		case <-time.After(patience):
			t.Fatal("not all were delivered")
		}
	}
	victim.Kill()
	free()
	startScheduler(t, url)
	eventually(t, 3*patience, "all are delivered once more", func() bool {
		for i := range n {
			if len(sink.arrived(fmt.Sprintf("held-%d", i))) < 2 {
				return false
			}
		}
		return true
	})
	v := l.judge(t, sink, patience)
	v.check(t)
	if len(v.repeats) != n {
		t.Errorf("%d deliveries were repeated, want the %d that were held", len(v.repeats), n)
	}
}

// TestTimersOwnerFrozen stops the only scheduler that owns shards for 10 s, as a hung machine would; another one takes over, and the
// one that wakes fires nothing twice.
func TestTimersOwnerFrozen(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startServer(t)
	url := server.Ports["nats"]
	frozen := startScheduler(t, url)
	s, sink, l := openTimers(t, url), newSink(t), newLedger()
	probe, err := s.Create(t.Context(), scheduler.Spec{After: 10 * time.Millisecond, Target: sink.target()})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the first scheduler works", func() bool { return len(sink.arrived(probe.ID)) > 0 })
	startScheduler(t, url)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	l.setters(ctx, &wg, s, sink.target(), 8, 5*time.Millisecond)
	eventually(t, patience, "timers fire", func() bool { return sink.timers() > 200 })
	stood := fault{begin: time.Now()}
	frozen.Freeze()
	time.Sleep(10 * time.Second) // that is how long it is frozen
	frozen.Thaw()
	stood.end = time.Now()
	at := sink.timers()
	eventually(t, patience, "timers go on firing", func() bool { return sink.timers() > at+200 })
	stop()
	wg.Wait()
	v := l.judge(t, sink, 3*patience)
	v.check(t)
	v.checkRepeats(t, []fault{stood}, scheduler.DefaultPerDestination, "what a scheduler that stands still was delivering to one destination others deliver, too")
}

// TestTimersClusterLosesLeader kills the server that leads a shard, on a cluster of three, in the middle of a burst.
func TestTimersClusterLosesLeader(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	c := startCluster(t)
	for range 2 {
		startScheduler(t, c.urls())
	}
	conn := connect(t, c.urls())
	s, sink, l := openTimers(t, c.urls()), newSink(t), newLedger()
	for _, stream := range []string{"SKYBUS_TMR_0", "SKYBUS_TMR_1"} {
		if peers := awaitPeers(t, conn, stream); len(peers) != 3 {
			t.Fatalf("stream %s is on %q, want three servers", stream, peers)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	l.setters(ctx, &wg, s, sink.target(), 8, 2*time.Millisecond)
	eventually(t, patience, "timers fire", func() bool { return sink.timers() > 200 })
	victim := clusterInfo(t, conn, "SKYBUS_TMR_0").Leader
	if !slices.Contains([]string{"s1", "s2", "s3"}, victim) {
		t.Fatalf("leader %q", victim)
	}
	killed := time.Now()
	c[victim].Kill()
	at := l.size()
	eventually(t, 2*patience, "timers are created again", func() bool { return l.size() > at+500 })
	t.Logf("%s killed; 500 more timers created after %v", victim, time.Since(killed))
	c[victim] = c[victim].Restart()
	awaitPeers(t, conn, "SKYBUS_TMR_0")
	again := time.Now()
	stop()
	wg.Wait()
	v := l.judge(t, sink, 3*patience)
	v.check(t)
	// More than one in a thousand, as the run is short and an election takes seconds: 3 of 1,476 were.
	v.checkRepeats(t, []fault{{killed, again}}, v.acked/100, forgetful)
}

// TestTimersOfAProgram has a transport that is a program on the bus: what it answers is what came of the delivery.
func TestTimersOfAProgram(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startServer(t)
	conn := connect(t, server.Ports["nats"])
	came := make(chan *nats.Msg, 16)
	sub, err := conn.NATS().QueueSubscribe("default.dev.mail.send", "mail", func(m *nats.Msg) {
		came <- m
		reply := &nats.Msg{Data: []byte("sent")}
		if m.Header.Get(scheduler.HeaderAttempt) == "1" {
			reply = &nats.Msg{Header: nats.Header{"Nats-Service-Error": {"busy"}, "Nats-Service-Error-Code": {"503"}, "Retry-After": {"1"}}}
		}
		if err := m.RespondMsg(reply); err != nil {
			t.Errorf("answer: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	if err := conn.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	runs := startPlatform(t, "scheduler", "--server", server.Ports["nats"], "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--transport", "mail=subject:default.dev.mail.send")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, runs.Ports["timers"]+"/v1/timers",
		strings.NewReader(`{"id":"a","after":"10ms","target":{"transport":"mail","uri":"ops@example.com"},"payload":{"n":1},"retry":{"first":"10ms"}}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusCreated {
		t.Fatalf("created: %s", resp.Status)
	}
	var first time.Time
	for attempt := 1; attempt <= 2; attempt++ {
		select {
		case m := <-came:
			if m.Header.Get(scheduler.HeaderURI) != "ops@example.com" || m.Header.Get(scheduler.HeaderAttempt) != fmt.Sprint(attempt) || string(m.Data) != `{"n":1}` {
				t.Errorf("attempt %d: %v %s", attempt, m.Header, m.Data)
			}
			if attempt == 1 {
				first = time.Now()
			} else if took := time.Since(first); took < 900*time.Millisecond {
				t.Errorf("the second attempt came after %v, and 1 s was asked for", took)
			}
		case <-time.After(patience):
			t.Fatalf("attempt %d did not come", attempt)
		}
	}
	s := openTimersOn(t, conn)
	eventually(t, patience, "the timer is gone", func() bool {
		_, err := s.Get(t.Context(), "a")
		return bus.CodeOf(err) == bus.NotFound
	})
	for l, err := range s.DeadLetters().List(t.Context(), scheduler.DeadFilter{}) {
		t.Errorf("given up: %+v, %v", l, err)
	}
}
