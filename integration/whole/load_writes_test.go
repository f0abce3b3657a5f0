//go:build unix

package whole_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	hotPaths  = 40 // where writes replace each other
	listPaths = 10 // where they are added to
)

// mirrorTimeout is how long the mirror waits for a backend before it sends a write again.
const mirrorTimeout = time.Second

// mirrorHost is by which name clients know all processes of the mirror.
const mirrorHost = "mirror.test"

func newMirrorClient(bases []string, first int) *client {
	c := newClient(bases, first)
	c.host = mirrorHost
	return c
}

// write writes through one mirror, and reads what it wrote through one.
func (l *load) write(r *rand.Rand, id string) {
	o := operation{kind: written, id: id, begin: time.Now(), path: fmt.Sprintf("/hot/%d", r.IntN(hotPaths))}
	method := http.MethodPut
	if r.IntN(5) == 0 {
		o.path, o.add, method = fmt.Sprintf("/list/%d", r.IntN(listPaths)), true, http.MethodPost
	}
	via, back := either(r, l.mirrors), either(r, l.mirrors)
	a := via.ask(l.asking(), request{method, o.path, []string{"Idempotency-Key", id, "Content-Type", "text/plain"}, id})
	unfit := ""
	if a.err == "" {
		var err error
		if o.number, o.lane, err = place(a.header); err != nil || a.status >= http.StatusMultipleChoices {
			unfit = fmt.Sprintf("%d %.200s: %v", a.status, a.body, err)
		}
	}
	l.settle(o, a, unfit)
	if a.err == "" && unfit == "" {
		l.read(back, o)
	}
}

// read reads a path as it was after a write.
func (l *load) read(via *client, w operation) {
	o := operation{kind: read, id: w.id, begin: time.Now(), path: w.path, add: w.add, number: w.number, lane: w.lane}
	a := via.ask(l.asking(), readRequest(w.path, w.number, w.lane))
	unfit := ""
	if a.status != http.StatusOK {
		unfit = fmt.Sprintf("%d %.200s", a.status, a.body)
	}
	o.body = a.body
	l.settle(o, a, unfit)
}
