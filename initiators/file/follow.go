package file

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// turn is why a followed file is not read any more.
type turn uint8

const (
	stopped   turn = iota
	rotated        // another file has its name
	truncated      // it was emptied, perhaps after it was copied
)

// follow reads a file as it grows, and what it was rotated to before what comes after it.
func (n *session) follow(ctx context.Context) error {
	t := n.notify(ctx)
	defer t.close()
	t.add(n.s.cfg.dir())
	if err := n.catchUp(ctx, t); err != nil || ctx.Err() != nil {
		return unlessEnded(ctx, err)
	}
	for ctx.Err() == nil {
		r, err := n.openFollowed(ctx, t)
		if r == nil || err != nil {
			return unlessEnded(ctx, err)
		}
		how, err := n.readGrowing(ctx, t, r)
		switch {
		case err != nil:
			return unlessEnded(ctx, err)
		case how == stopped:
			return n.atEnd(ctx, r)
		case how == rotated:
			n.s.counts.rotations.Add(1)
			err = n.readOut(ctx, t, r)
		case how == truncated:
			n.s.counts.rotations.Add(1)
			err = n.readCopy(ctx, t, r)
		}
		if err == nil {
			err = n.between(ctx, t)
		}
		if err != nil {
			return unlessEnded(ctx, err)
		}
	}
	return nil
}

func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = nil
	}
	return err
}

// atEnd waits, with Config.Once, until all that was read is done.
func (n *session) atEnd(ctx context.Context, r *reading) error {
	if ctx.Err() == nil {
		r.finish(suspended, 0)
		return unlessEnded(ctx, r.wait(ctx))
	}
	return nil
}

