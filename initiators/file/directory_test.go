package file_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/file"
)

func TestFormats(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	for name, tt := range map[string]struct {
		cfg  file.Config
		in   string
		want []taken
	}{
		"lines": {file.Config{}, "one\r\n\ntwo \"2\"", []taken{
			{`{"line":"one"}`, "", "application/json", map[string]string{"file": "f", "offset": "0", "number": "1", "line": "one"}},
			{`{"line":"two \"2\""}`, "", "application/json", map[string]string{"file": "f", "offset": "6", "number": "2", "line": `two "2"`}},
		}},
		"raw": {file.Config{ContentType: "application/octet-stream"}, "\xff\n", []taken{
			{"\xff", "", "application/octet-stream", map[string]string{"file": "f", "offset": "0", "number": "1", "line": "\xff"}},
		}},
		"csv": {file.Config{Format: file.CSV}, "a,b\n1,\"x\ny\"\n\"\"\"\",é<\n", []taken{
			{`{"a":"1","b":"x\ny"}`, "", "application/json", map[string]string{"file": "f", "offset": "4", "number": "1", "line": "1,\"x\ny\"", "record.a": "1", "record.b": "x\ny"}},
			{`{"a":"\"","b":"é<"}`, "", "application/json", map[string]string{"file": "f", "offset": "12", "number": "2", "line": "\"\"\"\",é<", "record.a": `"`, "record.b": "é<"}},
		}},
		"csv without a header": {file.Config{Format: file.CSV, Comma: ';', Columns: []string{"b", "a"}}, "1;2", []taken{
			{`{"b":"1","a":"2"}`, "", "application/json", map[string]string{"file": "f", "offset": "0", "number": "1", "line": "1;2", "record.a": "2", "record.b": "1"}},
		}},
		"ndjson": {file.Config{Format: file.NDJSON}, "{\"a\":\"x\",\"b\":[1]}\n7\n", []taken{
			{`{"a":"x","b":[1]}`, "", "application/json", map[string]string{"file": "f", "offset": "0", "number": "1", "line": `{"a":"x","b":[1]}`, "record.a": "x", "record.b": "[1]"}},
			{`7`, "", "application/json", map[string]string{"file": "f", "offset": "18", "number": "2", "line": "7"}},
		}},
		"whole": {file.Config{Format: file.Whole}, "a\nb\n", []taken{
			{"a\nb\n", "", "application/octet-stream", map[string]string{"file": "f", "offset": "0", "number": "1"}},
		}},
		"empty": {file.Config{}, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, s := t.TempDir(), &sink{}
			write(t, dir, "f", tt.in)
			tt.cfg.Name, tt.cfg.Dir = strings.ReplaceAll(name, " ", "_"), dir
			stats := done(t, conn, s, tt.cfg).Stats()
			got := s.all()
			id := ""
			for i := range got {
				var offset string
				if id, offset, _ = strings.Cut(got[i].key, "-"); len(id) != 26 || offset != got[i].values["offset"] {
					t.Errorf("key %q", got[i].key)
				}
				got[i].key = ""
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(taken{})); diff != "" {
				t.Error(diff)
			}
			if names := files(t, dir); !slices.Equal(names, []string{"done/f"}) || read(t, dir, "done/f") != tt.in {
				t.Errorf("left are %q", names)
			}
			if stats.Sent != uint64(len(tt.want)) || stats.Files != 1 || stats.Refused != 0 || stats.Unfinished != 0 {
				t.Errorf("stats %+v", stats)
			}
		})
	}
}

type refusedCase struct {
	cfg     file.Config
	in      string
	sent    []string
	aside   string
	reasons []file.Reason
}

