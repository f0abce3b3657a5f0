//go:build unix

package integration_test

import (
	"encoding/json"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// TestNATSGoneAndBack kills the NATS server while calls run and starts it again in its place. Calls succeed again at once,
// those that were made meanwhile too, and all services are known again.
func TestNATSGoneAndBack(t *testing.T) {
	needPrograms(t)
	const limit = time.Second
	best := time.Hour
	for round := 0; round < 3 && best > limit; round++ { // the machine may be busy, but not each time
		best = min(best, goneAndBack(t))
	}
	if best > limit {
		t.Errorf("no success for %v after the server listens again at best, want at most %v", best, limit)
	}
}

// goneAndBack is a round of the test above, and returns the longest time without an answer of one of the ways after the server
// listens again.
func goneAndBack(t *testing.T) (gap time.Duration) {
	t.Helper()
	server := startServer(t)
	app := startApplication(t, server.Ports["nats"])
	service{Server: server.Ports["nats"], Name: "echo", Instance: "echo-1"}.start(t)
	conn := connect(t, server.Ports["nats"])
	client := newClient(t, conn, micro.ClientConfig{Timeout: 8 * time.Second})
	ways := []*way{
		{name: "gateway", call: callWidgets(t, app.gateway), repeats: true},
		{name: "sdk, idempotent", call: callService(client, "echo.safe"), repeats: true},
		{name: "sdk, not idempotent", call: callService(client, "echo.work")},
	}
	for _, w := range ways {
		w.before = startLoad(t, 8, w.call)
	}
	for _, w := range ways {
		w.before.await(100)
	}
	online := instances(t, server.Ports["nats"])

	server.Freeze() // so that every caller waits for it
	for _, w := range ways {
		eventually(t, patience, "all callers wait", func() bool { return w.before.stuck(50*time.Millisecond) == 8 })
	}
	server.Kill()
	killed := time.Now()
	app.initiator.Await("connection lost")
	eventually(t, patience, "the connection is known to be lost", func() bool { return !conn.NATS().IsConnected() })
	for _, w := range ways {
		w.since = startLoad(t, 8, w.call)
	}
	listening := make(chan time.Time, 1)
	url := server.Ports["nats"]
	go func() { listening <- firstAccepted(url) }()
	server = server.Restart()
	up := <-listening
	t.Logf("it listens again %v after the kill", up.Sub(killed))
	for _, w := range ways {
		w.since.await(100)
	}
	enough := time.Now()
	for _, w := range ways {
		gap = max(gap, w.check(t, killed, up, enough))
	}
	eventually(t, patience, "all instances are online again", func() bool {
		return slices.Equal(instances(t, server.Ports["nats"]), online)
	})
	return gap
}

// way is how calls are made in the test above.
type way struct {
	name    string
	call    call
	repeats bool // attempts may be repeated

	before, since *load // begun before the kill and after it
}

// check returns the longest time without a success since the server listens.
func (w *way) check(t *testing.T, killed, up, enough time.Time) time.Duration {
	t.Helper()
	all, held := w.since.end(), w.before.end().flying(killed)
	gap := all.gap(up, enough)
	t.Logf("%s: begun while it was away %v, longest gap %v after it listens, slowest %v; in flight at the kill %v, slowest %v",
		w.name, all, gap, all.slowest().took(), held, held.slowest().took())
	if failed := all.failed(); len(failed) > 0 {
		t.Errorf("%s: begun while it was away: %v", w.name, failed)
	}
	if len(held) != 8 {
		t.Errorf("%s: %d calls were in flight at the kill, want 8", w.name, len(held))
	}
	for _, o := range held.failed() {
		// Whether it was handled nobody knows; that it is tried again is the caller's to say.
		if w.repeats || bus.CodeOf(o.err) != bus.DeadlineExceeded {
			t.Errorf("%s: in flight at the kill: %v", w.name, o.err)
		}
	}
	return gap
}

// firstAccepted is when the server at url first takes a connection.
func firstAccepted(url string) time.Time {
	_, addr, _ := strings.Cut(url, "://")
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(shortest) {
		if conn, err := net.Dial("tcp", addr); err == nil { //nolint:noctx // it is refused or accepted at once
			_ = conn.Close()
			break
		}
	}
	return time.Now()
}

// instances are those that `skybus instances` shows, with their states.
func instances(t *testing.T, server string) []string {
	t.Helper()
	var rows []struct{ Service, Instance, State string }
	if err := json.Unmarshal([]byte(skybus(t, server, "instances", "-o", "json")), &rows); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, row := range rows {
		texts = append(texts, row.Service+"/"+row.Instance+" is "+row.State)
	}
	return texts
}
