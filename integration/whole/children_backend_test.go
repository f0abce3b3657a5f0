//go:build unix

package whole_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// content is what a backend keeps: the last body that was put at a path, or all that were posted to it, a line each. As docs/mirror.md
// advises it keeps the highest number for each lane too, and does not do again what it has seen: so nothing that comes late, from a process that
// had stood still, undoes a later write. A post whose Idempotency-Key is known changes nothing, as with any application that takes payments.
type content struct {
	Values map[string]string `json:"values"`

	highest map[int]uint64
	known   map[string]bool
}

func newContent() content { return content{map[string]string{}, map[int]uint64{}, map[string]bool{}} }

func (c content) apply(e record) {
	if e.Number <= c.highest[e.Lane] {
		return
	}
	c.highest[e.Lane] = e.Number
	switch {
	case e.Method != http.MethodPost:
		c.Values[e.Path] = e.Body
	case !c.known[e.Key]:
		c.known[e.Key] = true
		c.Values[e.Path] += e.Body + "\n"
	}
}

// contentPath is where a backend shows all that it has.
const contentPath = "/-/content"

// backend is an application behind the mirrors. Its journal is its store: a write is in it before it is answered.
type backend struct {
	*part

	mu      sync.Mutex
	content content
}

func runBackend(ctx context.Context, p *part) error {
	b := &backend{part: p, content: newContent()}
	var past childJournal
	if _, err := past.read(p.file); err != nil {
		return err
	}
	if len(past.wrong) > 0 {
		return fmt.Errorf("journal: %v", past.wrong)
	}
	for _, e := range past.records {
		if e.What == applied {
			b.content.apply(e)
		}
	}
	return p.serve(ctx, b)
}

const (
	stopTimeout = 5 * time.Second
	stopCut     = 2 * time.Second // after which requests that are still handled find their context ended
)

// serve serves h at the child's address, and finishes what it has begun when ctx ends.
func (p *part) serve(ctx context.Context, h http.Handler) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", p.Listen)
	if err != nil {
		return err
	}
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	srv := &http.Server{Handler: h, ReadHeaderTimeout: stopTimeout, BaseContext: func(net.Listener) context.Context { return requests }}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		late := time.AfterFunc(stopCut, cut)
		defer late.Stop()
		finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		stopped <- srv.Shutdown(finish)
	})
	p.ready(fmt.Sprintf("http://%s", l.Addr()))
	if err := srv.Serve(l); stop() {
		return err // nobody asked for it
	}
	return <-stopped
}

// ServeHTTP applies writes.
func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the connection broke
	}
	switch {
	case r.URL.Path == contentPath:
		b.mu.Lock()
		defer b.mu.Unlock()
		_ = json.NewEncoder(w).Encode(b.content) // who asks sees that it is cut off
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		b.mu.Lock()
		v, ok := b.content.Values[r.URL.Path]
		b.mu.Unlock()
		if !ok && r.URL.Path != "/" { // where its health is asked for
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, v) // the reader may have gone
	default:
		b.write(w, r, string(body))
	}
}

func (b *backend) write(w http.ResponseWriter, r *http.Request, body string) {
	e := record{What: applied, Key: r.Header.Get("Idempotency-Key"), Method: r.Method, Path: r.URL.Path, Body: body}
	var err error
	if e.Number, err = strconv.ParseUint(r.Header.Get("Skybus-Seq"), 10, 64); err == nil {
		e.Lane, err = strconv.Atoi(r.Header.Get("Skybus-Lane"))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.add(e); err != nil {
		fmt.Fprintln(os.Stderr, "journal:", err)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	b.content.apply(e)
	w.WriteHeader(http.StatusOK)
}
