package file

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skybus-io/skybus/bus"
)

const (
	reasonsSuffix = ".reasons.ndjson"
	fileMode      = 0o640
	dirMode       = 0o750
)

// Reason says why a record was refused: a line of JSON in FILE.reasons.ndjson beside FILE, which holds the refused records of one file.
type Reason struct {
	File    string            `json:"file"`   // it came from, below the directory
	Offset  int64             `json:"offset"` // there
	Size    int64             `json:"size"`   // there, with its line end
	Number  int64             `json:"number"` // of the record, from 1; 0 where all of the file is refused
	Key     string            `json:"key"`    // it was sent with, if it was
	Code    bus.Code          `json:"code"`
	Message string            `json:"message"`
	Details map[string]string `json:"details,omitempty"`
	At      int64             `json:"at"`            // where it stands in FILE
	Length  int64             `json:"length"`        // there
	Tail    mark              `json:"tail,omitzero"` // what stands in FILE up to its end, by which FILE is known again
	Time    time.Time         `json:"time"`
}

// aside is where the refused records of a file go. Its files are made for the first one. What was written of a record whose
// reason was not written is overwritten: after a process died records come again. Files that somebody has moved, removed or changed are
// left alone, and others are made.
type aside struct {
	r *reading

	mu      sync.Mutex
	name    string // of data, below the directory
	data    *os.File
	reasons *os.File
	end     int64          // of data that reasons speak of
	reason  int64          // end of the reasons
	known   map[int64]bool // offsets of what an earlier process wrote, and may come again
	dirty   bool
}

// asideName is where refused records of a file go: NAME-ID.EXT, so that it matches what NAME.EXT matched if it is put back.
func (n *session) asideName(name, id string) string {
	ext := path.Ext(name)
	return path.Join(n.s.cfg.Failed, strings.TrimSuffix(name, ext)+"-"+id[:8]+ext)
}

// errTouched says that a record may not be where it was put: somebody was at the files meanwhile.
var errTouched = errors.New("what was put aside was moved or changed meanwhile")

// put writes a record and why it was refused. One that stands there already is not written again.
func (a *aside) put(r *record, why *bus.Error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	moves := a.r.movesAway()
	if moves {
		a.r.reject()
	}
	if err := a.open(); err != nil {
		return err
	}
	if a.known[r.offset] {
		return nil
	}
	reason := Reason{
		File: a.r.name, Offset: r.offset, Size: r.end - r.offset, Number: r.number, Key: r.key(), Code: why.Code, Message: why.Message,
		Details: why.Details, Time: time.Now().UTC(),
	}
	a.dirty = true
	if moves {
		reason.Length = reason.Size
	} else if err := a.copy(r, &reason); err != nil {
		return err
	}
	line, err := json.Marshal(reason)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if _, err := a.reasons.WriteAt(line, a.reason); err != nil {
		return err
	}
	a.end, a.reason = reason.At+reason.Length, a.reason+int64(len(line))
	if intact, err := a.intact(); !intact {
		return errors.Join(errTouched, err)
	}
	return nil
}

// copy writes the record behind what is there. A record of CSV stands below the header.
func (a *aside) copy(r *record, reason *Reason) error {
	w := io.NewOffsetWriter(a.data, a.end)
	var head []byte
	if a.end == 0 && a.r.columns != nil && a.r.n.s.cfg.Columns == nil {
		var b bytes.Buffer
		c := csv.NewWriter(&b)
		c.Comma = a.r.n.s.cfg.Comma
		if err := c.Write(a.r.columns); err != nil {
			return err
		}
		c.Flush()
		head = b.Bytes()
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	var in io.Reader = bytes.NewReader(r.data)
	if r.data == nil { // too large to be held
		in = io.NewSectionReader(a.r.file(), r.offset, r.end-r.offset)
	}
	length, err := io.Copy(w, in)
	if err != nil {
		return err
	}
	if a.r.n.s.cfg.Format != Whole {
		if _, err := w.Write([]byte("\n")); err != nil {
			return err
		}
		length++
	}
	reason.At, reason.Length = a.end+int64(len(head)), length
	reason.Tail, err = markOf(a.data, reason.At+length, tailBytes)
	return err
}

// open has files at hand: those of before if they are as they were left, else what an earlier process left, or new ones.
func (a *aside) open() error {
	if a.reasons != nil {
		if intact, err := a.intact(); intact || err != nil {
			return err
		}
		if err := a.flush(); err != nil { // what was moved holds records that no checkpoint covers
			return err
		}
		a.closeFiles()
	}
	root, name := a.r.n.root, a.r.n.asideName(a.r.name, a.r.id)
	if err := root.MkdirAll(path.Dir(name), dirMode); err != nil {
		return err
	}
	for i := range mostSuffix {
		if ours, err := a.openPair(suffixed(name, i)); ours || err != nil {
			return err
		}
	}
	return taken(name)
}

// intact tells whether the files have their names still, and the data ends where it did.
func (a *aside) intact() (bool, error) {
	if (a.data == nil) != a.r.movesAway() {
		return false, nil
	}
	for name, f := range map[string]*os.File{a.name + reasonsSuffix: a.reasons, a.name: a.data} {
		if f == nil {
			continue
		}
		info, err := f.Stat()
		if err != nil {
			return false, err
		}
		there, err := a.r.n.root.Lstat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return false, nil
		case err != nil:
			return false, err
		case !os.SameFile(info, there), f == a.data && info.Size() != a.end:
			return false, nil
		}
	}
	return true, nil
}

