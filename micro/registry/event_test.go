package registry_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/registry"
)

// What becomes of an instance is published for who has no registry, with the record.
func TestEvents(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	nc := s.Connect(t)
	sub, err := nc.SubscribeSync("default.dev.ev.instance.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	expect := func(event string, registered bool) {
		t.Helper()
		m, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatalf("%s: %v", event, err)
		}
		var r registry.Record
		if err := json.Unmarshal(m.Data, &r); err != nil || m.Header.Get("Content-Type") != "application/json" {
			t.Fatalf("%v in %s %s", err, m.Header, m.Data)
		}
		if m.Subject != "default.dev.ev.instance.shop.a."+event || r.Instance != "a" || r.Registered != registered {
			t.Errorf("%s: %s, want %s", m.Subject, m.Data, event)
		}
	}
	conn := connect(t, s)
	a := newAnnouncer(t, conn, record("shop", "a"), quickly())
	if err := a.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	running := run(t, a)
	expect("online", true)
	if err := a.Update(t.Context(), setRegistered(false)); err != nil {
		t.Fatal(err)
	}
	expect("changed", false)
	records, _ := tables(t, conn)
	if err := records.Delete(t.Context(), "default.dev.shop.a"); err != nil {
		t.Fatal(err)
	}
	expect("online", false)
	if err := running.stop(); err != nil {
		t.Fatal(err)
	}
	expect("offline", false)
}

// How much earlier than the events a registry hears of changes: the reason why it does not listen to them.
func TestEventsAreLaterThanTheFeed(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	ours := connect(t, s)
	r := open(t, ours, nil)
	a := announce(t, connect(t, s), record("shop", "a"), quickly())
	becomes(t, r, "shop", "a", registry.Online)
	events := make(chan *nats.Msg, 10)
	if _, err := ours.NATS().ChanSubscribe("default.dev.ev.instance.shop.a.changed", events); err != nil {
		t.Fatal(err)
	}
	if err := ours.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	const changes = 200
	feedFirst := 0
	var ahead time.Duration
	for n := range changes {
		arrivals := make(chan string, 2)
		times := make(chan time.Time, 2)
		go func() {
			<-events
			times <- time.Now()
			arrivals <- "event"
		}()
		go func() {
			for changed := r.Changed(); string(find(r, "shop", "a").Attributes["n"]) != fmt.Sprint(n); changed = r.Changed() {
				<-changed
			}
			times <- time.Now()
			arrivals <- "feed"
		}()
		if err := a.Update(t.Context(), setAttributes("n", fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
		first, one, two := <-arrivals, <-times, <-times
		<-arrivals
		if first == "feed" {
			feedFirst++
			ahead += two.Sub(one).Abs()
		}
	}
	t.Logf("of %d changes the feed told %d first, by %v in the mean", changes, feedFirst, ahead/time.Duration(max(1, feedFirst)))
	if feedFirst < changes/2 {
		t.Errorf("the events were earlier in %d of %d changes", changes-feedFirst, changes)
	}
}
