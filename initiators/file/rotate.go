package file

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// nothing is a file without a rest.
type nothing struct{}

// ReadAt has nothing to read.
func (nothing) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }

// catchUp goes on with what was being read when an earlier process ended, wherever it is now, and with what was rotated since.
func (n *session) catchUp(ctx context.Context, t *notifier) error {
	var open []*stored
	for _, st := range n.resting() {
		if !n.look(st).Done {
			open = append(open, st)
		}
	}
	slices.SortFunc(open, func(a, b *stored) int { return a.cp.Modified.Compare(b.cp.Modified) })
	away := false
	for _, st := range open {
		here, err := n.resume(ctx, t, st)
		if err != nil {
			return err
		}
		away = away || !here
	}
	if !away && len(open) > 0 {
		return n.tidyFollowed(ctx)
	}
	return n.between(ctx, t)
}

// resume goes on with a file, unless it is still the one of the name that is followed.
func (n *session) resume(ctx context.Context, t *notifier, st *stored) (here bool, err error) {
	cp := n.look(st)
	if here, err := n.isHere(&cp); here || err != nil {
		return here, err
	}
	all, err := n.siblings([]string{"*"})
	if err != nil {
		return false, err
	}
	for _, c := range all {
		if in := inodeOf(c.info); in != 0 && in != cp.Inode {
			continue
		}
		f, info, err := openRegular(n.root, c.name)
		if err != nil {
			continue // gone, or not to be read: then it is not the one
		}
		at, err := placeOf(f, info, n.home)
		fits := false
		if err == nil && at == (place{cp.Device, cp.Inode}) {
			fits, err = cp.fits(f, info)
		}
		if fits && err == nil {
			return false, n.goOn(ctx, t, st, &cp, f, at)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return false, err
		}
	}
	return false, n.resumeCopy(ctx, t, st, &cp)
}

// isHere tells whether a checkpoint is that of the file of the name that is followed.
func (n *session) isHere(cp *Checkpoint) (bool, error) {
	f, info, err := openRegular(n.root, filepath.Base(n.s.cfg.Follow))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // it was only looked at
	at, err := placeOf(f, info, n.home)
	if err != nil || at != (place{cp.Device, cp.Inode}) {
		return false, err
	}
	return cp.fits(f, info)
}

// resumeCopy goes on in the copy that was made of a file before it was truncated.
func (n *session) resumeCopy(ctx context.Context, t *notifier, st *stored, cp *Checkpoint) error {
	f, info, _, err := n.findCopy(cp, cp.Offset)
	if err != nil {
		return err
	}
	if f == nil {
		n.s.counts.lost.Add(1)
		n.s.log.WarnContext(ctx, "file is gone: what was not read of it is lost", "file", cp.File, "offset", cp.Offset)
		return n.forget(ctx, st)
	}
	at, err := placeOf(f, info, n.home)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return n.goOn(ctx, t, st, cp, f, at)
}

