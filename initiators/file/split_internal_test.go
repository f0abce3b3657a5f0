package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// dribble gives a few bytes at a time.
type dribble struct {
	data []byte
	step int
}

func (d dribble) ReadAt(b []byte, off int64) (int, error) {
	if off >= int64(len(d.data)) {
		return 0, io.EOF
	}
	return copy(b[:min(len(b), d.step)], d.data[off:]), nil
}

// splitAll cuts data, from an offset on.
func splitAll(src io.ReaderAt, cfg *Config, from int64) ([]piece, error) {
	s := newSplitter(src, cfg, from)
	var all []piece
	for {
		p, err := s.next(true)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, p)
	}
}

func (p piece) String() string {
	if p.err != nil {
		return fmt.Sprintf("%d-%d!%q", p.offset, p.end, p.data)
	}
	return fmt.Sprintf("%d-%d %q", p.offset, p.end, p.data)
}

func TestSplit(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 21)
	for name, tt := range map[string]struct {
		format Format
		in     string
		want   string
	}{
		"nothing":             {Lines, "", ""},
		"lines":               {Lines, "a\nb\r\n\n\r\nc", `0-2 "a" 2-5 "b" 8-9 "c"`},
		"carriage return":     {Lines, "a\rb\r\r\n", `0-6 "a\rb\r"`},
		"byte order mark":     {NDJSON, "\xef\xbb\xbf1\n", `3-5 "1"`},
		"as large as may be":  {Lines, strings.Repeat("x", 20) + "\r\ny\n", `0-22 "xxxxxxxxxxxxxxxxxxxx" 22-24 "y"`},
		"too large":           {Lines, "a\n" + long + "\nb\n", `0-2 "a" 2-24!"" 24-26 "b"`},
		"too large at end":    {Lines, "a\n" + long + long, `0-2 "a" 2-44!""`},
		"csv":                 {CSV, "a,b\n1,2\n", `0-4 "a,b" 4-8 "1,2"`},
		"csv quotes":          {CSV, "\"a\nb\",\"c\"\"\nd\"\n1\n", `0-14 "\"a\nb\",\"c\"\"\nd\"" 14-16 "1"`},
		"csv bare quote":      {CSV, "a\"b,c\nd\n", `0-6 "a\"b,c" 6-8 "d"`},
		"csv quote amid":      {CSV, "\"a\"b\nd\n", `0-5 "\"a\"b" 5-7 "d"`},
		"csv not closed":      {CSV, "a\n\"b\nc\n", `0-2 "a" 2-7!"\"b\nc"`},
		"csv not closed long": {CSV, "a\n\"b\n" + long + "\n" + long, `0-2 "a" 2-48!""`},
		"csv closed late":     {CSV, "\"b\n" + long + "\",c\nd\n", `0-28!"" 28-30 "d"`},
		"csv rows in a field": {CSV, "\"" + strings.Repeat("r,r\n", 9) + "\"\nd\n", `0-39!"" 39-41 "d"`},
	} {
		cfg := &Config{Format: tt.format, Comma: ',', MaxRecord: 20}
		for _, step := range []int{1, 2, 7, 1000} {
			pieces, err := splitAll(dribble{[]byte(tt.in), step}, cfg, 0)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if got := strings.Trim(fmt.Sprint(pieces), "[]"); got != tt.want {
				t.Errorf("%s, %d bytes at a time: %s\nwant %s", name, step, got, tt.want)
			}
		}
	}
	for _, bom := range []string{"\xff\xfea\x00", "\xfe\xff\x00a"} {
		if _, err := splitAll(strings.NewReader(bom), &Config{Format: Lines, MaxRecord: 20}, 0); !errors.Is(err, errUTF16) {
			t.Errorf("UTF-16: %v", err)
		}
	}
}

func TestSplitWaits(t *testing.T) {
	t.Parallel()
	cfg := &Config{Format: Lines, MaxRecord: 20}
	s := newSplitter(strings.NewReader(""), cfg, 0)
	var text strings.Builder
	for _, step := range []struct{ add, want string }{
		{"\xef", ""}, {"\xbb\xbfa", ""}, {"b", ""}, {"\n", "ab"}, {"c\nd", "c"}, {"\n", "d"}, {strings.Repeat("x", 30), ""}, {"y\nz\n", "!"}, {"", "z"},
	} {
		text.WriteString(step.add)
		s.src = strings.NewReader(text.String())
		p, err := s.next(false)
		got := string(p.data)
		if p.err != nil {
			got = "!"
		}
		if got != step.want || (err == nil) != (step.want != "") {
			t.Errorf("after %q: %q, %v; want %q", step.add, got, err, step.want)
		}
	}
}