// wait returns when nothing of the file is under way any more, and what is done is written down.
func (r *reading) wait(ctx context.Context) error {
	select {
	case <-r.over:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// openFollowed opens the file of that name, once there is something in it. It is nil when there is nothing and Config.Once.
func (n *session) openFollowed(ctx context.Context, t *notifier) (*reading, error) {
	name := filepath.Base(n.s.cfg.Follow)
	for ctx.Err() == nil {
		if err := n.sameRoot(); err != nil {
			return nil, err
		}
		info, err := n.root.Stat(name)
		if err == nil && info.Size() > 0 {
			var r *reading
			r, err = n.start(ctx, name)
			switch {
			case err == nil:
				n.fine(ctx, name)
				return r, nil
			case errors.Is(err, errLeaseLost), errors.Is(err, errFenced), ctx.Err() != nil:
				return nil, err
			}
		}
		waits := err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, errActive) || errors.Is(err, errFinished)
		if !waits {
			n.trouble(ctx, name, err)
		}
		if n.s.cfg.Once {
			if waits {
				err = nil
			}
			return nil, err
		}
		t.wait(ctx, n.s.cfg.Rescan)
	}
	return nil, nil
}

// start opens a file and writes down that it is known, before the first record is sent: it will be larger when it is opened again,
// and has to be known as the same.
func (n *session) start(ctx context.Context, name string) (*reading, error) {
	select {
	case n.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	r, info, err := n.open(ctx, name)
	if err != nil {
		<-n.slots
		return nil, err
	}
	if r.st.rev == 0 {
		if err := n.placeFirst(ctx, r, info); err != nil {
			r.close()
			<-n.slots
			return nil, err
		}
	}
	n.activate(r)
	return r, nil
}

// placeFirst stores the first checkpoint of a file: at its beginning, or where it ends when the source is new and is to begin there.
func (n *session) placeFirst(ctx context.Context, r *reading, info fs.FileInfo) error {
	n.mu.Lock()
	first := len(n.known) == 0
	n.mu.Unlock()
	cp := r.st.cp
	if n.s.cfg.FromEnd && first {
		end, err := lastLine(r.src.f, info.Size(), n.s.cfg.MaxRecord)
		if err != nil {
			return err
		}
		cp.Offset = end
		if cp.Tail, err = markOf(r.src.f, end, tailBytes); err != nil {
			return err
		}
		r.covered.offset = end
		r.track.low.offset = end
		r.sp = newSplitter(r.src, &n.s.cfg, end)
	}
	cp.Size = info.Size()
	if err := n.save(ctx, r.st, cp); err != nil {
		return err
	}
	n.remember(r.st)
	return nil
}

// lastLine is the offset behind the last line end before size, or size where there is none near.
func lastLine(f *os.File, size int64, near int) (int64, error) {
	b := make([]byte, min(size, int64(near)))
	from := size - int64(len(b))
	if n, err := f.ReadAt(b, from); n < len(b) {
		return 0, err
	}
	if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
		return from + int64(i) + 1, nil
	}
	return size, nil
}

// readGrowing reads a file until another has its name, or it is truncated.
func (n *session) readGrowing(ctx context.Context, t *notifier, r *reading) (turn, error) {
	for ctx.Err() == nil {
		err := r.pull(ctx, false)
		if err == nil {
			err = r.src.check(r.sp.pos + int64(len(r.sp.buf)))
		}
		if errors.Is(err, errChanged) {
			return truncated, nil
		}
		if err != nil {
			return stopped, err
		}
		there, err := n.root.Stat(r.name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // moved away; the next one will come
		case err != nil:
			n.trouble(ctx, r.name, err)
		default:
			same, err := sameFile(r.src.f, there)
			if err != nil {
				return stopped, err
			}
			if !same {
				return rotated, nil
			}
		}
		if n.s.cfg.Once {
			return stopped, nil
		}
		t.wait(ctx, n.s.cfg.Rescan)
	}
	return stopped, nil
}

func sameFile(f *os.File, there fs.FileInfo) (bool, error) {
	info, err := f.Stat()
	return err == nil && os.SameFile(info, there), err
}

// readOut reads a file that has another name now to its end: when it has not changed for Config.Quiet.
func (n *session) readOut(ctx context.Context, t *notifier, r *reading) error {
	var last fs.FileInfo
	since := time.Now()
	for {
		err := r.pull(ctx, false)
		if errors.Is(err, errChanged) {
			return n.giveUp(ctx, r)
		}
		if err != nil {
			return err
		}
		info, err := r.src.f.Stat()
		if err != nil {
			return err
		}
		if last == nil || changed(last, info) {
			last, since = info, time.Now()
		}
		left := n.s.cfg.Quiet - max(time.Since(since), age(info))
		if left <= 0 && info.Size() == r.sp.pos+int64(len(r.sp.buf)) {
			if err := r.pull(ctx, true); err != nil {
				return err
			}
			r.finish(complete, info.Size())
			return r.wait(ctx)
		}
		t.wait(ctx, max(min(left, n.s.cfg.Rescan), time.Millisecond))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// giveUp sends what was read of a file whose rest is gone.
func (n *session) giveUp(ctx context.Context, r *reading) error {
	n.s.counts.lost.Add(1)
	n.s.log.WarnContext(ctx, "file was truncated, and no copy of it is there: what was not read of it is lost", "file", r.name, "read", r.sp.pos)
	r.sp.src = nothing{}
	if err := r.pull(ctx, true); err != nil {
		return err
	}
	r.finish(lost, 0)
	return r.wait(ctx)
}

// siblings are the regular files beside the followed one that match patterns, the one changed first comes first.
func (n *session) siblings(patterns []string) ([]candidate, error) {
	entries, err := fs.ReadDir(n.root.FS(), ".")
	if err != nil {
		return nil, err
	}
	var all []candidate
	name := filepath.Base(n.s.cfg.Follow)
	for _, e := range entries {
		if !e.Type().IsRegular() || e.Name() == name || compressed(e.Name()) || !matches(patterns, e.Name()) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if all = append(all, candidate{e.Name(), info}); len(all) == MaxFiles {
			break
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(a.info.ModTime().Compare(b.info.ModTime()), rotationOrder(a.name, b.name))
	})
	return all, nil
}

// rotationOrder tells which of two files that were changed at the same time is older: the one with the higher number, or the earlier date.
func rotationOrder(a, b string) int {
	na, nb := rotationNumber(a), rotationNumber(b)
	if na >= 0 && nb >= 0 && na != nb {
		return cmp.Compare(nb, na)
	}
	return cmp.Compare(a, b)
}

// rotationNumber is the number that a name ends with, -1 where there is none or it is a date.
func rotationNumber(name string) int {
	digits := strings.TrimPrefix(path.Ext(name), ".")
	if n, err := strconv.Atoi(digits); err == nil && n >= 0 && len(digits) <= 5 {
		return n
	}
	return -1
}

func compressed(name string) bool {
	return slices.Contains([]string{".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip"}, path.Ext(name))
}
