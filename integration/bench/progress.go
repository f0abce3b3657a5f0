package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progress tells people at a terminal what is going on, in one line that is written over. Elsewhere it says nothing.
type progress struct {
	w     io.Writer // nil says nothing
	begin time.Time
}

func newProgress(stderr io.Writer) *progress {
	p := &progress{begin: time.Now()}
	if f, ok := stderr.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			p.w = f
		}
	}
	return p
}

// step replaces the line.
func (p *progress) step(name, what string) {
	if p.w != nil {
		fmt.Fprintf(p.w, "\r\x1b[K%4ds  %s: %s", int(time.Since(p.begin).Seconds()), name, what)
	}
}

// end removes the line.
func (p *progress) end() {
	if p.w != nil {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
