package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

// The further measurements by name.
const (
	nameSlow     = "slow"
	nameOutlier  = "outlier"
	nameHash     = "hash"
	nameTakeover = "takeover"
	nameWatch    = "watch"
	nameStream   = "stream"
	nameRoute    = "route"
	nameClient   = "client"
)

// part is a measurement whose figures are sections.
type part struct {
	name string
	run  func(b *bench, ctx context.Context) ([]section, error)

	group   string        // a name for several parts; empty means none
	program bool          // it needs the skybus program
	large   bool          // it is made only where it is named itself
	limit   time.Duration // it bounds the part beside what its windows take; 0 means partLimit
}

// wanted tells whether the part is to be made.
func (p part) wanted(s settings) bool {
	if p.large {
		return slices.Contains(s.only, p.name)
	}
	return s.wants(p.name, p.group)
}

func parts() []part {
	return []part{
		{name: nameSlow, run: (*bench).slow},
		{name: nameOutlier, run: (*bench).outlier},
		{name: nameHash, run: (*bench).hash},
		{name: nameTakeover, run: (*bench).takeover},
		{name: nameWatch, run: (*bench).watch},
		{name: nameStream, run: (*bench).stream},
		{name: nameRoute, run: (*bench).route},
		{name: nameClient, run: (*bench).client},
		{name: nameGatewayCall, run: (*bench).gatewayCall, group: nameGateway, program: true},
		{name: nameGatewaySlowloris, run: (*bench).gatewaySlowloris, group: nameGateway, program: true, limit: 2 * time.Minute},
		{name: nameSSE, run: (*bench).sse, group: nameGateway, program: true, limit: 3 * time.Minute},
		{name: nameTCP, run: (*bench).tcp, program: true},
		{name: nameTimersCreate, run: (*bench).timersCreate, group: nameTimers},
		{name: nameTimersHTTP, run: (*bench).timersHTTP, group: nameTimers, program: true},
		{name: nameTimersCluster, run: (*bench).timersCluster, group: nameTimers, program: true},
		{name: nameTimersLate, run: (*bench).timersLate, group: nameTimers},
		{name: nameTimersHooks, run: (*bench).timersHooks, group: nameTimers},
		{name: nameTimersAlone, run: (*bench).timersAlone, group: nameTimers},
		{name: nameMirrorWrite, run: (*bench).mirrorWrite, group: nameMirror, program: true},
		{name: nameMirrorCluster, run: (*bench).mirrorCluster, group: nameMirror, program: true},
		{name: nameMirrorRead, run: (*bench).mirrorRead, group: nameMirror, program: true},
		{name: nameMirrorDrain, run: (*bench).mirrorDrain, group: nameMirror, program: true, limit: 5 * time.Minute},
		{name: nameMirrorMillion, run: (*bench).mirrorMillion, program: true, large: true, limit: 15 * time.Minute},
		{name: nameFiles, run: (*bench).files, program: true, large: true, limit: 15 * time.Minute},
		{name: nameTimersMillion, run: (*bench).timersMillion, program: true, large: true, limit: 10 * time.Minute},
		{name: nameTimersTenMillion, run: (*bench).timersTenMillion, program: true, large: true, limit: time.Hour},
	}
}

// partLimit bounds most parts, beside what their windows take: something hangs that takes longer.
const partLimit = time.Minute

// part makes one of the further measurements.
func (b *bench) part(ctx context.Context, p part) ([]section, error) {
	limit := cmp.Or(p.limit, partLimit) + 32*time.Duration(b.set.windows)*b.set.window
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done after %v", limit))
	defer cancel()
	b.progress.step(p.name, "starting")
	before, err := everybody()
	if err != nil {
		return nil, err
	}
	sections, err := p.run(b, ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, errors.Join(err, context.Cause(ctx)))
	}
	after, err := everybody()
	for i := range sections {
		sections[i].Others = after.machine.others(before.machine, after.own-before.own)
	}
	return sections, err
}

// used is the CPU time of the machine and of this process with all that it started and that have ended.
type used struct {
	machine machineTime
	own     time.Duration
}

