package file_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators/file"
	"github.com/skybus-io/skybus/kv"
)

// repeats counts records that were taken more than once, and fails where one was taken never, or had another key.
func repeats(t testing.TB, got []taken, want []string) int {
	t.Helper()
	keys := map[string]string{}
	for _, g := range got {
		if key, ok := keys[g.body]; ok && key != g.key {
			t.Errorf("%s came as %s and as %s", g.body, key, g.key)
		}
		keys[g.body] = g.key
	}
	missing := 0
	for _, w := range want {
		if keys[w] == "" {
			missing++
		}
	}
	if missing > 0 || len(keys) != len(want) {
		t.Errorf("%d of %d records never came, %d different ones did", missing, len(want), len(keys))
	}
	return len(got) - len(keys)
}

// TestStopped goes on where a process stopped, in the middle of a file, and repeats nothing.
func TestStopped(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]file.Config{
		"in order": {Format: file.NDJSON}, "parallel": {Format: file.NDJSON, Parallel: 16}, "csv": {Format: file.CSV},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, dir, s := connect(t), t.TempDir(), &sink{}
			text, want := numbered(1, 3000), numberedBodies(1, 3000)
			if cfg.Format == file.CSV {
				var b strings.Builder
				b.WriteString("n\n")
				for i := range want {
					fmt.Fprintf(&b, "%d\n", i+1)
					want[i] = fmt.Sprintf(`{"n":"%d"}`, i+1)
				}
				text = b.String()
			}
			write(t, dir, "f", text)
			cfg.Dir = dir
			for stop := 500; stop <= 2500; stop += 500 {
				r := run(t, conn, s, cfg)
				eventually(t, "some are sent", func() bool { return len(s.all()) >= stop })
				r.stopped()
			}
			done(t, conn, s, cfg)
			if n := repeats(t, s.all(), want); n > 0 {
				t.Errorf("%d were repeated", n)
			}
			if cfg.Parallel == 0 && !slices.Equal(s.bodies(), want) {
				t.Error("not in order")
			}
		})
	}
}

// TestCutOff cuts a process off that goes on: it sends no more than the window, and another takes over.
func TestCutOff(t *testing.T) {
	t.Parallel()
	const window = 200
	for _, parallel := range []int{1, 8} {
		t.Run(fmt.Sprint(parallel), func(t *testing.T) {
			t.Parallel()
			server := bustest.Server(t)
			dir, s := t.TempDir(), &sink{}
			write(t, dir, "f", numbered(1, 20_000))
			first, err := bus.Connect(t.Context(), bus.Config{InProcess: server})
			if err != nil {
				t.Fatal(err)
			}
			cfg := file.Config{Dir: dir, Format: file.NDJSON, Window: window, Parallel: parallel, Rescan: time.Second}
			one := run(t, first, s, cfg)
			eventually(t, "some are sent", func() bool { return len(s.all()) >= 1000 })
			first.NATS().Close()
			two := run(t, connectTo(t, server), s, cfg)
			eventually(t, "all are sent", func() bool { return two.Stats().Files == 1 })
			one.stop()
			if n := repeats(t, s.all(), numberedBodies(1, 20_000)); n > window {
				t.Errorf("%d were repeated, the window is %d", n, window)
			} else {
				t.Logf("%d were repeated", n)
			}
			_ = first.Close() // it is closed
		})
	}
}

// TestTwoProcesses lets one of two work, and the other take over.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	server := bustest.Server(t)
	dir := t.TempDir()
	sinks := []*sink{{}, {}}
	var sources []*running
	for _, s := range sinks {
		sources = append(sources, run(t, connectTo(t, server), s, file.Config{Dir: dir, Format: file.NDJSON}))
	}
	var all []taken
	for round := range 4 {
		for i := range 20 {
			n := 1000*round + 10*i
			write(t, dir, fmt.Sprintf("f%d-%d", round, i), numbered(n, n+9))
		}
		eventually(t, "all are sent", func() bool {
			all = append(sinks[0].all(), sinks[1].all()...)
			return len(all) >= 200*(round+1)
		})
		if round == 1 {
			before := len(sinks[0].all())
			if before != 0 && before != 400 {
				t.Errorf("both worked: %d and %d", before, len(sinks[1].all()))
			}
			active := 0
			if sources[1].Stats().Active {
				active = 1
			}
			sources[active].stopped()
			eventually(t, "the other has taken over", func() bool { return sources[1-active].Stats().Active })
		}
	}
	if len(all) != 800 || len(sinks[0].all()) != 400 {
		t.Errorf("%d and %d records, want 400 each", len(sinks[0].all()), len(sinks[1].all()))
	}
}

