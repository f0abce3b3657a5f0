package file

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
)

// sighting is what a file looked like, and since when.
type sighting struct {
	inode    uint64
	size     int64
	modified time.Time
	since    time.Time
}

func (s sighting) same(info fs.FileInfo) bool {
	return s.inode == inodeOf(info) && s.size == info.Size() && s.modified.Equal(info.ModTime())
}

// candidate is a file that is complete, so far as one can see.
type candidate struct {
	name string
	info fs.FileInfo
}

// errLeft says that Config.Once cannot be kept.
var errLeft = errors.New("not all files could be read and put away")

// watch reads the files of the directory, each once it is quiet.
func (n *session) watch(ctx context.Context) error {
	t := n.notify(ctx)
	defer t.close()
	for ctx.Err() == nil {
		if err := n.sameRoot(); err != nil {
			return err
		}
		begin := time.Now()
		ready, again, err := n.scan(ctx, t)
		took := time.Since(begin)
		if err == nil {
			n.fine(ctx, "directory")
		} else {
			n.trouble(ctx, "directory", err)
		}
		found, err := n.readAll(ctx, ready, err != nil)
		switch {
		case err != nil:
			return err
		case found.begun > 0:
			continue
		case n.s.cfg.Once && again == 0 && found.busy == 0 && n.idle():
			if found.failed {
				return errLeft
			}
			return nil
		}
		// A large directory is not looked at all the time because something always changes in it.
		t.wait(ctx, n.pause(again))
		backoff.Sleep(ctx, min(took, n.s.cfg.Rescan))
	}
	return nil
}

// found is what became of files that were ready.
type found struct {
	begun  int // were read
	busy   int // are being worked on
	failed bool
}

// readAll reads the files that are ready.
func (n *session) readAll(ctx context.Context, ready []candidate, failed bool) (found, error) {
	f := found{failed: failed}
	defer n.s.counts.waiting.Store(0)
	for i, c := range ready {
		n.s.counts.waiting.Store(int64(len(ready) - i))
		err := n.readFile(ctx, c)
		switch {
		case err == nil:
			f.begun++
		case ctx.Err() != nil:
			return f, nil
		case errors.Is(err, errLeaseLost), errors.Is(err, errFenced):
			return f, err
		case errors.Is(err, errActive):
			f.busy++
		case errors.Is(err, errFinished), errors.Is(err, fs.ErrNotExist):
			n.s.counts.left.Add(-c.info.Size())
		default:
			n.trouble(ctx, c.name, err)
			f.failed = true
		}
	}
	return f, nil
}

// pause is how long to wait for a change.
func (n *session) pause(again time.Duration) time.Duration {
	wait := n.s.cfg.Rescan
	if again > 0 {
		wait = min(wait, again)
	}
	if n.s.cfg.Once && !n.idle() {
		wait = min(wait, n.s.cfg.Checkpoint)
	}
	return wait
}

// errMoved ends a session whose directory is not the one of that name any more.
var errMoved = errors.New("there is another directory of that name now")

func (n *session) sameRoot() error {
	open, err := n.root.Stat(".")
	if err != nil {
		return err
	}
	named, err := os.Stat(n.s.cfg.dir())
	if err != nil {
		return err
	}
	if !os.SameFile(open, named) {
		return errMoved
	}
	return nil
}

// scan looks at all files. Those that have not changed for long enough are ready, in order; again is when the next may be, 0 for none.
func (n *session) scan(ctx context.Context, t *notifier) (ready []candidate, again time.Duration, err error) {
	now := time.Now()
	seen := map[string]bool{}
	inodes := map[uint64]bool{}
	dirs := map[string]bool{}
	crowded := false
	err = n.walk(ctx, t, dirs, func(name string, info fs.FileInfo) error {
		if len(seen) == MaxFiles {
			crowded = true
			return fs.SkipAll
		}
		seen[name], inodes[inodeOf(info)] = true, true
		if n.settled[name].same(info) {
			return nil
		}
		s, ok := n.sights[name]
		if !ok || !s.same(info) {
			s = sighting{inodeOf(info), info.Size(), info.ModTime(), now}
			n.sights[name] = s
		}
		if left := n.s.cfg.Quiet - now.Sub(s.since); left > 0 {
			again = min(cmp.Or(again, left), left)
			return nil
		}
		ready = append(ready, candidate{name, info})
		return nil
	})
	if err != nil || ctx.Err() != nil {
		return ready, again, err
	}
	if crowded {
		n.trouble(ctx, "directory", bus.Errorf(bus.ResourceExhausted, "more than %d files: the others wait", MaxFiles))
	} else {
		n.tidy(seen, dirs, t)
		err = n.missing(ctx, func(_ *stored, cp *Checkpoint) bool { return inodes[cp.Inode] || inodes[0] && seen[cp.File] })
	}
	n.sort(ready)
	n.s.counts.left.Store(n.sizeLeft(ready))
	return ready, again, err
}

// sizeLeft is how much is to be done: of files that are ready, and of those that are being worked on, which are still there.
func (n *session) sizeLeft(ready []candidate) (size int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	busy := map[uint64]bool{}
	for _, r := range n.active {
		busy[r.place().inode] = true
		size += max(0, r.opened-r.track.start())
	}
	for _, c := range ready {
		if !busy[inodeOf(c.info)] {
			size += c.info.Size()
		}
	}
	return size
}

