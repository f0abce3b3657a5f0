//go:build unix

package integration_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/route"
)

// TestAsyncStepsSurviveKills kills, while requests flow, each process that an asynchronous step passes through: the
// initiator, which holds gateway and worker, the services that do it, and the NATS server. Once all of them are back
// every request that was answered has been noted.
func TestAsyncStepsSurviveKills(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startServer(t)
	app := startApplication(t, server.Ports["nats"])
	ask := newAsker(t, app.gateway)
	l := startLoad(t, 8, ask.call)
	l.await(300)

	restartInitiator := func() {
		_, listen, _ := strings.Cut(app.gateway, "://")
		app.initiator.Kill()
		app.initiate(listen)
		l.await(100)
	}
	restartInitiator()
	app.services["log-1"].Kill()
	app.services["log-2"].Kill()
	l.await(100) // stored while nobody can do them
	restartInitiator()
	server.Kill()
	server = server.Restart()
	l.await(100)
	app.serve("log", "log-1")
	app.serve("log", "log-2")
	l.await(100)
	t.Logf("%v", l.end())
	if len(ask.answered) < 700 {
		t.Fatalf("%d requests were answered, want at least 700", len(ask.answered))
	}

	ended := time.Now()
	conn := connect(t, server.Ports["nats"])
	// What a killed worker had begun comes again only some time after it was given out.
	eventually(t, 2*time.Minute, "no step is left", func() bool { return messages(t, conn, route.AsyncStream) == 0 })
	dead := -1
	eventually(t, patience, "the dead letters are counted", func() bool {
		dead = messages(t, conn, route.DeadLetterStream)
		return dead >= 0
	})
	if dead != 0 {
		t.Errorf("%d steps were given up", dead)
	}
	noted := notes(t, app.records)
	missing := 0
	for id := range ask.answered {
		if noted[id] == 0 {
			missing++
		}
	}
	repeated := 0
	for _, n := range noted {
		if n > 1 {
			repeated++
		}
	}
	t.Logf("%d answered, %d noted, %d of them more than once; the last came %v after the load", len(ask.answered), len(noted), repeated, time.Since(ended))
	if missing > 0 {
		t.Errorf("%d requests were answered and never noted", missing)
	}
}

// asker asks the demo with an id of its own for each request and keeps those that were answered.
type asker struct {
	browser *browser
	gateway string

	mu       sync.Mutex
	answered map[string]bool
}

func newAsker(t *testing.T, gateway string) *asker {
	t.Helper()
	return &asker{browser: newBrowser(t), gateway: gateway, answered: map[string]bool{}}
}

func (a *asker) call(ctx context.Context) (string, error) {
	id := nuid.Next()
	if _, err := a.browser.widgets(ctx, a.gateway, "X-Request-Id", id); err != nil {
		return "", err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answered[id] = true
	return "", nil
}

// messages is how many messages a stream holds, -1 when it does not tell now.
func messages(t *testing.T, conn *bus.Conn, stream string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	s, err := conn.JetStream().Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0 // the one of dead letters is made for the first of them
	}
	if err != nil {
		return -1
	}
	return int(s.CachedInfo().State.Msgs)
}

// notes reads the files of the log service to their ends and counts how often each request is noted.
func notes(t *testing.T, dir string) map[string]int {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Fatalf("%d files in %s, want 2 (%v)", len(files), dir, err)
	}
	noted := map[string]int{}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(data) {
			id, rest, _ := strings.Cut(string(line), " ")
			if rest != "\"x\"\n" {
				t.Errorf("%s has a line %q", f.Name(), line)
			}
			noted[id]++
		}
	}
	return noted
}
