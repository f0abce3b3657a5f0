//go:build unix

package whole_test

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/internal/proctest"
	"github.com/skybus-io/skybus/micro"
)

const (
	routeName = "whole"
	// firstRoute is what the route is before the load begins, editedRoute what it is a moment later and has to stay.
	firstRoute = `steps:
  - {service: order, endpoint: create, retry: true}
  - {service: stock, endpoint: remind, retry: true}
  - {service: note, endpoint: write, async: true}
`
	editedRoute = `steps:
  - {service: order, endpoint: create, retry: true}
  - {service: stock, endpoint: reserve, retry: true}
  - {service: stock, endpoint: remind, retry: true}
  - {service: note, endpoint: write, async: true}
`
	// entries of the gateways. The lease is how long a repeat waits for a gateway that died.
	entries = `entries:
  whole:
    {method: POST, path: /whole, route: whole, timeout: 5s}
  whole-once:
    {method: POST, path: /once, route: whole, timeout: 5s, idempotency: {ttl: 10m, required: true, lease: 2s, wait: 2s}}
  whole-later:
    {method: POST, path: /later, call: stock.later, async: {always: true, attempts: 100}}
`
)

// load is all clients of a run. What they ask for, and when they mean to, comes from the seed.
type load struct {
	t    *testing.T
	sys  *system
	j    *journal
	seed uint64
	run  string // is in each id

	speed float64 // of this machine: 1 where round trips take no more than usualTrip

	gateways, schedulers, mirrors []*client // each prefers another one
	sdk                           *micro.Client

	running context.Context //nolint:containedctx // of the clients: it ends when no more is asked for
	end     context.CancelFunc
	clients sync.WaitGroup
}

// prepareLoad stores what the load needs, as soon as there are servers.
func prepareLoad(t *testing.T, sys *system) {
	t.Helper()
	for name, text := range map[string]string{"route.yaml": firstRoute, "edited.yaml": editedRoute, "entries.yaml": entries} {
		if err := os.WriteFile(filepath.Join(sys.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"routes", "put", routeName, "-f", filepath.Join(sys.dir, "route.yaml")},
		{"http", "apply", "-f", filepath.Join(sys.dir, "entries.yaml")},
	} {
		var err error
		if !proctest.Within(proctest.Patience, func() bool { _, err = sys.skybus(t.Context(), args...); return err == nil }) {
			t.Fatal(err)
		}
	}
}

// skybus runs a command to its end.
func (s *system) skybus(ctx context.Context, args ...string) (stdout string, err error) {
	ctx, cancel := context.WithTimeout(ctx, clientPatience)
	defer cancel()
	var out, errs strings.Builder
	cmd := exec.CommandContext(ctx, s.program, append(args, "--server", s.server())...)
	cmd.Env = []string{"HOME=" + s.dir, "PATH=" + os.Getenv("PATH")}
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("skybus %s: %w: %s", strings.Join(args[:2], " "), err, bytes.TrimSpace([]byte(errs.String())))
	}
	return out.String(), nil
}

// startLoad starts the clients, which go on until stop or the end of ctx. prepareLoad was called before, and all of sys is ready.
func startLoad(t *testing.T, ctx context.Context, sys *system, seed uint64, j *journal) *load { //nolint:revive // a test's helper
	t.Helper()
	l := &load{t: t, sys: sys, j: j, seed: seed, run: strconv.FormatInt(time.Now().UnixMilli(), 36)}
	l.running, l.end = context.WithCancel(ctx)
	for i := range 2 {
		l.gateways = append(l.gateways, newClient(sys.gateways, i))
		l.schedulers = append(l.schedulers, newClient(sys.schedulers, i))
		l.mirrors = append(l.mirrors, newMirrorClient(sys.mirrors, i))
	}
	l.open()
	t.Cleanup(l.stop)
	trip := roundTrip(t)
	l.speed = min(1, float64(usualTrip)/float64(trip))
	t.Logf("the load is %.0f %% of what it can be: a round trip of TCP takes %v", 100*l.speed, trip)
	// Rates are those that two busy cores bear with all the processes of the system.
	l.pace(called, 15, func(r *rand.Rand, id string) { l.call(called, "/whole", r, id) })
	l.pace(once, 10, func(r *rand.Rand, id string) { l.call(once, "/once", r, id) })
	l.pace(later, 5, func(r *rand.Rand, id string) { l.call(later, "/later", r, id) })
	l.pace(routed, 10, l.callRouter)
	l.pace(created, 25, l.timer)
	l.pace(written, 30, l.write)
	l.pace(dropped, 2, l.drop)
	l.clients.Go(l.edit)
	return l
}

// stop ends the load, and returns when all that was asked for was answered.
func (l *load) stop() {
	l.end()
	l.clients.Wait()
	for _, all := range [][]*client{l.gateways, l.schedulers, l.mirrors} {
		for _, c := range all {
			c.close()
		}
	}
}

// asking is the context of what was asked for, which is finished when the load has ended.
func (l *load) asking() context.Context { return context.WithoutCancel(l.running) }

// crowd is how many seconds' worth of operations may be under way; what comes then is not asked for. Timers take some seconds; of all else there is
// less, so that what is slow is not made slower by those who wait for it.
func crowd(k kind) int {
	if k == created {
		return 12
	}
	return 4
}

// pace asks for something so many times a second, whether or not what was asked for before was answered. Each time ask gets its own
// chance, and an id.
func (l *load) pace(k kind, perSecond int, ask func(r *rand.Rand, id string)) {
	places := make(chan struct{}, crowd(k)*perSecond)
	stream := hashText(string(k))
	name := strings.ReplaceAll(string(k), " ", "-")
	l.clients.Go(func() {
		tick := time.NewTicker(time.Duration(float64(time.Second) / (float64(perSecond) * l.speed)))
		defer tick.Stop()
		for n := uint64(1); ; n++ {
			select {
			case <-l.running.Done():
				return
			case <-tick.C:
			}
			select {
			case places <- struct{}{}:
			default:
				continue
			}
			l.clients.Go(func() {
				defer func() { <-places }()
				r := rand.New(rand.NewPCG(l.seed^stream, n)) //nolint:gosec // for tests
				ask(r, fmt.Sprintf("%s-%s-%d", name, l.run, n))
			})
		}
	})
}

func hashText(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s)) // never fails
	return h.Sum64()
}

// either is one of two clients.
func either(r *rand.Rand, clients []*client) *client { return clients[r.IntN(len(clients))] }

// settle notes what came of an operation. unfit says what is wrong with an answer that came, or nothing.
func (l *load) settle(o operation, a response, unfit string) {
	o.tries = a.tries
	switch {
	case a.err != "":
		o.outcome, o.err = failed, a.err
	case unfit != "" && o.outcome == acked:
		o.outcome, o.err = failed, unfit
	}
	l.j.add(o)
}
