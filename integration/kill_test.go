//go:build unix

package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// soon is how long the next request may take to go elsewhere: far below every time-out and TTL.
const soon = 500 * time.Millisecond

// TestKillInstance kills one of two instances while eight callers are served. Its steps may be repeated, so no caller
// loses anything.
func TestKillInstance(t *testing.T) {
	needPrograms(t)
	app := startApplication(t, startServer(t, "--sync", "1s").Ports["nats"]) // measures no disk
	untilSoon(t, func(round int) time.Duration {
		victim := fmt.Sprintf("getwidgets-%d", round)
		l := startLoad(t, 8, callWidgets(t, app.gateway))
		l.await(400)
		killed := time.Now()
		app.services[victim].Kill()
		gone := time.Now()
		l.await(400)
		enough := time.Now()
		all := l.end()

		held, gap := all.flying(killed), all.gap(killed, enough)
		t.Logf("%v; in flight at the kill %d; longest gap after it %v, slowest %v", all, len(held), gap, all.slowest().took())
		if failed := all.failed(); len(failed) > 0 {
			t.Errorf("%d requests failed, %d were in flight at the kill: %v", len(failed), len(held), failed)
		}
		if len(all.from(victim)) == 0 {
			t.Errorf("the killed instance never answered: it was not under load")
		}
		if late := all.after(gone).from(victim); len(late) > 0 {
			t.Errorf("%d answers from the killed instance", len(late))
		}
		app.replace("getwidgets", fmt.Sprintf("getwidgets-%d", round+2))
		return gap
	})
}

// TestKillInstanceHoldingRequests kills an instance when all callers wait for it: it was frozen before, so what it held
// is in its socket buffer.
func TestKillInstanceHoldingRequests(t *testing.T) {
	needPrograms(t)
	app := startApplication(t, startServer(t, "--sync", "1s").Ports["nats"]) // measures no disk
	untilSoon(t, func(round int) time.Duration {
		l := startLoad(t, 8, callWidgets(t, app.gateway))
		l.await(100)
		victim := app.services[fmt.Sprintf("getwidgets-%d", round)]
		victim.Freeze()
		eventually(t, patience, "all callers wait for the frozen instance", func() bool { return l.stuck(700*time.Millisecond) == 8 })

		killed := time.Now()
		victim.Kill()
		next := startLoad(t, 8, callWidgets(t, app.gateway))
		next.await(400)
		enough := time.Now()
		others := next.end()
		l.await(8)
		held, gap := l.end().flying(killed), others.gap(killed, enough)

		t.Logf("held: %v, slowest %v; next: %v, longest gap %v, slowest %v", held, held.slowest().took(),
			others, gap, others.slowest().took())
		if failed := others.failed(); len(failed) > 0 {
			t.Errorf("%d requests after the kill failed: %v", len(failed), failed)
		}
		if len(held) != 8 {
			t.Errorf("%d requests were held, want 8", len(held))
		}
		if failed := held.failed(); len(failed) > 0 {
			t.Errorf("%d of those held failed, though their steps may be repeated: %v", len(failed), failed)
		}
		app.replace("getwidgets", fmt.Sprintf("getwidgets-%d", round+2))
		return gap
	})
}

// untilSoon kills until there was no longer gap between answers than allowed. What is sent before the server hears of the
// death is lost to its time-out; on a busy machine that can hit every caller at once, but not each time.
func untilSoon(t *testing.T, kill func(round int) (gap time.Duration)) {
	t.Helper()
	best := time.Hour
	for round := 1; round <= 3 && best > soon; round++ {
		best = min(best, kill(round))
	}
	if best > soon {
		t.Errorf("at best %v without an answer after a kill, want at most %v", best, soon)
	}
}

