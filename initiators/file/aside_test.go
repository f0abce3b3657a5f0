package file_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/file"
)

const reasonsOf = ".reasons.ndjson"

// putAside is the one file with refused records.
func putAside(t testing.TB, dir string) string {
	t.Helper()
	names := slices.DeleteFunc(files(t, dir), func(name string) bool {
		return !strings.HasPrefix(name, "failed/") || strings.HasSuffix(name, reasonsOf)
	})
	if len(names) != 1 {
		t.Fatalf("put aside are %q", names)
	}
	return names[0]
}

func remove(t testing.TB, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// TestAsideTouched keeps every refused record, and leaves alone what somebody is mending, whatever is done to what was put aside while more is
// refused of the same file, or before the next process goes on with it.
func TestAsideTouched(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	both := []string{"", reasonsOf}
	for what, touch := range map[string]struct {
		moved, removed []string // endings of names
		written        string   // to the file after that
		left           string   // of what was put aside first, in failed or elsewhere; empty where it was removed
	}{
		"moved":           {moved: both[:1], left: "bad 1\n"},
		"both moved":      {moved: both, left: "bad 1\n"},
		"removed":         {removed: both[:1]},
		"all removed":     {removed: both},
		"reasons removed": {removed: both[1:], left: "bad 1\n"},
		"longer":          {written: "mended and longer\n", left: "mended and longer\n"},
		"shorter":         {written: "ok\n", left: "ok\n"},
		"replaced":        {removed: both[:1], written: "mended 1\n", left: "mended 1\n"},
	} {
		for _, restart := range []bool{false, true} {
			name := strings.ReplaceAll(what, " ", "_")
			if restart {
				name += "_restart"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				dir, s := t.TempDir(), &sink{refuse: refuseBad}
				cfg := file.Config{Name: name, Follow: filepath.Join(dir, "log")}
				write(t, dir, "log", "bad 1\ngood 1\n")
				r := run(t, conn, s, cfg)
				eventually(t, "one is put aside", func() bool { st := r.Stats(); return st.Refused == 1 && st.Sent == 1 && st.Unfinished == 0 })
				first := putAside(t, dir)
				if restart {
					r.stopped()
				}
				for _, ending := range touch.moved {
					rename(t, dir, first+ending, "elsewhere"+ending)
				}
				for _, ending := range touch.removed {
					remove(t, dir, first+ending)
				}
				if touch.written != "" {
					write(t, dir, first, touch.written)
				}
				appendTo(t, dir, "log", "bad 2\ngood 2\nbad 3\n")
				if restart {
					r = run(t, conn, s, cfg)
				}
				eventually(t, "all is done", func() bool { return len(s.all()) == 2 && r.Stats().Unfinished == 0 })
				r.stopped()
				checkAside(t, dir, "bad 2\n", "bad 3\n")
				if got := heldBy(t, dir, "elsewhere", first); touch.left != "" && got != touch.left {
					t.Errorf("what was put aside first is %q, want %q", got, touch.left)
				}
			})
		}
	}
}

// heldBy is what the first of some files holds that is there.
func heldBy(t testing.TB, dir string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if slices.Contains(files(t, dir), name) {
			return read(t, dir, name)
		}
	}
	return ""
}

// checkAside finds each of the records once in failed, where its reason says, and nothing else behind it.
func checkAside(t testing.TB, dir string, records ...string) {
	t.Helper()
	var found []string
	for _, name := range files(t, dir) {
		data := strings.TrimSuffix(name, reasonsOf)
		if !strings.HasPrefix(name, "failed/") || data == name || !slices.Contains(files(t, dir), data) {
			continue
		}
		text, end := read(t, dir, data), 0
		for line := range strings.Lines(read(t, dir, name)) {
			var r file.Reason
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%s: %v in %q", name, err, line)
			}
			if end = int(r.At + r.Length); end <= len(text) && slices.Contains(records, text[r.At:end]) {
				found = append(found, text[r.At:end])
			}
		}
		if strings.Contains(text, "\x00") {
			t.Errorf("%s is %q", data, text)
		}
	}
	if slices.Sort(found); !slices.Equal(found, records) {
		t.Errorf("put aside are %q, want %q; all there is: %q", found, records, files(t, dir))
	}
}

// TestRefusedFileAgain moves a refused file to failed each time, with one reason: also when it is put back, and where a process died between writing the
// reason and moving it, which leaves the same behind.
func TestRefusedFileAgain(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	for _, after := range []file.After{file.Move, file.Delete} {
		t.Run(string(after), func(t *testing.T) {
			t.Parallel()
			dir, s := t.TempDir(), &sink{refuse: refuseBad}
			cfg := file.Config{Name: string(after), Dir: dir, Format: file.Whole, After: after}
			write(t, dir, "in.x", "bad")
			done(t, conn, s, cfg)
			first := putAside(t, dir)
			before := read(t, dir, first+reasonsOf)
			for range 2 {
				rename(t, dir, first, "in.x")
				done(t, conn, s, cfg)
				if names := files(t, dir); !slices.Equal(names, []string{first, first + reasonsOf}) {
					t.Fatalf("left are %q", names)
				}
			}
			data, reasons := aside(t, dir, "in")
			if data != "bad" || len(reasons) != 1 || read(t, dir, first+reasonsOf) == before || time.Since(reasons[0].Time) > time.Minute {
				t.Errorf("put aside is %q, because of %+v", data, reasons)
			}
		})
	}
}

// TestBytes sends what is no text as what it is, or not at all.
func TestBytes(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	for name, tt := range map[string]struct {
		format file.Format
		field  string
		want   []string // nil: it is refused
	}{
		"body":        {file.Whole, "{body}", nil},
		"body_base64": {file.Whole, "{body|base64}", []string{`{"a":"iVBOR/8="}`}},
		"line":        {file.Lines, "{line}", nil},
		"line_base64": {file.Lines, "{line|base64}", []string{`{"a":"iVBOR/8="}`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, s := t.TempDir(), &sink{}
			target, err := initiators.Mapped(s, &initiators.Mapping{Body: initiators.BodyNone, Fields: initiators.Fields{"a": tt.field}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir, "f.png", "\x89PNG\xff")
			done(t, conn, target, file.Config{Name: name, Dir: dir, Format: tt.format, ContentType: "application/octet-stream"})
			data, reasons := aside(t, dir, "f")
			if got := s.bodies(); !slices.Equal(got, tt.want) || (tt.want == nil) != (len(reasons) == 1) {
				t.Errorf("sent %q, put aside is %q because of %+v", got, data, reasons)
			}
		})
	}
}
