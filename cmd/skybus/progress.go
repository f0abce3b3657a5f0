package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

const (
	progressWidth = 30
	progressEvery = 100 * time.Millisecond
)

// progress is a bar on stderr that tells how far something that takes long is. It shows itself on a terminal only, and not
// where the output goes to the same one. It is safe for concurrent use.
type progress struct {
	out   io.Writer // nil where there is nobody to show it to
	what  string
	size  int64 // of the input in bytes, 0 where that is not known
	begun time.Time

	mu    sync.Mutex
	done  int64 // things
	bytes int64
	shown time.Time
	drawn bool
}

func newProgress(app *App, what string, size int64) *progress {
	p := &progress{what: what, size: size, begun: time.Now()}
	if isTerminal(app.stderr) && (size > 0 || !isTerminal(app.stdout)) {
		p.out = app.stderr
	}
	return p
}

// read tells that n bytes more of the input were read.
func (p *progress) read(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes += n
}

// of says how large the input is, where more of it turns up.
func (p *progress) of(size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size = size
}

// add tells that n more are done.
func (p *progress) add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	if now := time.Now(); p.out != nil && now.Sub(p.shown) >= progressEvery {
		p.shown, p.drawn = now, true
		fmt.Fprint(p.out, "\r\x1b[K"+p.lineLocked(now))
	}
}

func (p *progress) lineLocked(now time.Time) string {
	rate := float64(p.done) / max(now.Sub(p.begun).Seconds(), 1e-3)
	text := fmt.Sprintf("%d %s  %.0f/s", p.done, p.what, rate)
	if p.size == 0 {
		return text
	}
	part := min(float64(p.bytes)/float64(p.size), 1)
	full := int(part * progressWidth)
	return fmt.Sprintf("[%s%s] %3.0f%%  %s", strings.Repeat("#", full), strings.Repeat(".", progressWidth-full), part*100, text)
}

// clear makes room for a line of text.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn {
		p.drawn = false
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// end takes the bar away.
func (p *progress) end() {
	p.clear()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out = nil
}