// tidy forgets what is gone.
func (n *session) tidy(seen, dirs map[string]bool, t *notifier) {
	for _, known := range []map[string]sighting{n.sights, n.settled} {
		for name := range known {
			if !seen[name] {
				delete(known, name)
			}
		}
	}
	t.keep(dirs)
}

func (n *session) sort(ready []candidate) {
	slices.SortFunc(ready, func(a, b candidate) int {
		if n.s.cfg.Order == ByTime {
			if c := a.info.ModTime().Compare(b.info.ModTime()); c != 0 {
				return c
			}
		}
		return strings.Compare(a.name, b.name)
	})
}

// walk gives f the regular files that are wanted; links are not followed.
func (n *session) walk(ctx context.Context, t *notifier, dirs map[string]bool, f func(string, fs.FileInfo) error) error {
	cfg := &n.s.cfg
	return fs.WalkDir(n.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return fs.SkipAll
		case err != nil && name == ".":
			return err
		case errors.Is(err, fs.ErrNotExist): // gone meanwhile
			return nil
		case err != nil:
			n.trouble(ctx, name, err)
			return nil
		case d.IsDir():
			if name != "." && (!cfg.Recursive || name == cfg.Done || name == cfg.Failed || cfg.excluded(name)) {
				return fs.SkipDir
			}
			dir := filepath.Join(cfg.dir(), filepath.FromSlash(name))
			dirs[dir] = true
			t.add(dir)
			return nil
		case !d.Type().IsRegular() || !cfg.wanted(name):
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			n.trouble(ctx, name, err)
			return nil
		}
		return f(name, info)
	})
}

// wanted tells whether a file is one of those that are read.
func (c Config) wanted(name string) bool {
	return (c.Include == nil || matches(c.Include, name)) && !c.excluded(name)
}

func (c Config) excluded(name string) bool { return matches(c.Exclude, name) }

func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		at := path.Base(name)
		if strings.Contains(p, "/") {
			at = name
		}
		if ok, _ := path.Match(p, at); ok { // patterns were checked
			return true
		}
	}
	return false
}

// readFile reads a file that is quiet. The error is why there is nothing to read of it.
func (n *session) readFile(ctx context.Context, c candidate) error {
	select {
	case n.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	r, info, err := n.open(ctx, c.name)
	if err != nil {
		<-n.slots
		if errors.Is(err, errFinished) && !changed(info, c.info) {
			n.settled[c.name] = n.sights[c.name]
		}
		return err
	}
	n.activate(r)
	if changed(info, c.info) { // since it was looked at
		delete(n.sights, c.name)
		r.finish(suspended, 0)
		return nil
	}
	return r.read(ctx, info)
}

// read reads all of a file of the directory. When ctx ends it stays as it is, and the next process goes on.
func (r *reading) read(ctx context.Context, info fs.FileInfo) error {
	err := r.readUnchanged(ctx, info)
	if ctx.Err() != nil {
		err = nil
	}
	e, refused := errors.AsType[*bus.Error](err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errChanged):
		r.n.s.counts.truncations.Add(1)
		r.n.s.log.WarnContext(ctx, "file was truncated while it was read, it is read anew", "file", r.name)
		r.finish(lost, 0)
		err = nil
	case refused:
		r.refuse(ctx, info.Size(), e)
		return nil
	default:
		r.finish(suspended, 0)
	}
	delete(r.n.sights, r.name)
	return err
}

// readUnchanged reads to the end, and once more if there is none of a line: nothing was written meanwhile.
func (r *reading) readUnchanged(ctx context.Context, info fs.FileInfo) error {
	if r.n.s.cfg.Format == Whole {
		return r.readWhole(ctx, info)
	}
	if err := r.pull(ctx, false); err != nil {
		return err
	}
	now, err := r.file().Stat()
	if err != nil {
		return err
	}
	if changed(now, info) {
		delete(r.n.sights, r.name)
		r.finish(suspended, 0)
		return nil
	}
	if err := r.pull(ctx, true); err != nil {
		return err
	}
	r.finish(complete, info.Size())
	return nil
}

func (r *reading) readWhole(ctx context.Context, info fs.FileInfo) error {
	p, err := readWhole(r.sp.src, info.Size(), r.n.s.cfg.MaxRecord)
	if err != nil {
		return err
	}
	if p.end > 0 {
		if err := r.submit(ctx, p); err != nil {
			return err
		}
	}
	r.finish(complete, info.Size())
	return nil
}

// refuse puts the whole file aside: nothing of it can be read.
func (r *reading) refuse(ctx context.Context, size int64, why *bus.Error) {
	if r.n.s.cfg.After != Leave {
		r.reject()
	}
	if r.n.putAside(ctx, &record{piece: piece{end: size}, of: r}, why) != nil {
		return // ctx has ended
	}
	r.n.s.counts.refused.Add(1)
	r.n.s.log.WarnContext(ctx, "file refused", "file", r.name, "code", why.Code, "error", why.Message)
	r.finish(complete, size)
}