// TestLeft sends what is added to a file that stays where it is, and nothing of it twice, whatever it is called.
func TestLeft(t *testing.T) {
	t.Parallel()
	conn, dir, s := connect(t), t.TempDir(), &sink{}
	cfg := file.Config{Dir: dir, Format: file.NDJSON, After: file.Leave}
	write(t, dir, "f", numbered(1, 10))
	done(t, conn, s, cfg)
	r := run(t, conn, s, cfg)
	appendTo(t, dir, "f", numbered(11, 20))
	eventually(t, "what was added is sent", func() bool { return len(s.all()) == 20 })
	rename(t, dir, "f", "g")
	appendTo(t, dir, "g", numbered(21, 30))
	eventually(t, "what was added is sent", func() bool { return len(s.all()) == 30 })
	r.stopped()
	rename(t, dir, "g", "h")
	done(t, conn, s, cfg)
	got := s.all()
	repeats(t, got, numberedBodies(1, 30))
	for i, g := range got {
		id, _, _ := strings.Cut(g.key, "-")
		if first, _, _ := strings.Cut(got[0].key, "-"); id != first || g.values["number"] != fmt.Sprint(i+1) {
			t.Errorf("%s is number %s of %s, want %d of %s", g.body, g.values["number"], id, i+1, first)
		}
	}
	if len(got) != 30 {
		t.Errorf("%d records", len(got))
	}
}

// TestReusedInode knows a file from the one whose place it has taken, also where both begin alike.
func TestReusedInode(t *testing.T) {
	t.Parallel()
	conn, dir := connect(t), t.TempDir()
	head := strings.Repeat("the same beginning\n", 100)
	rewrite := map[string]func(string){
		"in_place": func(text string) { write(t, dir, "in_place", text) },
		"anew": func(text string) { // file systems like to give the inode out again
			before := inode(t, filepath.Join(dir, "anew"))
			if err := os.Remove(filepath.Join(dir, "anew")); err != nil {
				t.Fatal(err)
			}
			for i := range 1000 {
				write(t, dir, "anew", text)
				if inode(t, filepath.Join(dir, "anew")) == before {
					return
				}
				rename(t, dir, "anew", fmt.Sprint(".spare", i))
			}
			t.Log("no inode was used again")
			write(t, dir, "anew", text)
		},
	}
	for name, again := range rewrite {
		for _, second := range []string{head + "longer than the first\n", "short\n"} {
			s := &sink{}
			cfg := file.Config{Name: name, Dir: dir, Include: []string{name}, After: file.Leave}
			write(t, dir, name, head+"first\n")
			done(t, conn, s, cfg)
			first := len(s.all())
			again(second)
			done(t, conn, s, cfg)
			want := strings.Count(second, "\n")
			if got := s.all()[first:]; len(got) != want || len(got) > 0 && got[0].key == s.all()[0].key {
				t.Errorf("%s: %d records of the second file, want %d with other keys", name, len(got), want)
			}
		}
	}
}

// TestReasonsOnce puts a record aside once, though a process died between that and its checkpoint.
func TestReasonsOnce(t *testing.T) {
	t.Parallel()
	conn, dir := connect(t), t.TempDir()
	write(t, dir, "f", "bad 1\nbad 2\ngood\nbad 3\n")
	s := &sink{refuse: func(body string) error {
		if strings.Contains(body, "good") {
			return bus.Errorf(bus.Unavailable, "later")
		}
		return refuseBad(body)
	}}
	cfg := file.Config{Dir: dir, Checkpoint: time.Minute, After: file.Leave}
	r := run(t, conn, s, cfg)
	eventually(t, "two are put aside", func() bool { return r.Stats().Refused == 2 && r.Stats().Retries > 0 })
	r.stopped()
	// As if the last thing a process did was to write half of what belongs together.
	for _, name := range files(t, dir) {
		if strings.HasPrefix(name, "failed/") {
			appendTo(t, dir, name, "{half")
		}
	}
	if err := file.Forget(t.Context(), conn, "test"); err != nil {
		t.Fatal(err)
	}
	s.refuse = refuseBad
	done(t, conn, s, cfg)
	data, reasons := aside(t, dir, "f")
	if data != "bad 1\nbad 2\nbad 3\n" || len(reasons) != 3 {
		t.Errorf("put aside is %q because of %+v", data, reasons)
	}
}