// TestKillLosesWhatWasHeld counts: of requests that may not be repeated exactly those fail that the killed instance held,
// begun by its handlers or still in its socket buffer, and none is handled twice.
func TestKillLosesWhatWasHeld(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startServer(t).Ports["nats"]
	victim := service{Server: server, Name: "holder", Instance: "victim"}.start(t)
	other := service{Server: server, Name: "holder", Instance: "other"}.start(t)
	conn := connect(t, server)
	client, nc := newClient(t, conn, micro.ClientConfig{Timeout: 10 * time.Second}), conn.NATS()

	const each = 20
	results := make(chan outcome, 2*each)
	send := func() {
		for range each {
			go func() { // ends at the time-out of the client
				instance, err := callService(client, "holder.hold")(context.WithoutCancel(t.Context()))
				results <- outcome{instance: instance, err: err}
			}()
		}
	}
	sent := nc.Stats().OutMsgs
	send()
	eventually(t, patience, "all requests are begun", func() bool { return len(begun(victim))+len(begun(other)) == each })
	victim.Freeze()
	send()
	eventually(t, patience, "all requests are sent", func() bool { return nc.Stats().OutMsgs >= sent+2*each })
	if err := nc.Flush(); err != nil { // and the server has given them out
		t.Fatal(err)
	}
	victim.Kill()
	killed := time.Now()
	// What is sent before the server hears of the death would be held by the dead, too.
	work := conn.Namespace().InstanceSubject("holder", "victim", "work")
	eventually(t, patience, "the server knows of the death", func() bool {
		_, err := nc.Request(work, nil, 50*time.Millisecond)
		return errors.Is(err, nats.ErrNoResponders)
	})
	t.Logf("the server knew of the death after %v", time.Since(killed))
	killed = time.Now()
	for range each { // the next ones go elsewhere at once
		if instance, err := callService(client, "holder.work")(t.Context()); err != nil || instance != "other" {
			t.Errorf("after the kill %q answers, error %v", instance, err)
		}
	}
	took := time.Since(killed)
	other.CloseInput() // lets it answer

	var all outcomes
	for range 2 * each {
		all = append(all, <-results)
	}
	t.Logf("%v; %d requests after the kill took %v", all, each, took)
	if took > each*soon { // to none of which the dead was given
		t.Errorf("%d requests after the kill took %v, want at most %v each", each, took, soon)
	}
	checkHeld(t, all, begun(victim), begun(other))
}

// begun are the requests that the handlers of a service for tests hold or held.
func begun(p *process) []string {
	text := p.Output()
	var ids []string
	for _, match := range regexp.MustCompile(`(?m)^began (\S+)$`).FindAllStringSubmatch(text, -1) {
		ids = append(ids, match[1])
	}
	return ids
}

// checkHeld compares what callers saw with what began in the killed instance and in the other.
func checkHeld(t *testing.T, all outcomes, victim, other []string) {
	t.Helper()
	held := len(all) - len(other)
	t.Logf("the killed instance held %d, %d of them in handlers", held, len(victim))
	if len(victim) == 0 || held <= len(victim) {
		t.Errorf("the killed instance held %d, %d of them in handlers: want some there and some not", held, len(victim))
	}
	for _, o := range all.failed() {
		if bus.CodeOf(o.err) != bus.DeadlineExceeded {
			t.Errorf("a request that was held ends with: %v", o.err)
		}
	}
	if failed, ok := len(all.failed()), len(all.from("other")); failed != held || ok != len(other) {
		t.Errorf("%d requests failed and %d succeeded, want %d and %d", failed, ok, held, len(other))
	}
	ids := slices.Concat(victim, other)
	slices.Sort(ids)
	if unique := len(slices.Compact(slices.Clone(ids))); unique != len(ids) {
		t.Errorf("%d requests were begun twice", len(ids)-unique)
	}
}

// TestKillAll leaves a service without instances: whoever asks is told which, and one new instance is enough.
func TestKillAll(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	app := startApplication(t, startServer(t).Ports["nats"])
	b := newBrowser(t)
	url := app.gateway + "/getwidgets"
	if _, err := b.widgets(t.Context(), app.gateway); err != nil {
		t.Fatal(err)
	}
	app.services["authorize-1"].Kill()
	app.services["authorize-2"].Kill()

	page := b.post(t, url, "input=x", "Accept", "text/html,*/*;q=0.8", "Content-Type", "application/x-www-form-urlencoded")
	checkUnavailable(t, page, "text/html; charset=utf-8")
	for _, want := range []string{"503 Service Unavailable", "route &#34;getwidgets&#34;", "step 2", "authorize.check"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page does not say %q:\n%s", want, page.body)
		}
	}

	plain := b.post(t, url, `{"input":"x"}`, "Content-Type", "application/json")
	checkUnavailable(t, plain, "application/problem+json")
	var p problem
	if err := json.Unmarshal([]byte(plain.body), &p); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%d %s %s %s %s", p.Status, p.Code, p.Details["route"], p.Details["step"], p.Details["service"])
	if want := "503 unavailable getwidgets 2 authorize"; got != want || !strings.Contains(p.Detail, "authorize.check") {
		t.Errorf("the problem is %q, want %q: %s", got, want, plain.body)
	}

	app.serve("authorize", "authorize-3")
	app.services["authorize-3"].Await(`msg=serving service=authorize`)
	begin := time.Now()
	if _, err := b.widgets(t.Context(), app.gateway); err != nil {
		t.Errorf("with a new instance: %v", err)
	}
	if took := time.Since(begin); took > 4*soon { // less than a heartbeat
		t.Errorf("with a new instance it takes %v, want at most %v", took, 4*soon)
	}
}

func checkUnavailable(t *testing.T, a answer, contentType string) {
	t.Helper()
	if a.status != http.StatusServiceUnavailable || a.header.Get("Content-Type") != contentType {
		t.Errorf("answer is %d, %s, want 503, %s: %s", a.status, a.header.Get("Content-Type"), contentType, a.body)
	}
	if a.header.Get("Retry-After") == "" {
		t.Error("there is no Retry-After")
	}
}
