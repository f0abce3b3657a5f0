//go:build unix

package whole_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
)

// open makes the load a client of the SDK.
func (l *load) open() {
	l.t.Helper()
	conn, err := bus.Connect(l.t.Context(), bus.Config{Server: l.sys.server(), Name: "load"})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close() }) // it has nothing left to say
	if l.sdk, err = micro.NewClient(l.t.Context(), conn, micro.ClientConfig{Name: "load", Patience: clientPatience}); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = l.sdk.Close() }) // the same
}

// call asks a gateway.
func (l *load) call(k kind, path string, r *rand.Rand, id string) {
	o := operation{kind: k, id: id, begin: time.Now()}
	header := []string{"Content-Type", "application/json"}
	if k == once {
		header = append(header, "Idempotency-Key", id)
	}
	a := either(r, l.gateways).ask(l.asking(), request{http.MethodPost, path, header, `{"id":"` + id + `"}`})
	want := http.StatusOK
	if k == later {
		want = http.StatusAccepted
	}
	unfit := ""
	if a.status != want {
		unfit = fmt.Sprintf("%d %.200s", a.status, a.body)
	}
	o.body = a.body
	l.settle(o, a, unfit)
}

// callRouter calls the route by the SDK, which finds a router, and tries again by itself.
func (l *load) callRouter(_ *rand.Rand, id string) {
	ctx, cancel := context.WithTimeout(l.asking(), clientPatience)
	defer cancel()
	o := operation{kind: routed, id: id, begin: time.Now(), tries: 1}
	out, err := micro.Call[done](ctx, l.sdk, "route."+routeName, asked{ID: id}, micro.Idempotent())
	o.body = toText(out)
	if err != nil {
		o.outcome, o.err = failed, fmt.Sprintf("%s: %v", bus.CodeOf(err), err)
	}
	l.j.add(o)
}

// recordsPerFile are so few that no file takes long.
const recordsPerFile = 40

// recordID is the id of a record of a file; the first is 0.
func recordID(file string, n int) string { return fmt.Sprintf("%s.%d", file, n) }

// drop puts a file of records into the directory that is watched.
func (l *load) drop(_ *rand.Rand, id string) {
	o := operation{kind: dropped, id: id, begin: time.Now(), tries: 1, records: recordsPerFile}
	var text strings.Builder
	for n := range recordsPerFile {
		fmt.Fprintf(&text, "{\"id\":%q}\n", recordID(id, n))
	}
	part := filepath.Join(l.sys.drop, id+".part")
	err := os.WriteFile(part, []byte(text.String()), 0o600)
	if err == nil {
		err = os.Rename(part, filepath.Join(l.sys.drop, id+".ndjson"))
	}
	if err != nil {
		o.outcome, o.err = failed, err.Error()
	}
	l.j.add(o)
}

const (
	editEvery = 4 * time.Second
	editPause = 200 * time.Millisecond
)

// edit edits the route once, and a value of the configuration again and again, by the command line.
func (l *load) edit() {
	l.command(operation{kind: rerouted, id: "edited-" + l.run}, "routes", "put", routeName, "-f", filepath.Join(l.sys.dir, "edited.yaml"))
	for n := 1; ; n++ {
		value := fmt.Sprintf("value-%s-%d", l.run, n)
		l.command(operation{kind: edited, id: value, body: value}, "config", "put", settingKey, value)
		select {
		case <-l.running.Done():
			return
		case <-time.After(editEvery):
		}
	}
}

// command runs a command until it succeeds or has been tried for too long.
func (l *load) command(o operation, args ...string) {
	ctx, cancel := context.WithTimeout(l.asking(), clientPatience)
	defer cancel()
	o.begin = time.Now()
	for o.tries = 1; ; o.tries++ {
		_, err := l.sys.skybus(ctx, args...)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			o.outcome, o.err = failed, err.Error()
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(editPause):
		}
	}
	l.j.add(o)
}
