package file_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/initiators/file"
)

// logger writes to a log as a program does that keeps it open.
type logger struct {
	t    testing.TB
	dir  string
	f    *os.File
	next int
}

func newLogger(t testing.TB, dir string) *logger {
	t.Helper()
	l := &logger{t: t, dir: dir, next: 1}
	l.open()
	t.Cleanup(func() { _ = l.f.Close() })
	return l
}

func (l *logger) open() {
	l.t.Helper()
	f, err := os.OpenFile(filepath.Join(l.dir, "app.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		l.t.Fatal(err)
	}
	l.f = f
}

func (l *logger) write(n int) {
	l.t.Helper()
	if _, err := l.f.WriteString(numbered(l.next, l.next+n-1)); err != nil {
		l.t.Fatal(err)
	}
	l.next += n
}

// rotate moves the log away and begins a new one.
func (l *logger) rotate(shift ...string) {
	l.t.Helper()
	names := append([]string{"app.log"}, shift...)
	for i := len(names) - 1; i > 0; i-- {
		if _, err := os.Stat(filepath.Join(l.dir, names[i-1])); err == nil {
			rename(l.t, l.dir, names[i-1], names[i])
		}
	}
	old := l.f
	l.open()
	if err := old.Close(); err != nil {
		l.t.Fatal(err)
	}
}

// copyTruncate copies the log and empties it.
func (l *logger) copyTruncate(name string) {
	l.t.Helper()
	in, err := os.Open(filepath.Join(l.dir, "app.log"))
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.Create(filepath.Join(l.dir, name))
	if err == nil {
		_, err = io.Copy(out, in)
	}
	if err == nil {
		err = out.Close()
	}
	if err == nil {
		err = os.Truncate(filepath.Join(l.dir, "app.log"), 0)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

func followed(dir string) file.Config {
	return file.Config{Follow: filepath.Join(dir, "app.log"), Format: file.NDJSON, Rescan: 10 * time.Millisecond, Quiet: 50 * time.Millisecond}
}

func (l *logger) all() []string { return numberedBodies(1, l.next-1) }

// check waits until all was sent, each record once and in order.
func (l *logger) check(s *sink) {
	l.t.Helper()
	eventually(l.t, "all is sent", func() bool { return len(s.all()) >= l.next-1 })
	if got := s.bodies(); !slices.Equal(got, l.all()) {
		l.t.Errorf("%d records came, or not in order, want %d", len(got), l.next-1)
		for i := range got {
			if i >= len(l.all()) || got[i] != l.all()[i] {
				l.t.Fatalf("the first that differs is %d: %s", i, got[i])
			}
		}
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	dir, s := t.TempDir(), &sink{}
	conn := connect(t)
	r := run(t, conn, s, followed(dir)) // the log comes later
	l := newLogger(t, dir)
	for range 20 {
		l.write(5)
		l.check(s)
	}
	// Half a line is not sent.
	if _, err := l.f.WriteString(`{"n":`); err != nil {
		t.Fatal(err)
	}
	l.check(s)
	if _, err := fmt.Fprintf(l.f, "%d}\n", l.next); err != nil {
		t.Fatal(err)
	}
	l.next++
	l.check(s)
	// The next process goes on.
	r.stopped()
	l.write(50)
	run(t, conn, s, followed(dir))
	l.write(50)
	l.check(s)
}

// TestRotation loses nothing, repeats nothing, and keeps the order, however the log is rotated.
func TestRotation(t *testing.T) {
	t.Parallel()
	for name, rotate := range map[string]func(l *logger, i int){
		"rename": func(l *logger, _ int) { l.rotate("app.log.1", "app.log.2", "app.log.3") },
		"dated":  func(l *logger, i int) { l.rotate(fmt.Sprintf("app-2026010%d.log", i)) },
		"twice": func(l *logger, _ int) {
			l.rotate("app.log.1", "app.log.2", "app.log.3", "app.log.4")
			l.write(7)
			l.rotate("app.log.1", "app.log.2", "app.log.3", "app.log.4")
		},
		"copy":       func(l *logger, i int) { l.copyTruncate(fmt.Sprint("app.log.", i)) },
		"late write": func(l *logger, i int) { lateWrite(l, i) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, s := t.TempDir(), &sink{}
			l := newLogger(t, dir)
			l.write(10)
			r := run(t, connect(t), s, followed(dir))
			l.check(s) // it has begun: what was rotated before is nobody's
			for i := 1; i <= 5; i++ {
				l.write(100)
				rotate(l, i)
				l.write(3)
				l.check(s)
			}
			if st := r.Stats(); st.Rotations < 5 || st.Lost > 0 || st.Refused > 0 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

// lateWrite goes on writing to a log that was moved away, as programs do until they are told.
func lateWrite(l *logger, i int) {
	l.t.Helper()
	rename(l.t, l.dir, "app.log", fmt.Sprint("app.log.", i))
	f, err := os.Create(filepath.Join(l.dir, "app.log"))
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	for range 5 {
		l.write(2)
		time.Sleep(10 * time.Millisecond) // the writer's own pace
	}
	if err := l.f.Close(); err != nil {
		l.t.Fatal(err)
	}
	l.open()
}

// TestRotatedAway finds what was rotated while nobody worked.
func TestRotatedAway(t *testing.T) {
	t.Parallel()
	for name, rotate := range map[string]func(l *logger){
		"once":          func(l *logger) { l.rotate("app.log.1") },
		"three times":   func(l *logger) { threeTimes(l) },
		"copied":        func(l *logger) { l.copyTruncate("app.log.1") },
		"copied, moved": func(l *logger) { l.copyTruncate("app.log.1"); l.write(20); l.rotate("app.log.2") },
		"not at all":    func(*logger) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, dir, s := connect(t), t.TempDir(), &sink{}
			l := newLogger(t, dir)
			write(t, dir, "app.log.7", "of long ago\n")
			old := time.Now().Add(-time.Hour)
			if err := os.Chtimes(filepath.Join(dir, "app.log.7"), old, old); err != nil {
				t.Fatal(err)
			}
			l.write(100)
			r := run(t, conn, s, followed(dir))
			l.check(s)
			r.stopped()
			l.write(100)
			rotate(l)
			l.write(100)
			r = run(t, conn, s, followed(dir))
			l.check(s)
			l.write(10)
			l.check(s)
			if st := r.Stats(); st.Lost > 0 || st.Refused > 0 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

func threeTimes(l *logger) {
	for range 3 {
		l.rotate("app.log.1", "app.log.2", "app.log.3")
		l.write(30)
		time.Sleep(5 * time.Millisecond) // their times tell which is older
	}
}

// TestRotationUnderLoad rotates while a writer writes as fast as it can.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	dir, s := t.TempDir(), &sink{}
	l := newLogger(t, dir)
	run(t, connect(t), s, followed(dir))
	l.write(1)
	l.check(s)
	for i := range 20 {
		for range 20 {
			l.write(50)
		}
		l.rotate("app.log.1", "app.log.2", "app.log.3", "app.log.4", "app.log.5", "app.log.6", "app.log.7", "app.log.8", "app.log.9", fmt.Sprint("app.log.", 10+i))
	}
	l.check(s)
}

// TestTruncated tells of what is lost when a log is emptied, and goes on.
func TestTruncated(t *testing.T) {
	t.Parallel()
	dir, s := t.TempDir(), &sink{}
	l := newLogger(t, dir)
	l.write(100)
	r := run(t, connect(t), s, followed(dir))
	l.check(s)
	if err := os.Truncate(filepath.Join(dir, "app.log"), 0); err != nil {
		t.Fatal(err)
	}
	l.write(200) // larger than it was
	l.check(s)
	if st := r.Stats(); st.Truncations != 1 || st.Lost != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestFromEnd(t *testing.T) {
	t.Parallel()
	conn, dir, s := connect(t), t.TempDir(), &sink{}
	l := newLogger(t, dir)
	l.write(99)
	if _, err := l.f.WriteString(`{"n":`); err != nil {
		t.Fatal(err)
	}
	cfg := followed(dir)
	cfg.FromEnd = true
	r := run(t, conn, s, cfg)
	eventually(t, "it is followed", func() bool { return r.Stats().Checkpoints > 0 })
	if _, err := l.f.WriteString("100}\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what comes is sent", func() bool { return slices.Equal(s.bodies(), []string{`{"n":100}`}) })
	r.stopped()
	l.next = 101
	l.rotate("app.log.1")
	l.write(5)
	run(t, conn, s, cfg)
	eventually(t, "all that came since is sent", func() bool { return slices.Equal(s.bodies(), numberedBodies(100, 105)) })
}

// TestFollowOnce sends what is there.
func TestFollowOnce(t *testing.T) {
	t.Parallel()
	conn, dir, s := connect(t), t.TempDir(), &sink{}
	done(t, conn, s, followed(dir)) // there is nothing
	l := newLogger(t, dir)
	for range 3 {
		l.write(10)
		done(t, conn, s, followed(dir))
		if got := len(s.all()); got != l.next-1 {
			t.Errorf("%d records, want %d", got, l.next-1)
		}
	}
}

// TestFollowCSV has the header of each file.
func TestFollowCSV(t *testing.T) {
	t.Parallel()
	dir, s := t.TempDir(), &sink{}
	cfg := followed(dir)
	cfg.Format = file.CSV
	appendTo(t, dir, "app.log", "a,b\n1,2\n")
	run(t, connect(t), s, cfg)
	eventually(t, "the first is sent", func() bool { return len(s.all()) == 1 })
	rename(t, dir, "app.log", "app.log.1")
	appendTo(t, dir, "app.log", "b,")
	appendTo(t, dir, "app.log", "a\n1,\"2\n")
	appendTo(t, dir, "app.log", "3\"\n")
	want := []string{`{"a":"1","b":"2"}`, `{"b":"1","a":"2\n3"}`}
	eventually(t, "both are sent", func() bool { return slices.Equal(s.bodies(), want) })
}

func TestRotatedNames(t *testing.T) {
	t.Parallel()
	conn, dir, s := connect(t), t.TempDir(), &sink{}
	l := newLogger(t, dir)
	l.write(1)
	r := run(t, conn, s, followed(dir))
	l.check(s)
	// What only looks like a rotated log is left alone.
	for _, name := range []string{"app.log.1.gz", "app-web.log", "other.log.1", "app.logs"} {
		write(t, dir, name, strings.Repeat("not mine\n", 3))
	}
	l.rotate("app.log.1")
	l.write(1)
	l.check(s)
	if st := r.Stats(); st.Refused > 0 {
		t.Errorf("stats %+v", st)
	}
}
