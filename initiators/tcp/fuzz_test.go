package tcp_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators/tcp"
)

const fuzzLimit = 300

// frames reads frames until that fails, and checks each.
func frames(t *testing.T, framing tcp.Framing, r io.Reader) (all []string, err error) {
	t.Helper()
	br := bufio.NewReaderSize(r, 64) // smaller than a frame
	for {
		if _, err := br.Peek(1); err != nil {
			return all, err
		}
		frame, err := framing.ReadFrame(br, fuzzLimit)
		switch {
		case errors.Is(err, tcp.ErrSkip):
			continue
		case err != nil:
			return all, err
		case len(frame) > fuzzLimit:
			t.Fatalf("a frame of %d bytes", len(frame))
		}
		all = append(all, string(frame))
	}
}

// fuzz checks a framing with bytes from outside: however they are cut up on their way they are the same frames, and each that can be written is read as it was.
func fuzz(t *testing.T, framing tcp.Framing, data []byte, trim string) {
	t.Helper()
	all, err := frames(t, framing, bytes.NewReader(data))
	slow, slowErr := frames(t, framing, iotest.OneByteReader(bytes.NewReader(data)))
	if strings.Join(all, "\x00|") != strings.Join(slow, "\x00|") || err.Error() != slowErr.Error() {
		t.Fatalf("%q, %v; byte by byte %q, %v", all, err, slow, slowErr)
	}
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	var written []string
	for _, body := range append(all, string(data)) {
		err := framing.WriteFrame(w, []byte(body))
		if e, ok := errors.AsType[*bus.Error](err); ok && e.Code == bus.OutOfRange {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(body) <= fuzzLimit {
			written = append(written, strings.TrimRight(body, trim))
		} else {
			_ = w.Flush()
			out.Reset()
			written = nil
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	back, err := frames(t, framing, &out)
	if !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("what was written does not read: %v", err)
	}
	if len(back) != len(written) {
		t.Fatalf("%q was written, %q read", written, back)
	}
	for i := range back {
		if back[i] != written[i] && !strings.ContainsAny(written[i], "\n\r") { // JSON loses its line feeds
			t.Fatalf("%q was written, %q read", written[i], back[i])
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, s := range []string{"", "a\n", "a\r\nb", "\n\r\n", "\r\r\n", "{\"a\":\n1}\n", strings.Repeat("x", fuzzLimit+1) + "\n", strings.Repeat("y", fuzzLimit) + "\r\n", "\x00\xff\n", "GET / HTTP/1.1\r\n\r\n"} {
		f.Add([]byte(s), byte(0))
		f.Add([]byte(s), byte(5))
	}
	f.Fuzz(func(t *testing.T, data []byte, options byte) {
		fuzz(t, tcp.Line{CRLF: options%4 == 1, KeepCR: options%4 == 2, Empty: true}, data, "")
		_, _ = frames(t, tcp.Line{}, bytes.NewReader(data))
	})
}

func FuzzPrefix(f *testing.F) {
	for _, s := range []string{"", "\x00", "\x01a", "\x00\x01a\x00\x00", "\x00\x00\x00\x02ab", "\xff\xff\xff\xff", "\x7f\xff\xff\xffx", "\x02\x00\x00\x00ab\x00", "\x00\x00\x01\x2d" + strings.Repeat("x", fuzzLimit+1)} {
		for size := range byte(6) {
			f.Add([]byte(s), size)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, size byte) {
		fuzz(t, tcp.Prefix{Bytes: 1 << (size % 3), LittleEndian: size/3%2 == 1}, data, "")
	})
}

func FuzzFixed(f *testing.F) {
	for _, s := range []string{"", "a", "abc", "abc   d", "      ", "\x00\x00\x00\n\n\n", "a  b  c"} {
		f.Add([]byte(s), uint8(3), false)
		f.Add([]byte(s), uint8(1), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, size uint8, binary bool) {
		trim := " "
		if binary {
			trim = ""
		}
		if size == 0 || !binary && len(bytes.TrimRight(data, " ")) == 0 {
			return // a record of spaces is skipped
		}
		fuzz(t, tcp.Fixed{Size: int(size), Binary: binary}, data, trim)
	})
}
