//go:build unix

package whole_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// journalSuffix is what the names of the journals of children end with.
const journalSuffix = ".journal"

// record is a line of the journal that a child keeps of what reached it, written before it answers. So whatever anybody was told has
// its line, also when the child is killed right after. What says what it is about; which fields it has depends on that.
type record struct {
	Seq  uint64 `json:"seq"` // from 1, without a gap, from a begin on
	At   int64  `json:"at"`  // Unix nanoseconds
	What what   `json:"what"`

	ID    string `json:"id,omitempty"`    // of what a client asked for, unique in the run; of a mark, which one
	Step  string `json:"step,omitempty"`  // the endpoint
	Key   string `json:"key,omitempty"`   // Idempotency-Key
	Begin int64  `json:"begin,omitempty"` // Unix nanoseconds, of what takes time
	Due   int64  `json:"due,omitempty"`   // Unix nanoseconds

	Number uint64 `json:"number,omitempty"` // Skybus-Seq, or the least that is asked for
	Lane   int    `json:"lane,omitempty"`
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	Body   string `json:"body,omitempty"`
	Status int    `json:"status,omitempty"`

	Term     string `json:"term,omitempty"`
	Revision uint64 `json:"revision,omitempty"`
}

// what a record is about.
type what string

const (
	begun     what = "begin"    // the child was started
	marked    what = "mark"     // the child has nothing to do any more; nothing comes after it
	stepped   what = "step"     // a service was called
	delivered what = "delivery" // a timer reached the receiver
	wrote     what = "write"    // the receiver's write was answered
	looked    what = "read"     // the receiver's read was answered
	applied   what = "apply"    // a backend applied a write
	led       what = "lead"     // the leader found itself to be the leader before and after that time
	acted     what = "act"      // the leader's fenced write was taken
	learned   what = "value"    // an instance learned of a value of the configuration
	abandoned what = "abandon"  // an instance was stopped and had not finished so many requests
)

// recorder writes the journal of a child.
type recorder struct {
	file string

	mu  sync.Mutex
	out *os.File
	seq uint64
}

// openRecorder begins a journal, or goes on with that of the process before.
func openRecorder(dir, name string) (*recorder, error) {
	r := &recorder{file: filepath.Join(dir, name+journalSuffix)}
	old, err := os.ReadFile(r.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if r.out, err = os.OpenFile(r.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
		return nil, err
	}
	if len(old) > 0 && old[len(old)-1] != '\n' { // it was killed while it wrote, and had not answered yet
		if _, err := r.out.WriteString("\n"); err != nil {
			return nil, err
		}
	}
	return r, r.add(record{What: begun, Number: uint64(os.Getpid())}) //nolint:gosec // not negative
}

// add writes a record, at the time that it has or now. Without an error it is there for good.
func (r *recorder) add(e record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.At == 0 {
		e.At = time.Now().UnixNano()
	}
	e.Seq = r.seq + 1
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := r.out.Write(append(line, '\n')); err != nil {
		return err
	}
	r.seq++
	return nil
}

// reader reads the journals of all children of a directory, as they grow.
type reader struct {
	dir      string
	children map[string]*childJournal // by the child's name
}

// childJournal is what was read of the journal of a child.
type childJournal struct {
	records []record
	wrong   []string // what no child would write
	size    int64    // read so far
	seq     uint64
	torn    bool // the last line was none: a begin must follow
	seen    int  // records that were looked at while it was waited for more
}

func newReader(dir string) *reader { return &reader{dir: dir, children: map[string]*childJournal{}} }

// read reads what was added since the last time, and tells whether there was any.
func (r *reader) read() (more bool, err error) {
	names, err := filepath.Glob(filepath.Join(r.dir, "*"+journalSuffix))
	if err != nil {
		return false, err
	}
	for _, name := range names {
		child := strings.TrimSuffix(filepath.Base(name), journalSuffix)
		if r.children[child] == nil {
			r.children[child] = &childJournal{}
		}
		some, err := r.children[child].read(name)
		if err != nil {
			return false, err
		}
		more = more || some
	}
	return more, nil
}

func (c *childJournal) read(name string) (more bool, err error) {
	f, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.NewSectionReader(f, c.size, 1<<40))
	if err != nil {
		return false, err
	}
	data = data[:bytes.LastIndexByte(data, '\n')+1]
	c.size += int64(len(data))
	for line := range bytes.Lines(data) {
		c.add(line)
	}
	return len(data) > 0, nil
}

// add takes a line. Numbers go up by one, so that no line can be missing; a process that was killed may leave half a line.
func (c *childJournal) add(line []byte) {
	var e record
	err := json.Unmarshal(line, &e)
	switch {
	case err != nil && !c.torn:
		c.torn = true
		return
	case err != nil:
		c.wrong = append(c.wrong, fmt.Sprintf("%.100q: %v", line, err))
		return
	case e.What == begun:
		c.seq = 0
	case c.torn:
		c.wrong = append(c.wrong, fmt.Sprintf("%.100q follows half a line", line))
	}
	c.torn = false
	if e.Seq != c.seq+1 {
		c.wrong = append(c.wrong, fmt.Sprintf("record %d follows %d", e.Seq, c.seq))
	}
	c.seq = e.Seq
	c.records = append(c.records, e)
}

// ends tells whether the mark of that name is the last record.
func (c *childJournal) ends(mark string) bool {
	n := len(c.records)
	return n > 0 && c.records[n-1].What == marked && c.records[n-1].ID == mark
}
