package file

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
)

// commit is the keeper's: it writes down how far the file is, or finishes it.
func (r *reading) commit(ctx context.Context) error {
	low, idle := r.track.position()
	end, size := r.ending()
	if end != reads && idle {
		return r.conclude(ctx, end, size, low)
	}
	if low == r.covered {
		return nil
	}
	if err := r.aside.sync(); err != nil {
		r.n.trouble(ctx, r.n.s.cfg.Failed, err)
		return nil // the keeper comes again
	}
	return r.write(ctx, low, false)
}

// write stores a checkpoint. Of a file that was truncated there is nothing to write: what comes is another file.
func (r *reading) write(ctx context.Context, low position, done bool) error {
	cp, err := r.checkpoint(low)
	switch {
	case errors.Is(err, errChanged):
	case err != nil:
		r.n.trouble(ctx, r.name, err)
		return nil
	default:
		cp.Done = done
		if err := r.n.save(ctx, r.st, cp); err != nil {
			return err
		}
		r.n.remember(r.st)
	}
	r.n.covered(low.number - r.covered.number)
	r.covered = low
	return nil
}

func (r *reading) checkpoint(low position) (Checkpoint, error) {
	r.mu.Lock()
	src, at := r.src, r.at
	r.mu.Unlock()
	cp := r.st.cp
	info, err := src.f.Stat()
	if err != nil {
		return cp, err
	}
	if info.Size() < low.offset {
		return cp, errChanged
	}
	// The head may not reach beyond what was there when it was read, which is at least what is done.
	if cp.Head.Bytes < headBytes && low.offset > int64(cp.Head.Bytes) {
		if cp.Head, err = markOf(src.f, min(low.offset, headBytes), headBytes); err != nil {
			return cp, err
		}
	}
	if cp.Tail, err = markOf(src.f, low.offset, tailBytes); err != nil {
		return cp, err
	}
	// Only now: if it is still the same file, it was when the marks were read.
	if err := src.check(low.offset); err != nil {
		return cp, err
	}
	cp.File, cp.Device, cp.Inode = r.name, at.device, at.inode
	cp.Offset, cp.Number, cp.Refused = low.offset, low.number, low.refused
	cp.Size, cp.Modified, cp.Done, cp.Missing = info.Size(), info.ModTime(), false, nil
	return cp, nil
}

// conclude does what is to be done with a file of which all records are done.
func (r *reading) conclude(ctx context.Context, end ending, size int64, low position) error {
	if err := r.aside.sync(); err != nil {
		r.n.trouble(ctx, r.n.s.cfg.Failed, err)
		return nil
	}
	var err error
	switch end {
	case complete:
		err = r.completed(ctx, size, low)
	case lost:
		err = r.n.forget(ctx, r.st)
	case suspended, reads:
		err = r.write(ctx, low, false)
	}
	if err != nil {
		return err
	}
	r.n.covered(low.number - r.covered.number)
	r.covered = low
	r.n.deactivate(r)
	return nil
}

// completed disposes of a file; where that is not possible, it is written down that all of it is done.
func (r *reading) completed(ctx context.Context, size int64, low position) error {
	low.offset = size // empty lines may follow the last record
	if r.n.s.cfg.After != Leave {
		gone, err := r.n.dispose(r.name, r.file(), size, r.n.fate(r.name, r.id, r.isRejected()))
		if err != nil {
			r.n.trouble(ctx, r.name, err)
		}
		if gone {
			r.n.fine(ctx, r.name)
			r.n.s.counts.files.Add(1)
			return r.n.forget(ctx, r.st)
		}
	}
	cp, err := r.checkpoint(low)
	if err != nil {
		r.n.trouble(ctx, r.name, err)
		return r.n.forget(ctx, r.st)
	}
	cp.Done, cp.Rejected, cp.Size = true, r.isRejected(), size
	if err := r.n.save(ctx, r.st, cp); err != nil {
		return err
	}
	r.n.remember(r.st)
	r.n.s.counts.files.Add(1)
	return nil
}

// fate is where a file goes that is done, empty for nowhere.
func (n *session) fate(name, id string, rejected bool) string {
	switch {
	case rejected:
		return n.asideName(name, id)
	case n.s.cfg.After == Move:
		return path.Join(n.s.cfg.Done, name)
	}
	return ""
}

// dispose moves a file, or removes it where there is no fate. It is not gone, without an error, where the name is another file's by now, or
// the file has grown.
func (n *session) dispose(name string, f *os.File, size int64, fate string) (gone bool, err error) {
	if !n.lease.Valid() {
		return false, errLeaseLost
	}
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := n.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || !os.SameFile(info, there) || info.Size() != size {
		return false, err
	}
	if fate == "" {
		err = n.root.Remove(name)
		return err == nil, err
	}
	if err := n.root.MkdirAll(path.Dir(fate), dirMode); err != nil {
		return false, err
	}
	if fate, err = freeName(n.root, fate); err != nil {
		return false, err
	}
	err = n.root.Rename(name, fate)
	return err == nil, err
}

// doneAlready disposes of a file that is done and could not be disposed of when it was.
func (n *session) doneAlready(ctx context.Context, st *stored, name string, info fs.FileInfo) error {
	rejected := n.look(st).Rejected
	if n.s.cfg.After == Leave {
		return nil
	}
	f, _, err := openRegular(n.root, name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only looked at
	gone, err := n.dispose(name, f, info.Size(), n.fate(name, st.id, rejected))
	if err != nil || !gone {
		return err
	}
	n.fine(ctx, name)
	return n.forget(ctx, st)
}
