package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	pendingQuick = 2_000
	loadPoll     = 10 * time.Millisecond
	loadTimeout  = 5 * time.Minute
	createChunk  = 250_000 // timers between two looks at how far it is
	firstDue     = 6 * time.Hour
	restTime     = 130 * time.Second // Go collects garbage every two minutes at least
	diskEach     = 2_000             // bytes of disk and of memory that a timer may need, so that others are left some
	memoryEach   = 1_500
)

func (b *bench) timersMillion(ctx context.Context) ([]section, error) {
	return b.pending(ctx, nameTimersMillion, 1_000_000)
}

func (b *bench) timersTenMillion(ctx context.Context) ([]section, error) {
	return b.pending(ctx, nameTimersTenMillion, 10_000_000)
}

// pending is what timers that wait take, and how long servers and schedulers that were killed take to have them again.
func (b *bench) pending(ctx context.Context, name string, n int) (_ []section, err error) {
	if b.set.quick {
		n = pendingQuick
	}
	if err := b.room(n); err != nil {
		return nil, err
	}
	s, err := b.startStation(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop(), os.RemoveAll(s.store)) }()
	before, err := s.footprint(ctx)
	if err != nil {
		return nil, err
	}
	rate, err := b.fill(ctx, name, s, n)
	if err != nil {
		return nil, err
	}
	after, err := b.rested(ctx, name, s)
	if err != nil {
		return nil, err
	}
	b.progress.step(name, "killing all")
	ready, loaded, err := s.restart(ctx, n)
	if err != nil {
		return nil, err
	}
	again, err := b.rested(ctx, name, s)
	if err != nil {
		return nil, err
	}
	took := section{
		Name: name, Columns: []string{"server RSS at once", "after a rest", "owner RSS at once", "after a rest", "owner heap", "disk"},
		Rows: []row{
			{What: "bytes each, after creating", Values: after.each(before, n)},
			{What: "bytes each, after kill -9", Values: again.each(before, n)},
		},
		Notes: []string{fmt.Sprintf("%s: what skybus server (--sync 2m) and skybus scheduler have more than before, by the number of timers, which have 100 B each."+
			" owner is the scheduler; heap is what of its memory is in use after a collection. A rest is %v, in which Go collects garbage and gives"+
			" some of it back.", name, restTime)},
	}
	recovery := section{
		Name: name + ": recovery", Columns: []string{"server ready s", "owner loaded s"},
		Rows: []row{{What: "after kill -9 of both", Values: []float64{ready.Seconds(), loaded.Seconds()}}},
		Notes: []string{fmt.Sprintf("%s: from the start of the server until it takes connections, and until the scheduler, which is started then, knows of all timers."+
			" They were created at %s a second, one window.", name, number(rate))},
	}
	return []section{took, recovery}, nil
}

// room tells whether the machine has what n timers may need.
func (b *bench) room(n int) error {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(b.dir, &disk); err != nil {
		return fmt.Errorf("free space at %s: %w", b.dir, err)
	}
	if free, need := disk.Bavail*uint64(disk.Bsize), uint64(n)*diskEach; free < need {
		return fmt.Errorf("%d bytes are free at %s: want %d (TMPDIR names another place)", free, b.dir, need)
	}
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kib, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			if err != nil {
				return fmt.Errorf("/proc/meminfo: %w", err)
			}
			if need := uint64(n) * memoryEach; kib<<10 < need {
				return fmt.Errorf("%d bytes of memory are free: want %d", kib<<10, need)
			}
			return nil
		}
	}
	return errors.New("/proc/meminfo: no MemAvailable")
}

// station is a server and a scheduler that are killed and started again.
type station struct {
	program, dir, store string
	server, scheduler   *platform
}

func (b *bench) startStation(ctx context.Context) (s *station, err error) {
	s = &station{dir: b.dir}
	if s.program, err = b.skybus(ctx); err != nil {
		return nil, err
	}
	if s.store, err = os.MkdirTemp(b.dir, "store-"); err != nil {
		return nil, err
	}
	if err := errors.Join(s.startServer(ctx), s.startScheduler(ctx)); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *station) startServer(ctx context.Context) (err error) {
	s.server, err = startProgram(ctx, s.program, s.dir, "server", "--data", s.store, "--sync", "2m", "--nats", freePort)
	return err
}

func (s *station) startScheduler(ctx context.Context) (err error) {
	if s.server == nil {
		return nil // its error is told
	}
	s.scheduler, err = startProgram(ctx, s.program, s.dir, "scheduler", schedulerArgs(s.server.urls["nats"])...)
	return err
}

// stop kills both: nobody needs what they would write.
func (s *station) stop() error {
	var errs []error
	for _, p := range []*platform{s.scheduler, s.server} {
		if p != nil {
			errs = append(errs, p.kill())
		}
	}
	return errors.Join(errs...)
}