func everybody() (u used, err error) {
	if u.machine, err = machineCPU(); err != nil {
		return u, err
	}
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var ru syscall.Rusage
		if err := syscall.Getrusage(who, &ru); err != nil {
			return u, fmt.Errorf("getrusage: %w", err)
		}
		u.own += time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	}
	return u, nil
}

// section is figures that have the same columns.
type section struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns"`
	Rows    []row    `json:"rows"`
	Notes   []string `json:"notes,omitempty"`
	// Others is the share of the machine's CPUs that everybody else used during the measurement, 0 to 1.
	Others float64 `json:"others_cpu_share"`
}

// row is the figures of one of the things that a section compares.
type row struct {
	What   string    `json:"what"`
	Values []float64 `json:"values"` // medians of the windows, unless the section says otherwise
	// Ratio: the values are those of the first row as multiples of those of the last before this one.
	Ratio   bool        `json:"ratio,omitempty"`
	Windows [][]float64 `json:"windows,omitempty"`
}

func newRow(what string, windows [][]float64) row {
	r := row{What: what, Windows: windows}
	for i := range windows[0] {
		r.Values = append(r.Values, median(column(windows, i)))
	}
	return r
}

// column is the i-th figure of each window.
func column(windows [][]float64, i int) []float64 {
	var values []float64
	for _, w := range windows {
		values = append(values, w[i])
	}
	return values
}

// ratio is the median of a as a multiple of b in each pair of neighbouring windows.
func ratio(a, b row) row {
	r := row{What: "ratio", Ratio: true}
	for i := range a.Values {
		var ratios []float64
		for j := range a.Windows {
			if d := b.Windows[j][i]; d != 0 {
				ratios = append(ratios, a.Windows[j][i]/d)
			}
		}
		r.Values = append(r.Values, median(ratios))
	}
	return r
}

// variant is one of several that take turns.
type variant struct {
	what   string
	window func() ([]float64, error)
}

// turns measures the variants one after the other, again and again, so that what else the machine does hits all alike.
func (b *bench) turns(ctx context.Context, name string, windows int, variants []variant) ([]row, error) {
	all := make([][][]float64, len(variants))
	for i := range windows {
		for j, v := range variants {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			b.progress.step(name, fmt.Sprintf("window %d of %d, %s", i+1, windows, v.what))
			values, err := v.window()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", v.what, err)
			}
			all[j] = append(all[j], values)
		}
	}
	var rows []row
	for j, v := range variants {
		rows = append(rows, newRow(v.what, all[j]))
	}
	return rows, nil
}

// crew is the processes of a part. Those who need others are started after them, and end before.
type crew struct {
	dir string
	all []*child
}

// server starts a NATS server and returns its URL.
func (c *crew) server(ctx context.Context) (*child, string, error) {
	store, err := os.MkdirTemp(c.dir, "server-")
	if err != nil {
		return nil, "", err
	}
	server, ans, err := c.start(ctx, roleServer, order{Dir: store})
	return server, ans.URL, err
}

// start starts a process of the part and returns when it is ready.
func (c *crew) start(ctx context.Context, r role, o order) (*child, answer, error) {
	p, err := spawn(ctx, r)
	if err != nil {
		return nil, answer{}, err
	}
	c.all = append(c.all, p)
	o.Op = opStart
	ans, err := p.do(o)
	return p, ans, err
}

func (c *crew) close() error {
	var errs []error
	for _, p := range slices.Backward(c.all) {
		errs = append(errs, p.close())
	}
	return errors.Join(errs...)
}

// cpu is what the processes have used so far.
func cpu(processes ...*child) (time.Duration, error) {
	var sum time.Duration
	for _, p := range processes {
		ans, err := p.do(order{Op: opUse})
		if err != nil {
			return 0, err
		}
		sum += ans.Use.CPU
	}
	return sum, nil
}

// using does what f does and tells what CPU time the processes used meanwhile.
func using(f func() error, processes ...*child) (time.Duration, error) {
	before, err := cpu(processes...)
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := cpu(processes...)
	return after - before, err
}