func refusedCases() map[string]refusedCase {
	return map[string]refusedCase{
		"ndjson": {
			file.Config{Format: file.NDJSON, MaxRecord: 20},
			"{\"n\":1}\n{\"n\":\n{\"bad\":2}\n\"" + strings.Repeat("x", 30) + "\"\n{\"n\":3}\n",
			[]string{`{"n":1}`, `{"n":3}`},
			"{\"n\":\n{\"bad\":2}\n\"" + strings.Repeat("x", 30) + "\"\n\n",
			[]file.Reason{
				{Offset: 8, Size: 6, Number: 2, Code: bus.InvalidArgument, Message: "not JSON: unexpected end of JSON input at byte 5", At: 0, Length: 6},
				{Offset: 14, Size: 10, Number: 3, Code: bus.InvalidArgument, Message: "no bad", Details: map[string]string{"field": "n"}, At: 6, Length: 10},
				{Offset: 24, Size: 33, Number: 4, Code: bus.InvalidArgument, Message: "the record has 32 bytes: want at most 20 (max_record)", At: 16, Length: 34},
			},
		},
		"csv": {
			file.Config{Format: file.CSV},
			"a,b\n1,2\n1\nbad,\"x\"\n3,4\n",
			[]string{`{"a":"1","b":"2"}`, `{"a":"3","b":"4"}`},
			"a,b\n1\nbad,\"x\"\n",
			[]file.Reason{
				{Offset: 8, Size: 2, Number: 2, Code: bus.InvalidArgument, Message: "1 fields, the header has 2", At: 4, Length: 2},
				{Offset: 10, Size: 8, Number: 3, Code: bus.InvalidArgument, Message: "no bad", Details: map[string]string{"field": "n"}, At: 6, Length: 8},
			},
		},
		"lines": {file.Config{}, "a\nb\xffc\nbad", []string{`{"line":"a"}`}, "b\xffc\nbad\n", []file.Reason{
			{Offset: 2, Size: 4, Number: 2, Code: bus.InvalidArgument, Message: "the line is not UTF-8, which JSON has to be; with content_type lines are sent as they are", At: 0, Length: 4},
			{Offset: 6, Size: 3, Number: 3, Code: bus.InvalidArgument, Message: "no bad", Details: map[string]string{"field": "n"}, At: 4, Length: 4},
		}},
	}
}

// TestRefused puts records aside that are not of the format, too large, or refused by the target; the rest goes on.
func TestRefused(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	for name, tt := range refusedCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, s := t.TempDir(), &sink{refuse: refuseBad}
			write(t, dir, "in.x", tt.in)
			tt.cfg.Name, tt.cfg.Dir = name, dir
			stats := done(t, conn, s, tt.cfg).Stats()
			if got := s.bodies(); !slices.Equal(got, tt.sent) {
				t.Errorf("sent %q", got)
			}
			data, reasons := aside(t, dir, "in")
			if data != tt.aside {
				t.Errorf("put aside is %q\nwant %q", data, tt.aside)
			}
			for i := range reasons {
				if reasons[i].File != "in.x" || reasons[i].Key == "" || time.Since(reasons[i].Time) > time.Minute {
					t.Errorf("reason %+v", reasons[i])
				}
				reasons[i].File, reasons[i].Key, reasons[i].Time, reasons[i].Tail = "", "", time.Time{}, file.Reason{}.Tail
			}
			if diff := cmp.Diff(tt.reasons, reasons); diff != "" {
				t.Error(diff)
			}
			if stats.Refused != uint64(len(tt.reasons)) || stats.Files != 1 {
				t.Errorf("stats %+v", stats)
			}
		})
	}
}

// TestRefusedFile puts whole files aside.
func TestRefusedFile(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	for name, tt := range map[string]struct {
		cfg    file.Config
		in     string
		reason string
	}{
		"utf16":         {file.Config{}, "\xff\xfea\x00", "the file is UTF-16: want UTF-8"},
		"header":        {file.Config{Format: file.CSV}, "a,a\n1,2\n", `header: there are two columns "a"`},
		"header_quote":  {file.Config{Format: file.CSV}, "a,\"b\n1,2\n", "a quote is opened in these 9 bytes and not closed to the end of the file"},
		"whole":         {file.Config{Format: file.Whole}, "bad", "no bad"},
		"whole_large":   {file.Config{Format: file.Whole, MaxRecord: 3}, "1234", "the record has 4 bytes: want at most 3 (max_record)"},
		"whole_deleted": {file.Config{Format: file.Whole, After: file.Delete}, "bad", "no bad"},
		"whole_left":    {file.Config{Format: file.Whole, After: file.Leave}, "bad", "no bad"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, s := t.TempDir(), &sink{refuse: refuseBad}
			write(t, dir, "in.x", tt.in)
			tt.cfg.Name, tt.cfg.Dir = name, dir
			done(t, conn, s, tt.cfg)
			data, reasons := aside(t, dir, "in")
			if data != tt.in || len(reasons) != 1 || reasons[0].Message != tt.reason || reasons[0].Size != int64(len(tt.in)) {
				t.Errorf("put aside is %q, because of %+v", data, reasons)
			}
			want := 2
			if tt.cfg.After == file.Leave {
				want = 3
			}
			if names := files(t, dir); len(names) != want || len(s.bodies()) != 0 {
				t.Errorf("left are %q, sent %q", names, s.bodies())
			}
		})
	}
}

