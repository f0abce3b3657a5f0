//go:build unix

package whole_test

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/skybus-io/skybus/internal/proctest"
)

// progressLimit is how long after the last fault each kind of operation has to succeed again.
const progressLimit = 15 * time.Second

// What a process may have at the end: half as much again as after the warm-up, and something besides. A server has what the streams hold in memory, and
// is busy enough to be let have the garbage that skybus allows, which is 128 MiB.
const (
	moreMemory       = 32 << 20
	moreServerMemory = 192 << 20
	moreGoroutines   = 50
)

// awaitProgress waits until each kind of operation that is asked from now on has succeeded once.
func (r *rig) awaitProgress(within time.Duration, j witness) {
	r.t.Helper()
	since := time.Now()
	var missing []string
	if !proctest.Within(within, func() bool { missing = j.idle(since); return len(missing) == 0 }) {
		r.t.Errorf("no success within %v since %s: %s", within, since.Format(clock), strings.Join(missing, ", "))
		return
	}
	r.t.Logf("each kind of operation succeeds %v after %s", time.Since(since).Round(time.Millisecond), since.Format(clock))
}

// use is what a process has.
type use struct {
	memory     int64 // bytes; 0 where the system does not tell
	goroutines int   // 0 where the process does not tell
}

func (u use) String() string { return fmt.Sprintf("%d MiB, %d goroutines", u.memory>>20, u.goroutines) }

// limit is what a process of that kind may have later.
func (u use) limit(kind string) use {
	more := int64(moreMemory)
	if kind == serverKind {
		more = moreServerMemory
	}
	return use{memory: u.memory*3/2 + more, goroutines: u.goroutines*3/2 + moreGoroutines}
}

// most is the most that a process of each kind has. One of a kind may have all the work, and another one has it later. The backends and the receiver
// are not looked at: they keep all that comes, and hold nothing of skybus.
func (r *rig) most() map[string]use {
	r.t.Helper()
	all := map[string]use{}
	for _, u := range r.units {
		if u.kind == backendRole || u.kind == receiverRole {
			continue
		}
		now := r.use(u)
		all[u.kind] = use{max(now.memory, all[u.kind].memory), max(now.goroutines, all[u.kind].goroutines)}
	}
	return all
}

func (r *rig) use(u *unit) use {
	r.t.Helper()
	return use{u.process.Memory(), r.goroutines(u)}
}

// goroutines asks the admin pages of a process how many it has.
func (r *rig) goroutines(u *unit) int {
	r.t.Helper()
	if u.admin() == "" {
		return 0
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.admin()+"/debug/pprof/goroutine?debug=1", http.NoBody)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Errorf("the admin pages of %s: %v", u.name, err)
		return 0
	}
	defer func() { _ = resp.Body.Close() }() // all that matters was read
	line, _ := bufio.NewReader(resp.Body).ReadString('\n')
	var n int
	if _, err := fmt.Sscanf(line, "goroutine profile: total %d", &n); err != nil {
		r.t.Errorf("the admin pages of %s: %s %q: %v", u.name, resp.Status, line, err)
	}
	return n
}

// checkUse waits until no process has much more than those of its kind had.
func (r *rig) checkUse(before map[string]use) {
	r.t.Helper()
	var over []string
	if !proctest.Within(progressLimit, func() bool {
		over = nil
		for _, u := range r.units {
			if _, ok := before[u.kind]; !ok {
				continue
			}
			now, limit := r.use(u), before[u.kind].limit(u.kind)
			if now.memory > limit.memory || now.goroutines > limit.goroutines {
				over = append(over, fmt.Sprintf("%s has %v; after the warm-up the most that a %s had was %v", u.name, now, u.kind, before[u.kind]))
			}
		}
		return len(over) == 0
	}) {
		r.t.Errorf("not back to where they were: %s", strings.Join(over, "; "))
	}
	now := r.most()
	for _, kind := range slices.Sorted(maps.Keys(before)) {
		r.t.Logf("the most that a %s has: %v, after the warm-up %v", kind, now[kind], before[kind])
	}
}
