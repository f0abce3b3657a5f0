//go:build unix

package whole_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	hookPath = "/hook"
	// itemPath is below what a fired timer writes through a mirror; its id follows.
	itemPath = "/item/"
	// readsAtOnce is how many of the receiver's reads are under way at most.
	readsAtOnce = 32
)

// receiver is called by timers. It writes each delivery through a mirror, answers when that was answered, and then reads it back.
type receiver struct {
	*part

	writes  *client
	readers []*client // by mirror
	reads   chan struct{}
	reading sync.WaitGroup
	ctx     context.Context //nolint:containedctx // of the reads, which outlive their requests, and end with the receiver
}

func runReceiver(ctx context.Context, p *part) error {
	v := &receiver{part: p, writes: newMirrorClient(p.Mirrors, 0), reads: make(chan struct{}, readsAtOnce), ctx: ctx}
	defer v.writes.close()
	for i := range p.Mirrors {
		c := newMirrorClient(p.Mirrors, i)
		defer c.close()
		v.readers = append(v.readers, c)
	}
	defer v.reading.Wait()
	return p.serve(ctx, v)
}

// ServeHTTP takes a delivery.
func (v *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != hookPath {
		http.NotFound(w, r)
		return
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return // the connection broke
	}
	e := record{What: delivered, ID: r.Header.Get("Skybus-Timer-Id"), Key: r.Header.Get("Idempotency-Key")}
	due, err := time.Parse(time.RFC3339Nano, r.Header.Get("Skybus-Due"))
	if err != nil || e.ID == "" || e.Key == "" {
		http.Error(w, fmt.Sprintf("not from a timer: %v", err), http.StatusBadRequest)
		return
	}
	e.Due = due.UnixNano()
	if err := v.add(e); err != nil {
		fmt.Fprintln(os.Stderr, "journal:", err)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if err := v.write(r.Context(), e); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable) // it will be delivered once more
		return
	}
	w.WriteHeader(http.StatusOK)
}

// write writes a delivery through a mirror. Repeats of it are the same write.
func (v *receiver) write(ctx context.Context, e record) error {
	out := record{What: wrote, ID: e.ID, Key: e.Key, Begin: time.Now().UnixNano(), Method: http.MethodPut, Path: itemPath + e.ID, Body: e.ID + " " + e.Key}
	a := v.writes.ask(ctx, request{out.Method, out.Path, []string{"Idempotency-Key", out.Key}, out.Body})
	if a.err != "" {
		return fmt.Errorf("write: %s", a.err)
	}
	out.Status = a.status
	var err error
	if out.Number, out.Lane, err = place(a.header); err != nil {
		return fmt.Errorf("write: %d: %w", a.status, err)
	}
	if err := v.add(out); err != nil {
		return err
	}
	select {
	case v.reads <- struct{}{}:
		v.reading.Go(func() {
			defer func() { <-v.reads }()
			v.read(out)
		})
	default: // some are read back, not all
	}
	return nil
}

// read reads back what was written, through one mirror or the other.
func (v *receiver) read(w record) {
	out := record{What: looked, ID: w.ID, Begin: time.Now().UnixNano(), Path: w.Path, Number: w.Number, Lane: w.Lane}
	a := v.readers[int(w.Number)%len(v.readers)].ask(v.ctx, readRequest(w.Path, w.Number, w.Lane))
	if a.err != "" {
		return // not every read can be served while things fail
	}
	out.Status, out.Body = a.status, a.body
	v.own(out)
}

// place is the number and lane of a write that was answered.
func place(h http.Header) (number uint64, lane int, err error) {
	if number, err = strconv.ParseUint(h.Get("Skybus-Seq"), 10, 64); err == nil {
		lane, err = strconv.Atoi(h.Get("Skybus-Lane"))
	}
	return number, lane, err
}

// readRequest asks for a path as it is after a write.
func readRequest(path string, number uint64, lane int) request {
	return request{http.MethodGet, path, []string{"Skybus-Min-Seq", strconv.FormatUint(number, 10), "Skybus-Lane", strconv.Itoa(lane)}, ""}
}