// TestOrder sends files one after the other, the oldest first, and the records of each as they stand there.
func TestOrder(t *testing.T) {
	t.Parallel()
	dir, s := t.TempDir(), &sink{}
	var want []string
	for i, name := range []string{"z", "y", "sub/x", "w"} {
		text := numbered(100*i, 100*i+99)
		write(t, dir, name, text)
		at := time.Now().Add(time.Duration(i-10) * time.Minute)
		if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
			t.Fatal(err)
		}
		want = append(want, numberedBodies(100*i, 100*i+99)...)
	}
	done(t, connect(t), s, file.Config{Dir: dir, Format: file.NDJSON, Recursive: true})
	if diff := cmp.Diff(want, s.bodies()); diff != "" {
		t.Error(diff)
	}
	if names := files(t, dir); !slices.Equal(names, []string{"done/sub/x", "done/w", "done/y", "done/z"}) {
		t.Errorf("left are %q", names)
	}
}

func TestWanted(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	names := []string{"a.csv", "b.txt", ".hidden", "c.tmp", "d~", "e.part", "sub/f.csv", "sub/deep/g.csv", "failed/h.csv", "done/i.csv"}
	for name, tt := range map[string]struct {
		cfg  file.Config
		want []string
	}{
		"defaults":  {file.Config{}, []string{"a.csv", "b.txt"}},
		"include":   {file.Config{Include: []string{"*.csv"}, Recursive: true}, []string{"a.csv", "sub/deep/g.csv", "sub/f.csv"}},
		"path":      {file.Config{Include: []string{"sub/*.csv"}, Recursive: true}, []string{"sub/f.csv"}},
		"exclude":   {file.Config{Exclude: []string{"*.csv", "sub"}, Recursive: true}, []string{".hidden", "b.txt", "c.tmp", "d~", "e.part"}},
		"elsewhere": {file.Config{Include: []string{"[hi].csv"}, Recursive: true, Done: "sub/done", Failed: "sub/failed"}, []string{"done/i.csv", "failed/h.csv"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, s := t.TempDir(), &sink{}
			for _, f := range names {
				write(t, dir, f, f)
			}
			tt.cfg.Name, tt.cfg.Dir, tt.cfg.Format, tt.cfg.After = name, dir, file.Whole, file.Leave
			done(t, conn, s, tt.cfg)
			got := s.bodies()
			slices.Sort(got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("sent %q, want %q", got, tt.want)
			}
		})
	}
}

// TestHalfWritten leaves a file alone until its writer pauses for long enough, and notices files that are moved in.
func TestHalfWritten(t *testing.T) {
	t.Parallel()
	dir, s := t.TempDir(), &sink{}
	r := run(t, connect(t), s, file.Config{Dir: dir, Format: file.NDJSON, Quiet: 300 * time.Millisecond, Rescan: 20 * time.Millisecond})
	var last time.Time
	for i := range 20 {
		appendTo(t, dir, "slow", fmt.Sprintf(`{"n":%d`, i))
		time.Sleep(20 * time.Millisecond) // the writer's own pace
		last = time.Now()
		appendTo(t, dir, "slow", "}\n")
	}
	if got := s.all(); len(got) > 0 {
		t.Errorf("%d records were sent while the file was written", len(got))
	}
	eventually(t, "all is sent", func() bool { return len(s.all()) == 20 })
	if quiet := time.Since(last); quiet < 300*time.Millisecond {
		t.Errorf("sent %v after the last write", quiet)
	}
	eventually(t, "it is moved", func() bool { return r.Stats().Files == 1 })
	if got := read(t, dir, "done/slow"); !strings.HasSuffix(got, "{\"n\":19}\n") {
		t.Errorf("done is %q", got)
	}
}

