package file

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/kv"
)

// Bucket is where it is kept how far files are done: <app>.<env>.file.<source>.<id> for each file, and <app>.<env>.source.<source>.
const Bucket = "skybus_files"

// row is a value of the bucket.
type row struct {
	File   *Checkpoint `json:"file,omitempty"`
	Source *Summary    `json:"source,omitempty"`
}

// Checkpoint is how far a file is done.
type Checkpoint struct {
	File     string     `json:"file"` // below the directory, when it was last looked at
	Device   uint64     `json:"device,omitzero"`
	Inode    uint64     `json:"inode"`
	Head     mark       `json:"head"` // what it begins with
	Tail     mark       `json:"tail"` // what stands before Offset
	Offset   int64      `json:"offset"`
	Number   int64      `json:"number"`           // of the last record before Offset
	Refused  int64      `json:"refused,omitzero"` // of them
	Size     int64      `json:"size"`
	Modified time.Time  `json:"modified"`
	Done     bool       `json:"done,omitzero"`     // all of it; where it grows, what comes is sent too
	Rejected bool       `json:"rejected,omitzero"` // the file itself goes to the failed directory
	Missing  *time.Time `json:"missing,omitempty"`
	Term     string     `json:"term"` // of the lease of who wrote it
	Updated  time.Time  `json:"-"`    // when it was written, by the server's clock
}

// Summary is what the process that works on a source says of it.
type Summary struct {
	Dir     string    `json:"dir"`
	Follow  string    `json:"follow,omitzero"`
	Format  Format    `json:"format"`
	Owner   string    `json:"owner"`
	Since   time.Time `json:"since"`
	Updated time.Time `json:"updated"`
	Stats   Stats     `json:"stats"` // of that process
}

// stored is a checkpoint with its id and revision.
type stored struct {
	id  string
	cp  Checkpoint
	rev uint64 // 0: not in the bucket
}

func openTable(ctx context.Context, conn *bus.Conn, log *slog.Logger) (*kv.Table[row], error) {
	return kv.Open[row](ctx, conn, Bucket, kv.Config{
		NoExpiry: true, Logger: log, Description: "How far the files of initiators/file are done",
	})
}

// errFenced ends a session that somebody else's has replaced.
var errFenced = errors.New("another process has taken the source over")

func (n *session) fileKey(id string) string {
	return n.s.conn.Namespace().Key("file", n.s.cfg.Name, id)
}

// load reads the checkpoints of the source. Those of files that are not finished it writes once, which ends the writing of a process that
// had them before.
func (n *session) load(ctx context.Context) error {
	for e, err := range n.table.List(ctx, n.fileKey("*")) {
		if err != nil {
			return err
		}
		if e.Err != nil || e.Value.File == nil {
			n.s.log.WarnContext(ctx, "a checkpoint that does not decode is left alone", "key", e.Key, "error", e.Err)
			continue
		}
		st := &stored{id: e.Key[len(n.fileKey("")):], cp: *e.Value.File, rev: e.Revision}
		if !st.cp.Done {
			if err := n.save(ctx, st, st.cp); err != nil {
				return err
			}
		}
		n.remember(st)
	}
	return nil
}

// save writes a checkpoint, if nobody else has meanwhile.
func (n *session) save(ctx context.Context, st *stored, cp Checkpoint) error {
	if !n.lease.Valid() {
		return errLeaseLost
	}
	cp.Term = n.term
	key, value := n.fileKey(st.id), row{File: &cp}
	var rev uint64
	var err error
	if st.rev == 0 {
		rev, err = n.table.Create(ctx, key, value)
	} else {
		rev, err = n.table.Update(ctx, key, value, st.rev)
	}
	if errors.Is(err, kv.ErrConflict) || errors.Is(err, kv.ErrExists) {
		if rev, err = n.ours(ctx, key, &cp); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	n.mu.Lock()
	st.cp, st.rev = cp, rev
	n.mu.Unlock()
	n.s.counts.checkpoints.Add(1)
	return nil
}

// ours looks whether a write that seemed to fail is there after all.
func (n *session) ours(ctx context.Context, key string, cp *Checkpoint) (uint64, error) {
	e, err := n.table.Get(ctx, key)
	if err == nil && e.Value.File != nil && e.Value.File.Term == n.term && e.Value.File.Offset == cp.Offset && e.Value.File.Done == cp.Done {
		return e.Revision, nil
	}
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return 0, err
	}
	return 0, fmt.Errorf("%w: %s", errFenced, key)
}

// forget removes a checkpoint.
func (n *session) forget(ctx context.Context, st *stored) error {
	n.mu.Lock()
	delete(n.known, st.id)
	if at := (place{st.cp.Device, st.cp.Inode}); n.places[at] != nil {
		delete(n.places[at], st)
		if len(n.places[at]) == 0 {
			delete(n.places, at)
		}
	}
	n.mu.Unlock()
	if st.rev == 0 {
		return nil
	}
	err := n.table.Delete(ctx, n.fileKey(st.id), kv.IfRevision(st.rev))
	if errors.Is(err, kv.ErrConflict) {
		return fmt.Errorf("%w: %s", errFenced, n.fileKey(st.id))
	}
	return err
}

// remember has the checkpoint found.
func (n *session) remember(st *stored) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known[st.id] = st
	at := place{st.cp.Device, st.cp.Inode}
	if n.places[at] == nil {
		n.places[at] = map[*stored]bool{}
	}
	n.places[at][st] = true
}

// at are the checkpoints of files at a place.
func (n *session) at(at place) []*stored {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*stored
	for st := range n.places[at] {
		if st.cp.Inode == at.inode && st.cp.Device == at.device {
			all = append(all, st)
		}
	}
	return all
}

// look is what a checkpoint says now; the keeper may change it.
func (n *session) look(st *stored) Checkpoint {
	n.mu.Lock()
	defer n.mu.Unlock()
	return st.cp
}

// resting are the checkpoints of files that nobody works on.
func (n *session) resting() []*stored {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]*stored, 0, len(n.known))
	for id, st := range n.known {
		if n.active[id] == nil {
			all = append(all, st)
		}
	}
	return all
}

// missing removes the checkpoints of files that were not seen for Config.Forget. It is called after a look at all there is.
func (n *session) missing(ctx context.Context, seen func(*stored, *Checkpoint) bool) error {
	now := time.Now().UTC()
	for _, st := range n.resting() {
		cp := n.look(st)
		var err error
		switch gone := !seen(st, &cp); {
		case gone && cp.Missing == nil:
			cp.Missing = &now
			err = n.save(ctx, st, cp)
		case gone && now.Sub(*cp.Missing) > n.s.cfg.Forget:
			err = n.forget(ctx, st)
		case !gone && cp.Missing != nil:
			cp.Missing = nil
			err = n.save(ctx, st, cp)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