// TestWindow stops sending when too much waits for a record that is not taken.
func TestWindow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "f", numbered(1, 1000))
	release := make(chan struct{})
	var once sync.Once
	s := &sink{before: func(body string) {
		if body == `{"n":1}` {
			bustest.Hold(t, release)
		}
	}}
	defer once.Do(func() { close(release) })
	r := run(t, connect(t), s, file.Config{Dir: dir, Format: file.NDJSON, Parallel: 4, Window: 50})
	eventually(t, "the window is full", func() bool { return r.Stats().Sent == 49 })
	for range 20 { // and stays so
		time.Sleep(5 * time.Millisecond) // nothing tells that nothing happens
		if st := r.Stats(); st.Sent != 49 || st.Unfinished != 50 {
			t.Fatalf("stats %+v", st)
		}
	}
	once.Do(func() { close(release) })
	eventually(t, "all are sent", func() bool { st := r.Stats(); return st.Files == 1 && st.Sent == 1000 && st.Unfinished == 0 })
}

// TestForgets removes the checkpoints of files that are gone.
func TestForgets(t *testing.T) {
	t.Parallel()
	conn, dir := connect(t), t.TempDir()
	cfg := file.Config{Dir: dir, After: file.Leave, Forget: time.Second}
	for i := range 3 {
		write(t, dir, fmt.Sprint(i), fmt.Sprintf("%d\n", i))
	}
	run(t, conn, &sink{}, cfg)
	checkpoints := func() []string {
		all, err := file.List(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range all {
			for _, f := range s.Files {
				names = append(names, f.File)
			}
		}
		return names
	}
	eventually(t, "all are known", func() bool { return slices.Equal(checkpoints(), []string{"0", "1", "2"}) })
	if err := os.Remove(filepath.Join(dir, "1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the one that is gone is forgotten", func() bool { return slices.Equal(checkpoints(), []string{"0", "2"}) })
	if err := file.Forget(t.Context(), conn, "test"); bus.CodeOf(err) != bus.FailedPrecondition {
		t.Errorf("Forget while it runs: %v", err)
	}
	if err := file.Forget(t.Context(), conn, "nothing"); bus.CodeOf(err) != bus.NotFound {
		t.Errorf("Forget: %v", err)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	conn, dir, s := connect(t), t.TempDir(), &sink{refuse: refuseBad}
	if all, err := file.List(t.Context(), conn); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	write(t, dir, "f", "1\nbad\n2\n")
	r := run(t, conn, s, file.Config{Dir: dir, After: file.Leave, Owner: "me"})
	eventually(t, "the file is done", func() bool { return r.Stats().Files == 1 })
	all, err := file.List(t.Context(), conn)
	if err != nil || len(all) != 1 || all[0].Name != "test" || all[0].Owner != "me" || len(all[0].Files) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	if cp := all[0].Files[0]; cp.File != "f" || cp.Offset != 8 || cp.Number != 3 || cp.Refused != 1 || !cp.Done || cp.Size != 8 {
		t.Errorf("checkpoint %+v", cp)
	}
	r.stopped()
	all, err = file.List(t.Context(), conn)
	if err != nil || len(all) != 1 || all[0].Owner != "" || all[0].Summary == nil {
		t.Fatalf("%+v, %v", all, err)
	}
	if sum := all[0].Summary; sum.Dir != dir || sum.Owner != "me" || sum.Stats.Sent != 2 || sum.Stats.Refused != 1 || sum.Stats.Active {
		t.Errorf("summary %+v", sum)
	}
}

// TestBucketFull waits when there is no room for checkpoints, and sends nothing twice for it.
func TestBucketFull(t *testing.T) {
	t.Parallel()
	conn, dir, s := connect(t), t.TempDir(), &sink{}
	if _, err := kv.Open[any](t.Context(), conn, file.Bucket, kv.Config{NoExpiry: true, MaxBytes: 8 << 10}); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		write(t, dir, fmt.Sprint(i), numbered(i, i))
	}
	r := run(t, conn, s, file.Config{Dir: dir, Format: file.NDJSON, After: file.Leave})
	eventually(t, "it is told", func() bool { return strings.Contains(r.Stats().LastFault, "full") && r.Stats().Faults > 20 })
	if r.Stats().Takeovers != 1 {
		t.Errorf("stats %+v", r.Stats())
	}
	stream, err := conn.JetStream().Stream(t.Context(), "KV_"+file.Bucket)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxBytes = 1 << 20
	if _, err := conn.JetStream().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are done", func() bool { return r.Stats().Files == 100 })
	if n := repeats(t, s.all(), numberedBodies(0, 99)); n > 0 {
		t.Errorf("%d were repeated", n)
	}
}