// TestCollision keeps files apart that come by the same name.
func TestCollision(t *testing.T) {
	t.Parallel()
	conn, dir, s := connect(t), t.TempDir(), &sink{refuse: refuseBad}
	for i := range 3 {
		write(t, dir, "f.x", fmt.Sprintf("%d\nbad %d\n", i, i))
		done(t, conn, s, file.Config{Dir: dir})
	}
	for i, name := range []string{"done/f.x", "done/f.1.x", "done/f.2.x"} {
		if got := read(t, dir, name); got != fmt.Sprintf("%d\nbad %d\n", i, i) {
			t.Errorf("%s is %q", name, got)
		}
	}
	if names := files(t, dir); len(names) != 9 {
		t.Errorf("left are %q", names)
	}
	if data, reasons := aside(t, dir, "f"); len(reasons) != 3 || len(data) != 3*len("bad 0\n") {
		t.Errorf("put aside is %q because of %+v", data, reasons)
	}
}

// TestLinksAndPipes reads nothing but files of the directory.
func TestLinksAndPipes(t *testing.T) {
	t.Parallel()
	outside, dir, s := t.TempDir(), t.TempDir(), &sink{}
	write(t, outside, "secret", "secret")
	write(t, dir, "f", "f")
	write(t, dir, ".hidden", "hidden")
	for link, to := range map[string]string{"out": filepath.Join(outside, "secret"), "rel": "../" + filepath.Base(outside) + "/secret", "in": ".hidden", "dir": outside, "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Skip(err) // as on Windows, without the right to make links
		}
	}
	makePipe(t, filepath.Join(dir, "pipe"))
	// A directory that leads out gets nothing either.
	if err := os.Symlink(outside, filepath.Join(dir, "done")); err != nil {
		t.Fatal(err)
	}
	conn := connect(t)
	r := run(t, conn, s, file.Config{Dir: dir, Recursive: true})
	eventually(t, "the trouble is told", func() bool { return r.Stats().LastFault != "" && len(s.all()) == 1 })
	if err := os.Remove(filepath.Join(dir, "done")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file is moved", func() bool { _, err := os.Stat(filepath.Join(dir, "done/f")); return err == nil })
	if got := s.bodies(); !slices.Equal(got, []string{`{"line":"f"}`}) {
		t.Errorf("sent %q", got)
	}
	if names := files(t, outside); !slices.Equal(names, []string{"secret"}) {
		t.Errorf("outside are %q", names)
	}
}

// TestRetry sends a record again until the target takes it, and in order.
func TestRetry(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var calls atomic.Int64
	codes := []bus.Code{bus.Unavailable, bus.DeadlineExceeded, bus.ResourceExhausted, bus.Aborted, bus.Canceled}
	s := &sink{refuse: func(string) error {
		if n := int(calls.Add(1)); n%(len(codes)+1) != 0 {
			return bus.Errorf(codes[n%(len(codes)+1)-1], "not now")
		}
		return nil
	}}
	write(t, dir, "f", numbered(1, 10))
	stats := done(t, connect(t), s, file.Config{Dir: dir, Format: file.NDJSON}).Stats()
	if got := s.bodies(); !slices.Equal(got, numberedBodies(1, 10)) {
		t.Errorf("sent %q", got)
	}
	if stats.Retries != 50 || stats.Refused != 0 {
		t.Errorf("stats %+v", stats)
	}
}

func TestTries(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	large := bus.Errorf(bus.ResourceExhausted, "too large")
	large.Status = 413
	for name, tt := range map[string]struct {
		err   *bus.Error
		cfg   file.Config
		tries int
	}{
		"three":     {bus.Errorf(bus.Unavailable, "never"), file.Config{Tries: 3}, 3},
		"too_large": {large, file.Config{}, 1},
		"codes":     {bus.Errorf(bus.Aborted, "no"), file.Config{RetryCodes: []bus.Code{bus.Unavailable}}, 1},
		"unknown":   {bus.Errorf(bus.Unknown, "no"), file.Config{}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, s := t.TempDir(), &sink{refuse: func(string) error { return tt.err }}
			write(t, dir, "f", "1\n")
			tt.cfg.Name, tt.cfg.Dir = name, dir
			done(t, conn, s, tt.cfg)
			if data, reasons := aside(t, dir, "f"); data != "1\n" || len(reasons) != 1 || reasons[0].Code != tt.err.Code || s.tries != tt.tries {
				t.Errorf("after %d tries put aside is %q because of %+v", s.tries, data, reasons)
			}
		})
	}
}