// openPair opens a file and its reasons, or makes them. They are not ours where somebody has moved the records away, or changed them.
func (a *aside) openPair(name string) (ours bool, err error) {
	root, moves := a.r.n.root, a.r.movesAway()
	hasData, err := exists(root, name)
	if err != nil {
		return false, err
	}
	hasReasons, err := exists(root, name+reasonsSuffix)
	if err != nil || hasData && (moves || !hasReasons) {
		return false, err
	}
	defer func() {
		if !ours {
			a.closeFiles()
		}
	}()
	if a.reasons, err = root.OpenFile(name+reasonsSuffix, os.O_RDWR|os.O_CREATE, fileMode); err != nil {
		return false, err
	}
	a.name = name
	if moves { // there is one reason, the latest
		a.known, a.end, a.reason = nil, 0, 0
		err = a.reasons.Truncate(0)
		return err == nil, err
	}
	last, err := a.readReasons()
	if err != nil || a.end > 0 && !hasData {
		return false, err
	}
	if a.data, err = root.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode); err != nil {
		return false, err
	}
	if a.end > 0 {
		if fits, err := last.fits(a.data, a.end); !fits {
			return false, err
		}
	}
	// What was half written is cut off.
	err = errors.Join(a.reasons.Truncate(a.reason), a.data.Truncate(a.end))
	return err == nil, err
}

// readReasons reads the reasons there are, and returns what the data ends with by the last of them.
func (a *aside) readReasons() (last mark, err error) {
	a.known, a.end, a.reason = map[int64]bool{}, 0, 0
	from := a.r.track.start()
	in := bufio.NewReader(a.reasons)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return last, err
		}
		var reason Reason
		if err != nil || json.Unmarshal(line, &reason) != nil {
			return last, nil //nolint:nilerr // the rest was half written
		}
		if reason.Offset >= from {
			a.known[reason.Offset] = true
		}
		last, a.end, a.reason = reason.Tail, reason.At+reason.Length, a.reason+int64(len(line))
	}
}

// sync has the disk keep what was written: the checkpoint that follows says that it is done.
func (a *aside) sync() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.flush()
}

func (a *aside) flush() error {
	if !a.dirty {
		return nil
	}
	if a.data != nil {
		if err := a.data.Sync(); err != nil {
			return err
		}
	}
	if err := a.reasons.Sync(); err != nil {
		return err
	}
	a.dirty = false
	return nil
}

func (a *aside) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closeFiles()
}

func (a *aside) closeFiles() {
	for _, f := range []*os.File{a.data, a.reasons} {
		if f != nil {
			_ = f.Close() // it was synced before it counted
		}
	}
	a.data, a.reasons = nil, nil
}

const mostSuffix = 10_000

// freeName is name, or what it becomes where that is taken: NAME.1.EXT and so on.
func freeName(root *os.Root, name string) (string, error) {
	for i := range mostSuffix {
		try := suffixed(name, i)
		if there, err := exists(root, try); !there {
			return try, err
		}
	}
	return "", taken(name)
}

func suffixed(name string, i int) string {
	if i == 0 {
		return name
	}
	ext := path.Ext(name)
	return strings.TrimSuffix(name, ext) + "." + strconv.Itoa(i) + ext
}

func taken(name string) error {
	return bus.Errorf(bus.AlreadyExists, "%s and %d more of that name are there", name, mostSuffix-1)
}

func exists(root *os.Root, name string) (bool, error) {
	_, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
