package supervise

import (
	"bytes"
	"strings"
	"testing"
	"testing/iotest"
)

// FuzzLines copies anything, in pieces of any size: each line comes whole with its prefix, nothing is lost or added but the
// ends of lines that had none.
func FuzzLines(f *testing.F) {
	for _, seed := range []string{"", "\n", "a\nb", "\n\n", "no end", strings.Repeat("x", maxLine), strings.Repeat("y", 2*maxLine+1) + "\nz", "\x00\xff\r\n"} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, input []byte, byByte bool) {
		const name = prefix("x.1 | ")
		r := bytes.NewReader(input)
		var got []byte
		write := func(lines []byte) {
			if len(lines) > 2*maxLine+2*(len(name)+1) {
				t.Fatalf("%d bytes at once", len(lines))
			}
			for line := range bytes.Lines(lines) {
				rest, ok := bytes.CutPrefix(line, []byte(name))
				if !ok || !bytes.HasSuffix(rest, []byte("\n")) || len(rest) > maxLine+1 {
					t.Fatalf("line of %d bytes: %.60q", len(line), line)
				}
				got = append(got, rest...)
			}
		}
		if byByte {
			name.copyLines(iotest.OneByteReader(r), write)
		} else {
			name.copyLines(iotest.DataErrReader(r), write)
		}
		if want := wholeLines(input); !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, want %d: %.60q", len(got), len(want), got)
		}
	})
}

// wholeLines is input as it should come out: lines are cut where they are too long, and all are ended.
func wholeLines(input []byte) []byte {
	var want []byte
	for line := range bytes.Lines(input) {
		for len(line) > maxLine {
			want = append(append(want, line[:maxLine]...), '\n')
			line = line[maxLine:]
		}
		want = append(want, line...)
		if line[len(line)-1] != '\n' {
			want = append(want, '\n')
		}
	}
	return want
}