// TestTimeout gives up an attempt that takes too long.
func TestTimeout(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "f", "1\n")
	var hung atomic.Bool
	target := targetFunc(func(ctx context.Context, _ initiators.Request) error {
		if hung.CompareAndSwap(false, true) {
			<-ctx.Done()
			return bus.AsError(ctx.Err())
		}
		return nil
	})
	if stats := done(t, connect(t), target, file.Config{Dir: dir, Timeout: 50 * time.Millisecond}).Stats(); stats.Retries != 1 || stats.Sent != 1 {
		t.Errorf("stats %+v", stats)
	}
}

type targetFunc func(context.Context, initiators.Request) error

func (f targetFunc) Send(ctx context.Context, req initiators.Request) (initiators.Reply, error) {
	return initiators.Reply{}, f(ctx, req)
}

// TestParallel keeps as many records under way as it may, and never more.
func TestParallel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "f", numbered(1, 500))
	for i := range 100 { // also of several files at once
		write(t, dir, fmt.Sprint("g", i), numbered(1000+i, 1000+i))
	}
	var now atomic.Int64
	var mu sync.Mutex
	most := int64(0)
	full := make(chan struct{})
	s := &sink{before: func(string) {
		n := now.Add(1)
		mu.Lock()
		most = max(most, n)
		mu.Unlock()
		if n == 8 {
			select {
			case <-full:
			default:
				close(full)
			}
		}
		<-full // nobody goes on before all are under way
	}, refuse: func(string) error { now.Add(-1); return nil }}
	done(t, connect(t), s, file.Config{Dir: dir, Format: file.NDJSON, Parallel: 8})
	got := s.bodies()
	slices.Sort(got)
	want := append(numberedBodies(1, 500), numberedBodies(1000, 1099)...)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
	if most != 8 {
		t.Errorf("%d at once, want 8", most)
	}
}

// TestDiskFaults holds the source up when a refused record or a finished file cannot be put anywhere, and loses nothing.
func TestDiskFaults(t *testing.T) {
	t.Parallel()
	dir, s := t.TempDir(), &sink{refuse: refuseBad}
	write(t, dir, "f", "1\nbad\n2\n")
	write(t, dir, "failed", "in the way")
	write(t, dir, "done", "in the way")
	conn := connect(t)
	r := run(t, conn, s, file.Config{Dir: dir, Include: []string{"f"}})
	eventually(t, "the trouble is told", func() bool { return strings.Contains(r.Stats().LastFault, "failed") })
	if got := s.bodies(); !slices.Equal(got, []string{`{"line":"1"}`}) {
		t.Errorf("sent %q before what was refused is put aside", got)
	}
	if err := os.Remove(filepath.Join(dir, "failed")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the next trouble is told", func() bool { return strings.Contains(r.Stats().LastFault, "done") })
	if got := s.bodies(); !slices.Equal(got, []string{`{"line":"1"}`, `{"line":"2"}`}) {
		t.Errorf("sent %q", got)
	}
	r.stopped()
	// The next process does not send again what is done but could not be moved.
	if err := os.Remove(filepath.Join(dir, "done")); err != nil {
		t.Fatal(err)
	}
	done(t, conn, s, file.Config{Dir: dir, Include: []string{"f"}})
	if got := s.bodies(); len(got) != 2 {
		t.Errorf("sent %q", got)
	}
	if names := files(t, dir); len(names) != 3 || names[0] != "done/f" {
		t.Errorf("left are %q", names)
	}
}

// TestRunRefuses tells at once what cannot begin.
func TestRunRefuses(t *testing.T) {
	t.Parallel()
	conn, dir := connect(t), t.TempDir()
	write(t, dir, "f", "")
	for _, place := range []string{filepath.Join(dir, "nothing"), filepath.Join(dir, "f")} {
		s, err := file.New(conn, &sink{}, file.Config{Name: "test", Dir: place})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), place) {
			t.Errorf("%s: %v", place, err)
		}
	}
	s, err := file.New(conn, &sink{}, file.Config{Name: "test", Follow: filepath.Join(dir, "nothing", "log")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("follow: %v", err)
	}
}