// fill creates n timers and returns when the scheduler knows of them.
func (b *bench) fill(ctx context.Context, name string, s *station, n int) (rate float64, err error) {
	c := &crew{dir: b.dir}
	defer func() { err = errors.Join(err, c.close()) }()
	maker, _, err := c.start(ctx, roleTimers, order{URL: s.server.urls["nats"]})
	if err != nil {
		return 0, err
	}
	var took time.Duration
	for done := 0; done < n; {
		b.progress.step(name, fmt.Sprintf("%s of %s created", number(float64(done)), number(float64(n))))
		count := min(createChunk, n-done)
		ans, err := maker.do(order{Op: opAct, Variant: actTimers, Count: count, Lead: firstDue, Over: firstDue})
		if err != nil {
			return 0, err
		}
		took += ans.Made.Elapsed
		done += count
	}
	return float64(n) / took.Seconds(), s.knows(ctx, n)
}

// restart kills both, starts them again, and tells when the server was ready and when the scheduler knew all timers.
func (s *station) restart(ctx context.Context, n int) (ready, loaded time.Duration, err error) {
	if err := errors.Join(s.server.kill(), s.scheduler.kill()); err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	if err := s.startServer(ctx); err != nil {
		return 0, 0, err
	}
	ready = time.Since(begin)
	if err := s.startScheduler(ctx); err != nil {
		return 0, 0, err
	}
	if err := s.knows(ctx, n); err != nil {
		return 0, 0, err
	}
	return ready, time.Since(begin), nil
}

// vars is what of a scheduler's /debug/vars is of interest.
type vars struct {
	Memory struct {
		Heap uint64 `json:"HeapAlloc"`
	} `json:"memstats"`
	Skybus struct {
		Timers struct {
			Pending int `json:"pending"`
		} `json:"timers"`
	} `json:"skybus"`
}

func (s *station) vars(ctx context.Context) (v vars, err error) {
	err = s.scheduler.page(ctx, "/debug/vars", func(r io.Reader) error { return json.NewDecoder(r).Decode(&v) })
	return v, err
}

// knows returns when the scheduler knows of n timers.
func (s *station) knows(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	last := 0
	for {
		v, err := s.vars(ctx)
		if last = v.Skybus.Timers.Pending; err == nil && last == n {
			return nil
		}
		if err == nil {
			err = pause(ctx, loadPoll)
		}
		if err != nil {
			return fmt.Errorf("the scheduler knows of %d timers of %d: %w", last, n, err)
		}
	}
}

// footprint is what both take, at once and after a rest.
type footprint struct{ server, serverRested, owner, ownerRested, heap, disk int64 }

// rested is the footprint after a rest.
func (b *bench) rested(ctx context.Context, name string, s *station) (footprint, error) {
	busy, err := s.memory()
	if err != nil {
		return busy, err
	}
	rest := restTime
	if b.set.quick {
		rest = settle
	}
	b.progress.step(name, fmt.Sprintf("resting for %v", rest))
	if err := pause(ctx, rest); err != nil {
		return busy, err
	}
	f, err := s.footprint(ctx)
	f.serverRested, f.ownerRested = f.server, f.owner
	f.server, f.owner = busy.server, busy.owner
	return f, err
}

// memory is what of the footprint the system tells.
func (s *station) memory() (f footprint, err error) {
	if f.server, err = memoryOf(s.server.cmd.Process.Pid); err != nil {
		return f, err
	}
	f.owner, err = memoryOf(s.scheduler.cmd.Process.Pid)
	return f, err
}

func (s *station) footprint(ctx context.Context) (f footprint, err error) {
	if f, err = s.memory(); err != nil {
		return f, err
	}
	// It collects garbage, and so does what follows: the first time finds what the second gives back.
	for range 2 {
		if err := s.scheduler.page(ctx, "/debug/pprof/heap?gc=1", func(r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		}); err != nil {
			return f, err
		}
	}
	v, err := s.vars(ctx)
	if err != nil {
		return f, err
	}
	f.heap = int64(v.Memory.Heap)
	f.disk, err = diskOf(s.store)
	return f, err
}

// each is what n timers take, each of them.
func (f footprint) each(before footprint, n int) []float64 {
	var all []float64
	for _, v := range [][2]int64{
		{f.server, before.server},
		{f.serverRested, before.server},
		{f.owner, before.owner},
		{f.ownerRested, before.owner},
		{f.heap, before.heap},
		{f.disk, before.disk},
	} {
		all = append(all, max(0, float64(v[0]-v[1]))/float64(n))
	}
	return all
}

// diskOf is what the files of a directory take on disk.
func diskOf(dir string) (bytes int64, err error) {
	const block = 512
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went meanwhile
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			bytes += st.Blocks * block
		}
		return nil
	})
	return bytes, err
}
