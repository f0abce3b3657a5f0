//go:build unix

package whole_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/proctest"
)

const (
	// settlePatience is how long after the load everything may take to arrive that was acknowledged. Deliveries that failed wait longer
	// each time they do.
	settlePatience = 90 * time.Second
	settlePause    = 200 * time.Millisecond
	quietFor       = time.Second // without a new record
)

// verdict compares what clients were told with what the ends recorded, once everything has arrived, and prints the tables. The load has
// been stopped, all of sys runs.
func verdict(t *testing.T, sys *system, j *journal) {
	t.Helper()
	e := collect(t, sys, j)
	g := e.judge()
	t.Logf("\n%s\n%s\n%s", e.table(), e.gapTable(), g.counted())
	if len(g.found) > 0 {
		e.keep(t, sys, g)
	}
	for _, rule := range slices.Sorted(maps.Keys(g.found)) {
		all := g.found[rule]
		t.Errorf("%s: %d, such as\n\t%s", rule, len(all), strings.Join(all[:min(5, len(all))], "\n\t"))
	}
}

// keep keeps what led to the verdict where `go test -artifacts` asks for that, and shows what was given up.
func (e *evidence) keep(t *testing.T, sys *system, g *judgement) {
	t.Helper()
	for _, what := range []string{"timers", "routes"} {
		if dead, err := sys.skybus(t.Context(), what, "dead", "ls"); err == nil && dead != "" {
			t.Logf("given up, %s:\n%.2000s", what, dead)
		}
	}
	if f := flag.Lookup("test.artifacts"); f == nil || f.Value.String() != "true" {
		return
	}
	var b strings.Builder
	for _, o := range e.ops {
		fmt.Fprintf(&b, "%+v\n", o)
	}
	for rule, all := range g.found {
		fmt.Fprintf(&b, "%s:\n\t%s\n", rule, strings.Join(all, "\n\t"))
	}
	err := os.WriteFile(filepath.Join(t.ArtifactDir(), "clients.txt"), []byte(b.String()), 0o600)
	if err == nil {
		err = os.CopyFS(filepath.Join(t.ArtifactDir(), "journals"), os.DirFS(sys.dir))
	}
	if err != nil {
		t.Error(err)
	}
}

// evidence is all that is known of a run.
type evidence struct {
	ops      []operation
	faults   []fault
	expected []string // names of the children
	children map[string]*childJournal
	mark     string             // that must be the last record of each child
	contents map[string]content // of the backends, as they show them
	setting  string             // the value of the configuration
	route    string             // the steps of the route
	left     []string           // what should have been done and is still waiting
}

// collect waits until nothing is missing and nothing happens any more, and reads everything.
func collect(t *testing.T, sys *system, j *journal) *evidence {
	t.Helper()
	e := &evidence{expected: childNames(), contents: map[string]content{}}
	e.ops, e.faults = j.snapshot()
	r := newReader(sys.dir)
	e.children = r.children
	begin, still := time.Now(), time.Now()
	for {
		more, err := r.read()
		if err != nil {
			t.Fatal(err)
		}
		if more && e.busy(r) {
			still = time.Now()
		}
		e.left = sys.left(t.Context())
		missing := len(e.left) + len(e.judge().missing())
		if missing == 0 && time.Since(still) > quietFor || time.Since(begin) > settlePatience {
			t.Logf("settled %v after the load, %d missing", time.Since(begin).Round(time.Millisecond), missing)
			break
		}
		time.Sleep(settlePause) // between two looks
	}
	e.mark = e.markAll(t, sys, r)
	for i, url := range sys.backends {
		e.contents[fmt.Sprintf("%s-%d", backendRole, i+1)] = askContent(t, url)
	}
	var err error
	if e.setting, err = sys.skybus(t.Context(), "config", "get", settingKey); err == nil {
		e.route, err = sys.skybus(t.Context(), "routes", "get", routeName, "-o", "json")
	}
	if err != nil {
		t.Error(err)
	}
	e.setting = strings.TrimSpace(e.setting)
	return e
}

// busy tells whether somebody asked for something since the last time: leaders and settings go on by themselves.
func (e *evidence) busy(r *reader) bool {
	n := 0
	for _, c := range r.children {
		for _, rec := range c.records[c.seen:] {
			if rec.What != led && rec.What != acted && rec.What != learned {
				n++
			}
		}
		c.seen = len(c.records)
	}
	return n > 0
}

// markAll makes all children write a mark, again when something came after it, and returns its name.
func (e *evidence) markAll(t *testing.T, sys *system, r *reader) (mark string) {
	t.Helper()
	for n := 1; n <= 5; n++ {
		mark = fmt.Sprintf("mark-%d-%d", n, time.Now().UnixNano())
		if err := askForMark(sys.dir, mark); err != nil {
			t.Fatal(err)
		}
		whole := func() bool {
			if _, err := r.read(); err != nil {
				t.Fatal(err)
			}
			for _, name := range e.expected {
				if c := r.children[name]; c == nil || !c.ends(mark) {
					return false
				}
			}
			return true
		}
		if proctest.Within(10*time.Second, whole) {
			time.Sleep(settlePause) // what comes now is asked for by nobody
			if whole() {
				break
			}
		}
	}
	return mark
}

