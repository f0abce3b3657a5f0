package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/skybus-io/skybus/bus"
)

// ending says that nothing more is read of a file, and why.
type ending uint8

const (
	reads     ending = iota
	complete         // all of it was read
	suspended        // it grows, or could not be read: it is gone on with later
	lost             // what was not read is gone
)

// reading is a file that is being read, or whose records are being sent.
type reading struct {
	n           *session
	id          string
	name        string // below the directory, when it was opened
	contentType string
	columns     []string // of CSV; nil before the header was read
	st          *stored
	sp          *splitter
	number      int64 // of the last record that was read
	opened      int64 // size when it was opened
	track       tracker
	aside       aside
	over        chan struct{} // closed when all is done with it

	mu       sync.Mutex
	src      *guarded
	at       place
	end      ending
	size     int64 // at the end
	rejected bool  // the file itself goes to the failed directory

	covered position // of the keeper alone: up to here a checkpoint says it, or the file was truncated
}

var (
	errActive   = errors.New("the file is being worked on")
	errFinished = errors.New("the file is done")
	errGone     = fmt.Errorf("the file was moved: %w", fs.ErrNotExist)
)

// open begins to read a file from where it is done. The error is errActive or errFinished where there is nothing to read.
func (n *session) open(ctx context.Context, name string) (*reading, fs.FileInfo, error) {
	f, info, err := openRegular(n.root, name)
	if err != nil {
		return nil, nil, err
	}
	r, err := n.newReading(ctx, name, f, info)
	if err != nil {
		return nil, info, errors.Join(err, f.Close())
	}
	return r, info, nil
}

func (n *session) newReading(ctx context.Context, name string, f *os.File, info fs.FileInfo) (*reading, error) {
	src := &guarded{f: f}
	if err := src.check(0); err != nil {
		return nil, err
	}
	at, err := placeOf(f, info, n.home)
	if err != nil {
		return nil, err
	}
	if n.busyAt(at) {
		return nil, errActive
	}
	// It may have been finished and put away since it was opened.
	if there, err := n.root.Stat(name); err != nil || !os.SameFile(there, info) {
		return nil, errors.Join(errGone, err)
	}
	st, cp, err := n.match(at, f, info)
	if err != nil {
		return nil, err
	}
	if st == nil {
		size := info.Size()
		if n.s.cfg.Follow != "" {
			size = -1
		}
		for _, gone := range n.at(at) { // a place is of one file
			if err := n.forget(ctx, gone); err != nil {
				return nil, err
			}
		}
		cp = Checkpoint{File: name, Device: at.device, Inode: at.inode, Head: markBytes(src.head), Tail: markBytes(nil), Modified: info.ModTime()}
		st = &stored{id: newID(at, info, size, src.head), cp: cp}
	}
	if cp.Done && cp.Offset == info.Size() {
		if err := n.doneAlready(ctx, st, name, info); err != nil {
			return nil, err
		}
		return nil, errFinished
	}
	r := n.readingOf(st, &cp, name, src, at)
	r.opened = info.Size()
	return r, nil
}

// readingOf is a file that is read from its checkpoint.
func (n *session) readingOf(st *stored, cp *Checkpoint, name string, src *guarded, at place) *reading {
	r := &reading{
		n: n, id: st.id, name: name, contentType: n.s.cfg.contentType(name), columns: n.s.cfg.Columns, st: st, src: src, at: at,
		number: cp.Number, over: make(chan struct{}),
	}
	r.covered = position{cp.Offset, cp.Number, cp.Refused}
	r.track.low, r.aside.r = r.covered, r
	r.sp = newSplitter(src, &n.s.cfg, cp.Offset)
	return r
}

// match is the checkpoint of a file: of one at the same place that has what was read of it, however it is called now.
func (n *session) match(at place, f io.ReaderAt, info fs.FileInfo) (*stored, Checkpoint, error) {
	for _, st := range n.at(at) {
		cp := n.look(st)
		if n.s.cfg.Format == Whole && (cp.Size != info.Size() || !cp.Modified.Equal(info.ModTime())) {
			continue // what was changed is another piece of traffic
		}
		if fits, err := cp.fits(f, info); fits || err != nil {
			return st, cp, err
		}
	}
	return nil, Checkpoint{}, nil
}

// fits tells whether a file has what was read of the one the checkpoint is of.
func (cp *Checkpoint) fits(f io.ReaderAt, info fs.FileInfo) (bool, error) {
	if info.Size() < cp.Offset {
		return false, nil
	}
	if fits, err := cp.Head.fits(f, int64(cp.Head.Bytes)); !fits || err != nil {
		return false, err
	}
	return cp.Tail.fits(f, cp.Offset)
}

// file is the open file.
func (r *reading) file() *os.File {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.src.f
}

func (r *reading) place() place {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}

// pull reads and hands out all records there are; final says that no more will come. The error is errChanged, one of reading, or why
// ctx ended.
func (r *reading) pull(ctx context.Context, final bool) error {
	err := r.header(final)
	for err == nil {
		var p piece
		if p, err = r.sp.next(final); err == nil {
			err = r.submit(ctx, p)
		}
	}
	if errors.Is(err, errMore) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// submit queues a record, once there is room.
func (r *reading) submit(ctx context.Context, p piece) error {
	if err := r.n.room(ctx); err != nil {
		return err
	}
	r.number++
	rec := &record{piece: p, of: r, number: r.number, seq: r.track.add(p.end, r.number)}
	select {
	case r.n.queue <- rec:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// header reads the names of the columns, where they are not known. It is errMore while they are not written.
func (r *reading) header(final bool) error {
	if r.n.s.cfg.Format != CSV || r.columns != nil {
		return nil
	}
	sp := r.sp
	if sp.at() > 0 {
		sp = newSplitter(sp.src, &r.n.s.cfg, 0)
	}
	p, err := sp.next(final)
	if err != nil {
		return err
	}
	if p.err != nil {
		return p.err
	}
	columns, bad := parseFields(p.data, r.n.s.cfg.Comma)
	if bad == nil {
		if err := checkColumns(columns); err != nil {
			bad = bus.AsError(err)
		}
	}
	if bad != nil {
		return bus.Wrap(bad.Code, "header: "+bad.Message, bad)
	}
	r.columns = columns
	return nil
}

// did takes a record that is done, and tells whether that was the last of the file.
func (r *reading) did(seq uint64, refused bool) bool {
	r.track.done(seq, refused)
	if end, _ := r.ending(); end == reads {
		return false
	}
	_, idle := r.track.position()
	return idle
}

func (r *reading) ending() (ending, int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.end, r.size
}

// finish says that nothing more is read.
func (r *reading) finish(end ending, size int64) {
	r.mu.Lock()
	r.end, r.size = end, size
	r.mu.Unlock()
	r.n.nudge()
}

// movesAway tells whether a refused file is moved instead of copied.
func (r *reading) movesAway() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rejected || r.n.s.cfg.Format == Whole && r.n.s.cfg.After != Leave
}

func (r *reading) reject() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rejected = true
}

func (r *reading) isRejected() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rejected
}

func (r *reading) close() {
	r.aside.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.src.f.Close() // it was only read
}
