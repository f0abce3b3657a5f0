//go:build unix

package integration_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/micro"
)

// intake is a service that remembers which records it was sent, in the order in which they came.
type intake struct {
	mu   sync.Mutex
	got  []int
	keys map[int]string
	odd  int // records that came with another key than before
}

type intakeRecord struct {
	N    int    `json:"n"`
	Text string `json:"text"`
}

func startIntake(t *testing.T, conn *bus.Conn) *intake {
	t.Helper()
	in := &intake{keys: map[int]string{}}
	started := make(chan struct{})
	s, err := micro.NewService(conn, micro.Config{Name: "intake", Hooks: micro.Hooks{Started: func() { close(started) }}})
	if err == nil {
		err = micro.Handle(s, "take", in.take)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) }) // the tests see what goes wrong
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	<-started
	return in
}

func (in *intake) take(ctx context.Context, r intakeRecord) (struct{}, error) {
	if r.N%1000 == 777 {
		return struct{}{}, bus.Errorf(bus.InvalidArgument, "%d is not wanted", r.N)
	}
	key := micro.RequestHeader(ctx).Get(initiators.HeaderKey)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.got = append(in.got, r.N)
	if old := in.keys[r.N]; old != "" && old != key {
		in.odd++
	}
	in.keys[r.N] = key
	return struct{}{}, nil
}

// distinct is how many different records came.
func (in *intake) distinct() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.keys)
}

// filesRig is a directory, what works on it, and what its records are sent to.
type filesRig struct {
	t      *testing.T
	in     *intake
	dir    string
	config string
	server string
}

func newFilesRig(t *testing.T, source string) *filesRig {
	t.Helper()
	server := startServer(t, "--sync", "2m").Ports["nats"] // no power fails here
	r := &filesRig{t: t, in: startIntake(t, connect(t, server)), dir: t.TempDir(), server: server}
	r.config = filepath.Join(t.TempDir(), "files.yaml")
	text := fmt.Sprintf("sources:\n  - name: intake\n    lease: 2s\n    quiet: 50ms\n    rescan: 100ms\n    format: ndjson\n    target: {call: intake.take}\n%s", strings.ReplaceAll(source, "DIR", r.dir))
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *filesRig) start() *platform {
	r.t.Helper()
	return startPlatform(r.t, "files", "-f", r.config, "--server", r.server)
}

// fill writes records of some 100 bytes, and moves the file into the directory when it is complete.
func (r *filesRig) fill(name string, first, last int) {
	r.t.Helper()
	part := filepath.Join(r.dir, name+".part")
	f, err := os.Create(part)
	if err != nil {
		r.t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	text := strings.Repeat("x", 80)
	for i := first; i <= last; i++ {
		fmt.Fprintf(w, "{\"n\":%d,\"text\":\"%s\"}\n", i, text)
	}
	if err = w.Flush(); err == nil {
		err = f.Close()
	}
	if err == nil {
		err = os.Rename(part, filepath.Join(r.dir, name))
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// worker is who has the source.
func (r *filesRig) worker() string {
	var all []struct {
		Owner string `json:"owner"`
	}
	if err := json.Unmarshal([]byte(skybus(r.t, r.server, "files", "ls", "-o", "json")), &all); err != nil {
		r.t.Fatal(err)
	}
	if len(all) != 1 {
		return ""
	}
	return all[0].Owner
}

// check tells what is wrong with what came of records 1 to last, after so many deaths: none may be missing, and each death repeats no more
// than the window.
func (r *filesRig) check(last, deaths, window int, ordered bool) {
	r.t.Helper()
	r.in.mu.Lock()
	defer r.in.mu.Unlock()
	missing, refused := 0, 0
	for i := 1; i <= last; i++ {
		switch {
		case i%1000 == 777:
			refused++
		case r.in.keys[i] == "":
			missing++
		}
	}
	repeats := len(r.in.got) - len(r.in.keys)
	r.t.Logf("%d records, %d deaths, %d repeats", last, deaths, repeats)
	if missing > 0 || r.in.odd > 0 || repeats > deaths*window {
		r.t.Errorf("%d records are missing, %d changed their key, %d were repeated by %d deaths with a window of %d", missing, r.in.odd, repeats, deaths, window)
	}
	back := 0
	for i := 1; i < len(r.in.got); i++ {
		if r.in.got[i] < r.in.got[i-1] {
			back++
		} else if step := r.in.got[i] - r.in.got[i-1]; ordered && step > 1 && (step != 2 || r.in.got[i]%1000 != 778) {
			r.t.Errorf("%d followed %d", r.in.got[i], r.in.got[i-1])
		}
	}
	if ordered && back > deaths {
		r.t.Errorf("it went back %d times, after %d deaths", back, deaths)
	}
	names, err := filepath.Glob(filepath.Join(r.dir, "failed", "*.reasons.ndjson"))
	if err != nil {
		r.t.Fatal(err)
	}
	reasons := 0
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			r.t.Fatal(err)
		}
		reasons += strings.Count(string(text), "\n")
		records, err := os.ReadFile(strings.TrimSuffix(name, ".reasons.ndjson"))
		if err != nil || strings.Count(string(records), "\n") != strings.Count(string(text), "\n") {
			r.t.Errorf("%s holds other records than its reasons speak of: %v", name, err)
		}
	}
	if reasons != refused {
		r.t.Errorf("%d reasons, want %d", reasons, refused)
	}
}

// TestFilesKilled kills the process again and again in the middle of 100,000 records.
func TestFilesKilled(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	for name, parallel := range map[string]int{"in order": 1, "parallel": 32} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const records, window, deaths = 100_000, 400, 5
			r := newFilesRig(t, fmt.Sprintf("    dir: DIR\n    window: %d\n    parallel: %d\n", window, parallel))
			r.fill("orders.ndjson", 1, records)
			p := r.start()
			for i := range deaths {
				next := (i+1)*records/(deaths+1) + rand.IntN(1000)
				eventually(t, patience, fmt.Sprintf("%d records came", next), func() bool { return r.in.distinct() >= next })
				p.Kill()
				p = r.start()
			}
			done := filepath.Join(r.dir, "done", "orders.ndjson")
			eventually(t, 2*patience, "the file is done", func() bool { _, err := os.Stat(done); return err == nil })
			p.Stop(syscall.SIGTERM)
			r.check(records, deaths, window, parallel == 1)
		})
	}
}