func FuzzSplit(f *testing.F) {
	for _, seed := range []string{
		"", "a\nb\n", "a\r\n\r\nb", "\xef\xbb\xbfa,b\n1,2", "\"a\nb\",c\n\"d\"\"e\"\n", "\"open\nx\ny", "a\"b\n\"c\"d\n", "{\"a\":1}\n[]\nnull\n{", "\xff\xfe",
		strings.Repeat("x", 100) + "\ny", "\"" + strings.Repeat("x\n", 40) + "\"\n1,2\n", "\x00\n\x00", ",,\n,\n",
	} {
		for format := range uint8(3) {
			f.Add([]byte(seed), format, uint8(16), uint8(3))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, format, most, step uint8) {
		cfg := &Config{Format: []Format{Lines, CSV, NDJSON}[format%3], Comma: ',', MaxRecord: int(most) + 1}
		pieces, err := splitAll(dribble{data, int(step) + 1}, cfg, 0)
		if err != nil {
			if !errors.Is(err, errUTF16) {
				t.Fatal(err)
			}
			return
		}
		at := int64(0)
		if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
			at = 3
		}
		for i, p := range pieces {
			// Nothing is left out but empty lines.
			if p.offset < at || p.end <= p.offset || strings.Trim(string(data[at:p.offset]), "\r\n") != "" {
				t.Fatalf("piece %d is %v, after %d", i, p, at)
			}
			at = p.end
			switch {
			case p.data == nil && p.err == nil, len(p.data) > cfg.MaxRecord:
				t.Fatalf("piece %v", p)
			case p.data != nil && !bytes.Equal(p.data, trimEnd(data[p.offset:p.end])):
				t.Fatalf("piece %v is not what stands there: %q", p, data[p.offset:p.end])
			}
			if p.err == nil && cfg.Format == CSV {
				_, _ = parseFields(p.data, ',') // must not panic, nor leave something behind for the next
			}
		}
		if strings.Trim(string(data[at:]), "\r\n") != "" {
			t.Fatalf("%q is left out", data[at:])
		}
		// Who goes on after any record finds the same.
		for i, p := range pieces {
			if p.end == 0 {
				continue
			}
			rest, err := splitAll(bytes.NewReader(data), cfg, p.end)
			if err != nil || fmt.Sprint(rest) != fmt.Sprint(pieces[i+1:]) {
				t.Fatalf("from %d: %v %v, want %v", p.end, rest, err, pieces[i+1:])
			}
		}
	})
}

func FuzzParseFields(f *testing.F) {
	for _, seed := range []string{"a", "a,b", `"a,b",c`, `"a""b"`, "\"a\nb\"", `a"b`, `"a"b`, `"`, ",", "\xff", "a\x00b", " \"a\"", "\"a\r\nb\""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, record string) {
		pieces, err := splitAll(strings.NewReader(record), &Config{Format: CSV, Comma: ',', MaxRecord: 1 << 20}, 0)
		if err != nil || len(pieces) != 1 || pieces[0].err != nil {
			return
		}
		fields, bad := parseFields(pieces[0].data, ',')
		if bad != nil {
			return
		}
		// What was read, written again and read again is the same.
		columns := make([]string, len(fields))
		for i := range columns {
			columns[i] = fmt.Sprint("c", i)
		}
		object := appendObject(nil, columns, fields)
		for i, field := range fields {
			if !bytes.Contains(object, appendString(nil, field)) {
				t.Errorf("field %d, %q, is not in %s", i, field, object)
			}
		}
		// A parser that was used before, or after an error, gives the same.
		_, _ = parseFields([]byte("x\"y"), ',')
		again, bad := parseFields(pieces[0].data, ',')
		if bad != nil || fmt.Sprint(again) != fmt.Sprint(fields) {
			t.Errorf("%q, then %q %v", fields, again, bad)
		}
	})
}
