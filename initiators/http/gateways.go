package http

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

// GatewaysBucket is where gateways tell which revision they serve: <app>.<env>.<id> -> [Report], with a TTL.
const GatewaysBucket = "skybus_gateways"

const (
	gatewaysBytes = 4 << 20
	reportTTL     = 10 * time.Second
	reportEvery   = 3 * time.Second
	mostRefusals  = 50
	maxReason     = 300
)

// Report is what a gateway tells of itself.
type Report struct {
	ID      string    `json:"id"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	// Revision is the last change of the entries that it serves by.
	Revision  uint64   `json:"revision"`
	Entries   int      `json:"entries"` // in service
	Listeners []string `json:"listeners,omitempty"`
	// Refused are entries that it does not serve, by name, with the reason; of many only some.
	Refused map[string]string `json:"refused,omitempty"`
}

// String names the gateway for people.
func (r Report) String() string { return fmt.Sprintf("%s (%s, process %d)", r.ID, r.Host, r.PID) }

func openReports(ctx context.Context, conn *bus.Conn, bind bool) (*kv.Table[Report], error) {
	return kv.Open[Report](ctx, conn, GatewaysBucket, kv.Config{
		Bind: bind, MaxBytes: gatewaysBytes, Logger: conn.Logger(), Description: "skybus: gateways and the entries that they serve",
	})
}

// reporter tells what a gateway serves.
type reporter struct {
	gateway *Gateway
	table   *kv.Table[Report] // nil where that may not be told
	key     string
	report  Report
	wake    chan struct{}
}

// newReporter makes a reporter. A gateway whose role may not tell works all the same: nobody can wait for it then.
func newReporter(ctx context.Context, g *Gateway, conn *bus.Conn) *reporter {
	host, _ := os.Hostname() // without a name it has none
	id := nuid.Next()
	r := &reporter{gateway: g, key: conn.Namespace().Key(id), wake: make(chan struct{}, 1), report: Report{
		ID: id, Host: host, PID: os.Getpid(), Started: time.Now().UTC().Truncate(time.Second), Listeners: g.cfg.Listeners,
	}}
	table, err := openReports(ctx, conn, false)
	if err != nil {
		g.log.WarnContext(ctx, "nobody is told which entries this gateway serves", "error", err)
		return r
	}
	r.table = table
	return r
}

// changed makes the reporter tell at once.
func (r *reporter) changed() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run tells until ctx ends, and then that the gateway is gone.
func (r *reporter) run(ctx context.Context) {
	if r.table == nil {
		return
	}
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	warned := false
	for {
		err := r.tell(ctx)
		if err != nil && ctx.Err() == nil && !warned {
			warned = true
			r.gateway.log.WarnContext(ctx, "nobody is told which entries this gateway serves", "error", err)
		}
		if err == nil {
			warned = false
		}
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = r.table.Delete(last, r.key) // else it expires
			return
		case <-r.wake:
		case <-tick.C:
		}
	}
}

func (r *reporter) tell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reportEvery)
	defer cancel()
	report := r.report
	t := r.gateway.table.Load()
	report.Revision, report.Entries = t.revision, len(t.byName)
	for _, name := range sorted(t.refused) {
		if len(report.Refused) == mostRefusals {
			break
		}
		if report.Refused == nil {
			report.Refused = map[string]string{}
		}
		report.Refused[name] = reason(t.refused[name].err)
	}
	_, err := r.table.Put(ctx, r.key, report, kv.TTL(reportTTL))
	return err
}

// reason is an error for people, not too long.
func reason(err error) string {
	return strings.ToValidUTF8(fmt.Sprintf("%.*s", maxReason, plainText(err)), "")
}

// plainText is err without its code, which says nothing new beside what is wrong.
func plainText(err error) string {
	if e, ok := errors.AsType[*bus.Error](err); ok {
		return e.Message
	}
	return err.Error()
}

// Gateways are the gateways of a namespace that live, by id.
func Gateways(ctx context.Context, conn *bus.Conn) ([]Report, error) {
	table, err := openReports(ctx, conn, true)
	if errors.Is(err, kv.ErrNoBucket) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	var all []Report
	for e, err := range table.List(ctx, conn.Namespace().Key("*")) {
		if err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
		if e.Err == nil {
			all = append(all, e.Value)
		}
	}
	return all, nil
}

// Wait returns when every gateway that lives serves by the revision given, or a later one, and returns them by id: none where there are none.
// A gateway is taken for alive for 10 s after it last said so. When ctx ends first the error has the code deadline_exceeded and names those that are
// behind. An entry that a gateway refuses is not waited for: see [Report].Refused.
func Wait(ctx context.Context, conn *bus.Conn, revision uint64) ([]Report, error) {
	table, err := openReports(ctx, conn, true)
	if errors.Is(err, kv.ErrNoBucket) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	following, stop := context.WithCancel(ctx)
	defer stop()
	var mu sync.Mutex
	known, loaded := map[string]Report{}, false
	behind := func() (late []string) {
		for _, id := range sorted(known) {
			if r := known[id]; r.Revision < revision {
				late = append(late, fmt.Sprintf("%v serves revision %d", r, r.Revision))
			}
		}
		return late
	}
	err = table.Follow(following, conn.Namespace().Key("*"), func(batch []kv.Entry[Report]) {
		mu.Lock()
		defer mu.Unlock()
		loaded = true
		for _, e := range batch {
			if e.Deleted {
				delete(known, e.Key)
			} else if e.Err == nil {
				known[e.Key] = e.Value
			}
		}
		if len(behind()) == 0 {
			stop()
		}
	})
	mu.Lock()
	defer mu.Unlock()
	all := slices.SortedFunc(maps.Values(known), func(a, b Report) int { return strings.Compare(a.ID, b.ID) })
	late := behind()
	switch {
	case err != nil:
		return all, fmt.Errorf("gateway: follow the gateways: %w", err)
	case !loaded:
		return nil, bus.Errorf(bus.DeadlineExceeded, "gateway: what the gateways serve could not be read in time: %w", context.Cause(ctx))
	case len(late) > 0:
		return all, bus.Errorf(bus.DeadlineExceeded, "not every gateway serves revision %d yet: %s", revision, strings.Join(late, "; ")).
			With("missing", strings.Join(late, "; "))
	}
	return all, nil
}