func askContent(t *testing.T, url string) content {
	t.Helper()
	c := newClient([]string{url}, 0)
	defer c.close()
	v := newContent()
	a := c.ask(t.Context(), request{method: http.MethodGet, path: contentPath})
	if a.err != "" {
		t.Fatalf("content: %s", a.err)
	}
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// left is what waits in the queues, and timers that are pending.
func (s *system) left(ctx context.Context) (left []string) {
	ctx, cancel := context.WithTimeout(ctx, clientPatience)
	defer cancel()
	unknown := func(err error) []string { return append(left, "unknown: "+err.Error()) }
	conn, err := bus.Connect(ctx, bus.Config{Server: s.server(), Name: "verdict"})
	if err != nil {
		return unknown(err)
	}
	defer func() { _ = conn.Close() }() // it has nothing left to say
	streams := conn.JetStream().ListStreams(ctx)
	for info := range streams.Info() {
		if info.Config.Retention == jetstream.WorkQueuePolicy && info.State.Msgs > 0 {
			left = append(left, fmt.Sprintf("%s holds %d", info.Config.Name, info.State.Msgs))
		}
	}
	if err := streams.Err(); err != nil {
		return unknown(err)
	}
	return left
}

// judgement is what is wrong with a run.
type judgement struct {
	e      *evidence
	found  map[string][]string // by rule
	counts map[string]int      // what may be, and how often it was
}

// The rules. Those of missing things may be broken until all has arrived.
const (
	ruleComplete  = "journal is not whole"
	ruleVacuous   = "nothing of it happened"
	ruleLeft      = "left waiting"
	ruleCall      = "acknowledged call or asynchronous step lost"
	ruleLater     = "acknowledged request that is answered later lost"
	ruleRecord    = "record of a file lost"
	ruleTimer     = "acknowledged timer lost"
	ruleWrite     = "acknowledged write lost"
	ruleCancelled = "fired after an acknowledged cancel"
	ruleEarly     = "fired early"
	ruleTwice     = "again under another id"
	ruleDenied    = "timer unknown while it was pending"
	ruleOrder     = "out of order"
	ruleSenders   = "two send at one time"
	ruleForeign   = "write that nobody made"
	ruleContents  = "contents differ"
	ruleStale     = "read older than asked for"
	ruleTerms     = "two valid terms at one time"
	ruleFence     = "an older term acted after a later one"
	ruleRoute     = "the edited route did not run"
	ruleSetting   = "edited configuration lost"
	ruleAbandoned = "stopped with requests in hand"
	ruleFailed    = "failed while no server was away"
	ruleProgress  = "no progress after the last fault"
)

func (e *evidence) judge() *judgement {
	g := &judgement{e: e, found: map[string][]string{}, counts: map[string]int{}}
	g.complete()
	g.calls()
	g.fileRecords()
	g.timers()
	g.writes()
	g.leaders()
	g.settings()
	g.failures()
	g.progress()
	return g
}

// missing is what may still arrive.
func (g *judgement) missing() (all []string) {
	for _, rule := range []string{ruleCall, ruleLater, ruleRecord, ruleTimer, ruleWrite} {
		all = append(all, g.found[rule]...)
	}
	return all
}

func (g *judgement) wrong(rule, format string, args ...any) {
	g.found[rule] = append(g.found[rule], fmt.Sprintf(format, args...))
}

// counted are the things that may be.
func (g *judgement) counted() string {
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(g.counts)) {
		fmt.Fprintf(&b, "%s: %d\n", what, g.counts[what])
	}
	return b.String()
}

// complete looks whether everything was read, and whether there was anything.
func (g *judgement) complete() {
	for _, name := range g.e.expected {
		c := g.e.children[name]
		switch {
		case c == nil:
			g.wrong(ruleComplete, "%s has none", name)
			continue
		case !c.ends(g.e.mark):
			g.wrong(ruleComplete, "%s does not end with %q, after %d records", name, g.e.mark, len(c.records))
		}
		for _, w := range c.wrong {
			g.wrong(ruleComplete, "%s: %s", name, w)
		}
	}
	for _, what := range g.e.left {
		g.wrong(ruleLeft, "%s", what)
	}
	g.e.each(abandoned, func(child string, r record) { g.wrong(ruleAbandoned, "%s, %d requests", child, r.Number) })
	succeeded := map[kind]int{}
	for _, o := range g.e.ops {
		if o.outcome == acked {
			succeeded[o.kind]++
		}
	}
	for _, k := range kinds() {
		if succeeded[k] == 0 {
			g.wrong(ruleVacuous, "no %s succeeded", k)
		}
	}
	happened := map[what]int{}
	for _, c := range g.e.children {
		for _, r := range c.records {
			happened[r.What]++
		}
	}
	for _, w := range []what{stepped, delivered, wrote, looked, applied, led, acted, learned} {
		if happened[w] == 0 {
			g.wrong(ruleVacuous, "no %s was recorded", w)
		}
	}
}

// each yields the records of one sort, by child.
func (e *evidence) each(w what, f func(child string, r record)) {
	for _, name := range slices.Sorted(maps.Keys(e.children)) {
		for _, r := range e.children[name].records {
			if r.What == w {
				f(name, r)
			}
		}
	}
}

// outage tells whether servers were away, or had no leader yet, while o was under way.
func (e *evidence) outage(o operation) bool {
	return slices.ContainsFunc(e.faults, func(f fault) bool {
		return f.outage() && !o.begin.After(f.end.Add(leaderGap)) && !o.end.Before(f.begin)
	})
}

// leaderGap is how long clients may notice that a server was lost.
const leaderGap = 10 * time.Second
