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
	At      int64             `json:"at"`     // where it stands in FILE
	Length  int64             `json:"length"` // there
	Time    time.Time         `json:"time"`
}

// aside is where the refused records of a file go. Its files are made for the first one. What was written of a record whose
// reason was not written is overwritten: after a process died records come again.
type aside struct {
	r *reading

	mu      sync.Mutex
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

// put writes a record and why it was refused. One that stands there already is not written again.
func (a *aside) put(r *record, why *bus.Error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.open(); err != nil {
		return err
	}
	if a.known[r.offset] {
		return nil
	}
	reason := Reason{
		File: a.r.name, Offset: r.offset, Size: r.end - r.offset, Number: r.number, Key: r.key(), Code: why.Code, Message: why.Message,
		Details: why.Details, At: a.end, Time: time.Now().UTC(),
	}
	a.dirty = true
	if a.r.movesAway() {
		a.r.reject()
		reason.Length = reason.Size
	} else {
		var err error
		if reason.At, reason.Length, err = a.copy(r); err != nil {
			return err
		}
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
	return nil
}

// copy writes the record behind what is there. A record of CSV stands below the header.
func (a *aside) copy(r *record) (at, length int64, err error) {
	w := io.NewOffsetWriter(a.data, a.end)
	var head []byte
	if a.end == 0 && a.r.columns != nil && a.r.n.s.cfg.Columns == nil {
		var b bytes.Buffer
		c := csv.NewWriter(&b)
		c.Comma = a.r.n.s.cfg.Comma
		if err := c.Write(a.r.columns); err != nil {
			return 0, 0, err
		}
		c.Flush()
		head = b.Bytes()
	}
	if _, err := w.Write(head); err != nil {
		return 0, 0, err
	}
	at = a.end + int64(len(head))
	var in io.Reader = bytes.NewReader(r.data)
	if r.data == nil { // too large to be held
		in = io.NewSectionReader(a.r.file(), r.offset, r.end-r.offset)
	}
	if length, err = io.Copy(w, in); err != nil {
		return 0, 0, err
	}
	if a.r.n.s.cfg.Format != Whole {
		if _, err := w.Write([]byte("\n")); err != nil {
			return 0, 0, err
		}
		length++
	}
	return at, length, nil
}

// open makes the files, or finds what an earlier process wrote.
func (a *aside) open() (err error) {
	if a.reasons != nil {
		return nil
	}
	root, name := a.r.n.root, a.r.n.asideName(a.r.name, a.r.id)
	if err := root.MkdirAll(path.Dir(name), dirMode); err != nil {
		return err
	}
	reasons, err := root.OpenFile(name+reasonsSuffix, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return err
	}
	var data *os.File
	if !a.r.movesAway() {
		if data, err = root.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode); err != nil {
			return errors.Join(err, reasons.Close())
		}
	}
	a.reasons, a.data = reasons, data
	if err := a.resume(); err != nil {
		a.reasons, a.data = nil, nil
		err = errors.Join(err, reasons.Close())
		if data != nil {
			err = errors.Join(err, data.Close())
		}
		return err
	}
	return nil
}

// resume reads the reasons there are, and cuts off what was half written.
func (a *aside) resume() error {
	a.known, a.end, a.reason = map[int64]bool{}, 0, 0
	from := a.r.track.start()
	in := bufio.NewReader(a.reasons)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		var reason Reason
		if err != nil || json.Unmarshal(line, &reason) != nil {
			break
		}
		if reason.Offset >= from {
			a.known[reason.Offset] = true
		}
		a.end, a.reason = reason.At+reason.Length, a.reason+int64(len(line))
	}
	if err := a.reasons.Truncate(a.reason); err != nil || a.data == nil {
		return err
	}
	return a.data.Truncate(a.end)
}

// sync has the disk keep what was written: the checkpoint that follows says that it is done.
func (a *aside) sync() error {
	a.mu.Lock()
	defer a.mu.Unlock()
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
	for _, f := range []*os.File{a.data, a.reasons} {
		if f != nil {
			_ = f.Close() // it was synced before it counted
		}
	}
	a.data, a.reasons = nil, nil
}

// freeName is name, or what it becomes where that is taken: NAME.1.EXT and so on.
func freeName(root *os.Root, name string) (string, error) {
	ext := path.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	for i := range mostSuffix {
		try := name
		if i > 0 {
			try = stem + "." + strconv.Itoa(i) + ext
		}
		if _, err := root.Lstat(try); errors.Is(err, fs.ErrNotExist) {
			return try, nil
		} else if err != nil {
			return "", err
		}
	}
	return "", bus.Errorf(bus.AlreadyExists, "%s and %d more of that name are there", name, mostSuffix-1)
}

const mostSuffix = 10_000
