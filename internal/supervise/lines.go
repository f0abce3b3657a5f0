package supervise

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
)

// maxLine is the longest line, in bytes, that is kept in one piece. Of a longer one each piece becomes a line.
const maxLine = 64 << 10

// merger lets lines through one at a time, whichever of its writers they are for.
type merger struct{ mu sync.Mutex }

// to writes whole lines to w. Who reads a terminal may be gone; the copies go on.
func (m *merger) to(w io.Writer) func([]byte) {
	return func(lines []byte) {
		if w == nil {
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		_, _ = w.Write(lines)
	}
}

// prefix stands in front of each line of a copy.
type prefix string

func newPrefix(name string, i, width int, color bool) prefix {
	text := fmt.Sprintf("%-*s | ", width, name)
	if !color {
		return prefix(text)
	}
	const colors = 6 // of the terminal's own, without black, white and the red of errors
	return prefix(fmt.Sprintf("\x1b[%dm%s\x1b[0m", [colors]int{36, 33, 32, 35, 34, 96}[i%colors], text))
}

// copyLines reads r to its end and writes each line whole, with the prefix in front; as many in one go as there are.
func (p prefix) copyLines(r io.Reader, write func([]byte)) {
	lines := bufio.NewReaderSize(r, maxLine)
	var buf []byte
	for {
		line, err := lines.ReadSlice('\n')
		if len(line) > 0 {
			buf = append(append(buf, p...), line...)
			if line[len(line)-1] != '\n' {
				buf = append(buf, '\n')
			}
		}
		if len(buf) > 0 && (len(buf) >= maxLine || !hasLine(lines)) {
			write(buf)
			buf = buf[:0]
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// hasLine tells whether the next line can be read without waiting for it.
func hasLine(r *bufio.Reader) bool {
	ready, err := r.Peek(r.Buffered())
	return err == nil && bytes.IndexByte(ready, '\n') >= 0
}