// goOn reads a file from its checkpoint to its end.
func (n *session) goOn(ctx context.Context, t *notifier, st *stored, cp *Checkpoint, f *os.File, at place) error {
	src := &guarded{f: f}
	err := src.check(cp.Offset)
	if err == nil {
		select {
		case n.slots <- struct{}{}:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r := n.readingOf(st, cp, cp.File, src, at)
	n.activate(r)
	return n.readOut(ctx, t, r)
}

// findCopy finds a file that holds what was read of another, and is not known as a file of its own. It is nil where there is none.
func (n *session) findCopy(cp *Checkpoint, size int64) (*os.File, fs.FileInfo, string, error) {
	all, err := n.siblings(n.s.cfg.Rotated)
	if err != nil {
		return nil, nil, "", err
	}
	for _, c := range slices.Backward(all) { // the newest first
		if c.info.Size() < size {
			continue
		}
		f, info, err := openRegular(n.root, c.name)
		if err != nil {
			continue // gone, or not to be read: then it is no copy for us
		}
		fits, err := cp.fits(f, info)
		if err == nil && fits {
			var at place
			if at, err = placeOf(f, info, n.home); err == nil && len(n.at(at)) == 0 {
				return f, info, c.name, nil
			}
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, nil, "", err
		}
	}
	return nil, nil, "", nil
}

// readCopy goes on with a file that was truncated in the copy that was made of it before.
func (n *session) readCopy(ctx context.Context, t *notifier, r *reading) error {
	n.s.counts.truncations.Add(1)
	cp := n.look(r.st)
	f, info, name, err := n.findCopy(&cp, r.sp.pos)
	if err != nil {
		return err
	}
	if f == nil {
		return n.giveUp(ctx, r)
	}
	at, err := placeOf(f, info, n.home)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	src := &guarded{f: f}
	if err := src.check(0); err != nil {
		return errors.Join(err, f.Close())
	}
	r.mu.Lock()
	old := r.src.f
	r.src, r.at = src, at
	r.mu.Unlock()
	r.sp.src = src
	_ = old.Close() // it was only read
	n.s.log.DebugContext(ctx, "truncated file is read on in its copy", "file", r.name, "copy", name)
	return n.readOut(ctx, t, r)
}

// between reads what was rotated since the last file that is done, as far as nobody has read it: more than one rotation may have passed, and
// more may pass while it is read.
func (n *session) between(ctx context.Context, t *notifier) error {
	for {
		r, err := n.nextRotated(ctx)
		if err != nil {
			return err
		}
		if r == nil {
			return n.tidyFollowed(ctx)
		}
		if err := n.readOut(ctx, t, r); err != nil {
			return err
		}
	}
}

// nextRotated opens the oldest rotated file that is not done, and not older than what was done last; nil where there is none.
func (n *session) nextRotated(ctx context.Context) (*reading, error) {
	for {
		last, ok := n.lastDone()
		if !ok { // nothing was followed before
			return nil, nil
		}
		all, err := n.siblings(n.s.cfg.Rotated)
		if err != nil {
			return nil, err
		}
		moved := false
		for _, c := range all {
			if c.info.ModTime().Before(last) || c.info.Size() == 0 || n.isDone(c.info) {
				continue
			}
			r, err := n.start(ctx, c.name)
			switch {
			case errors.Is(err, errActive), errors.Is(err, errFinished):
				continue
			case errors.Is(err, fs.ErrNotExist):
				moved = true
			case err != nil:
				return nil, err
			default:
				if same, err := sameFile(r.src.f, c.info); same || err != nil {
					return r, err
				}
				moved = true
				r.finish(suspended, 0)
				if err := r.wait(ctx); err != nil {
					return nil, err
				}
			}
			if moved {
				break
			}
		}
		if !moved {
			return nil, nil
		}
	}
}

// lastDone is when the file that was changed last was, of those that are done.
func (n *session) lastDone() (last time.Time, ok bool) {
	for _, st := range n.resting() {
		if cp := n.look(st); cp.Done && !cp.Modified.Before(last) {
			last, ok = cp.Modified, true
		}
	}
	return last, ok
}

// isDone tells without opening it that a file is done.
func (n *session) isDone(info fs.FileInfo) bool {
	in := inodeOf(info)
	for _, st := range n.at(place{inode: in}) {
		if cp := n.look(st); in != 0 && cp.Done && cp.Offset == info.Size() && cp.Modified.Equal(info.ModTime()) {
			return true
		}
	}
	return false
}

// tidyFollowed removes checkpoints of rotated files that are gone.
func (n *session) tidyFollowed(ctx context.Context) error {
	all, err := n.siblings([]string{"*"})
	if err != nil {
		return err
	}
	inodes, names := map[uint64]bool{}, map[string]bool{}
	for _, c := range all {
		inodes[inodeOf(c.info)], names[c.name] = true, true
	}
	return n.missing(ctx, func(_ *stored, cp *Checkpoint) bool {
		return !cp.Done || inodes[cp.Inode] || inodes[0] && names[cp.File]
	})
}
