package bustest

import (
	"fmt"
	"io"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

// logger writes the server's log and keeps the first fatal line: it is all that a
// server says about why it did not start.
type logger struct {
	w io.Writer // nil means no log

	mu    sync.Mutex
	first error
}

var _ server.Logger = (*logger)(nil)

// fatal returns what kept the server from starting, or nil.
func (l *logger) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

func (l *logger) print(level, format string, args []any) {
	if l.w != nil {
		_, _ = fmt.Fprintf(l.w, "nats-server: "+level+": "+format+"\n", args...)
	}
}

func (l *logger) Noticef(format string, args ...any) { l.print("info", format, args) }
func (l *logger) Warnf(format string, args ...any)   { l.print("warn", format, args) }
func (l *logger) Errorf(format string, args ...any)  { l.print("error", format, args) }
func (l *logger) Debugf(format string, args ...any)  { l.print("debug", format, args) }
func (l *logger) Tracef(format string, args ...any)  { l.print("trace", format, args) }

func (l *logger) Fatalf(format string, args ...any) {
	l.print("fatal", format, args)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = fmt.Errorf("nats-server: "+format, args...)
	}
}