// TestFilesTakeover has two processes on one directory: the one that works is killed, or frozen for longer than its lease lasts.
func TestFilesTakeover(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	const window, rounds = 200, 4
	r := newFilesRig(t, fmt.Sprintf("    dir: DIR\n    window: %d\n", window))
	both := []*platform{r.start(), r.start()}
	last := 0
	fill := func(n int) {
		r.fill(fmt.Sprintf("f%d.ndjson", last), last+1, last+n)
		last += n
	}
	for round := range rounds {
		fill(20_000)
		came := r.in.distinct()
		eventually(t, patience, "some came", func() bool { return r.in.distinct() >= came+5000 })
		worker := r.worker()
		at := 0
		if strings.HasSuffix(worker, fmt.Sprintf("-%d", both[1].PID())) {
			at = 1
		}
		begin := time.Now()
		if round%2 == 0 {
			both[at].Kill()
		} else {
			both[at].Freeze()
		}
		eventually(t, patience, "the other works", func() bool { w := r.worker(); return w != "" && w != worker })
		t.Logf("the other works after %v", time.Since(begin))
		if round%2 == 0 {
			both[at] = r.start()
		} else {
			both[at].Thaw()
		}
		want := last - last/1000
		eventually(t, patience, "all came", func() bool { return r.in.distinct() >= want })
	}
	eventually(t, patience, "all files are done", func() bool {
		names, err := filepath.Glob(filepath.Join(r.dir, "done", "*.ndjson"))
		return err == nil && len(names) == rounds
	})
	for _, p := range both {
		p.Stop(syscall.SIGTERM)
	}
	// The one that was frozen had a request on its way.
	r.check(last, rounds, window+1, false)
}

// TestFilesRotated kills the process that follows a log while the log is written and rotated.
func TestFilesRotated(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	const window, rotations, each = 200, 12, 2000
	r := newFilesRig(t, fmt.Sprintf("    follow: DIR/app.log\n    window: %d\n", window))
	p := r.start()
	path := filepath.Join(r.dir, "app.log")
	last := 0
	for i := range rotations {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		for range each {
			last++
			if _, err := fmt.Fprintf(f, "{\"n\":%d}\n", last); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if i == 0 { // what is rotated before somebody has seen the log is nobody's
			eventually(t, patience, "the log is followed", func() bool { return r.in.distinct() > 0 })
		}
		if i%4 == 1 { // with some of the log read, and rotated once or twice more before somebody reads on
			eventually(t, patience, "half of it came", func() bool { return r.in.distinct() >= last-each/2 })
			p.Kill()
		}
		for n := i; n > 0; n-- {
			if err := os.Rename(fmt.Sprintf("%s.%d", path, n), fmt.Sprintf("%s.%d", path, n+1)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		if i%4 == 2 {
			p = r.start()
		}
	}
	if err := os.WriteFile(path, fmt.Appendf(nil, "{\"n\":%d}\n", last+1), 0o600); err != nil {
		t.Fatal(err)
	}
	last++
	want := last - (last+223)/1000 // refused are 777, 1777, ...
	eventually(t, 2*patience, "all came", func() bool { return r.in.distinct() >= want })
	p.Stop(syscall.SIGTERM)
	r.check(last, rotations/4, window, false)
}
