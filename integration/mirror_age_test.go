//go:build unix

package integration_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/mirror"
)

// TestMirrorCopyAwayTooLong keeps a copy away for longer than a write may wait for it. What is too old is given up for that copy and parked, which its status says;
// what is not, the copy gets in order when it is back. Neither the clients nor the others are held up. Then the copy is brought level as the guide says.
func TestMirrorCopyAwayTooLong(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	const age = 3 * time.Second
	server := startMirrorServer(t)
	r := newMirrorRig(t, server.Ports["nats"], 3, 0, "ack: quorum") // of three, one of them away: both others have answered
	r.edit("tries: 1000", "tries: 1000, max_age: "+age.String())
	r.procs = []*platform{r.startMirror()}
	r.ever = slices.Clone(r.procs)
	m, url := r.open(), r.urls()[0]
	w := startWriters(t, r.urls(), 8, 200)
	w.await(100)
	c := r.copies[2]
	away := time.Now()
	c.Kill()
	const path = "/item/watched"
	old := w.write(url, apply{Method: http.MethodPut, Path: path, Body: "old"})
	if s := writeStatusAt(t, url, old.Seq); s.Backends["c"].State != "waiting" && time.Since(old.begin) < age {
		t.Errorf("before it is too old: %+v", s)
	}
	var s mirror.WriteStatus
	eventually(t, patience, "the write is given up", func() bool {
		s = writeStatusAt(t, url, old.Seq)
		return s.Backends["c"].State == "given-up"
	})
	if took := time.Since(old.begin); took < age {
		t.Errorf("given up after %v, want after %v", took, age)
	}
	if s.State != "partly" || s.Backends["a"].State != "applied" || s.Backends["b"].State != "applied" {
		t.Errorf("given up for c alone, and the status is %+v", s)
	}
	news := func() sent { return w.write(url, apply{Method: http.MethodPut, Path: path, Body: "new"}) }
	last := news()
	back := time.Now()
	c.restart()
	c.awaitYoung(t, &last, age, news)
	w.await(200)
	all := w.end()

	end := r.lastStored()
	given := r.givenUp(m, c, "c", end)
	r.quiet()
	l := latenciesOf(all, away, back)
	t.Logf("%s; while the copy was away %v; %d writes were given up for it", statuses(all), l, len(given))
	if l.gap > 2*time.Second {
		t.Errorf("clients were without an answer for %v", l.gap)
	}
	for i, c := range r.copies {
		v := r.judge(all, c, 0, end)
		t.Logf("copy %s: %v", copyName(i), v)
		if i == 2 {
			v.lost = slices.DeleteFunc(v.lost, func(seq uint64) bool { return given[seq] })
		}
		v.check(r, copyName(i))
	}
	if !given[old.Seq] || given[last.Seq] {
		t.Errorf("given up were %d writes, want %d among them and not %d", len(given), old.Seq, last.Seq)
	}
	r.repairFrom(c, "c", slices.Min(slices.Collect(maps.Keys(given))))
}

// awaitYoung waits until the copy has got the last write. That may get too old, too, as a copy is tried again after a while only: then there is another.
func (c *copyProcess) awaitYoung(t *testing.T, last *sent, age time.Duration, news func() sent) {
	t.Helper()
	eventually(t, patience, "the copy gets what is not too old, in the same lane", func() bool {
		if time.Since(last.begin) > age {
			*last = news()
		}
		return c.lacks(last.Seq-1, last.Seq) == 0
	})
}

// givenUp waits until a copy has got all writes up to the last but for those that are parked for it, which it returns.
func (r *mirrorRig) givenUp(m *mirror.Mirror, c *copyProcess, name string, last uint64) map[uint64]bool {
	r.t.Helper()
	given := map[uint64]bool{}
	eventually(r.t, patience, "what the copy has not got is parked", func() bool {
		for p, err := range m.Parked().List(r.t.Context(), mirror.ParkedFilter{}) {
			if err != nil {
				r.t.Fatal(err)
			}
			if given[p.Seq] = true; p.Backend != name || p.Others != "taken" {
				r.t.Fatalf("parked is %+v", p)
			}
			c.seen[p.Seq] = true
		}
		return c.lacks(0, last) == 0
	})
	return given
}

// repairFrom sends a copy all writes again from the first that was given up for it, and lets go of what is parked. Then it has what the first copy has.
func (r *mirrorRig) repairFrom(c *copyProcess, name string, seq uint64) {
	r.t.Helper()
	skybus(r.t, r.server, "mirror", "repair", name, "--from", strconv.FormatUint(seq, 10), "--yes")
	skybus(r.t, r.server, "mirror", "drain", name, "--wait", patience.String())
	skybus(r.t, r.server, "mirror", "parked", "drop", name, "--all", "--yes")
	if list := skybus(r.t, r.server, "mirror", "parked", "-o", "json"); strings.TrimSpace(list) != "[]" {
		r.t.Errorf("still parked: %s", list)
	}
	got, want := c.content().Values, r.copies[0].content().Values
	for path, text := range want {
		if !slices.Equal(sortedLines(got[path]), sortedLines(text)) { // what was added was added in another order
			r.t.Errorf("after the repair copy %s has %.200q at %s, want %.200q", name, got[path], path, text)
		}
	}
	if len(got) != len(want) {
		r.t.Errorf("after the repair copy %s has %d paths, want %d", name, len(got), len(want))
	}
}

func sortedLines(text string) []string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return lines
}

// writeStatusAt asks a process for the status of a write, as its client would.
func writeStatusAt(t *testing.T, url string, seq uint64) (s mirror.WriteStatus) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+mirror.DefaultStatusPath+strconv.FormatUint(seq, 10), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	data, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status of write %d: %d %v: %s", seq, resp.StatusCode, err, data)
	}
	return s
}
