package file

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	headBytes = 1024 // of the beginning of a file, by which it is known
	tailBytes = 1024 // of what was done last
)

// errChanged says that what was read of a file is not what it holds now: it was truncated.
var errChanged = errors.New("the file was truncated, or written anew")

// place is where the file system has a file.
type place struct {
	device uint64 // 0 where it is that of the directory: another machine has another number for it
	inode  uint64
}

// mark is a part of a file by which it is known.
type mark struct {
	Bytes int    `json:"bytes"`
	Sum   string `json:"sum"` // SHA-256, its first 8 bytes, in hex
}

// markOf reads the n bytes before end.
func markOf(r io.ReaderAt, end int64, n int) (mark, error) {
	b := make([]byte, min(int64(n), end))
	if got, err := r.ReadAt(b, end-int64(len(b))); got < len(b) {
		if errors.Is(err, io.EOF) {
			err = errChanged
		}
		return mark{}, err
	}
	return markBytes(b), nil
}

func markBytes(b []byte) mark {
	sum := sha256.Sum256(b)
	return mark{len(b), hex.EncodeToString(sum[:8])}
}

// fits tells whether the file has the mark before end.
func (m mark) fits(r io.ReaderAt, end int64) (bool, error) {
	if int64(m.Bytes) > end {
		return false, nil
	}
	is, err := markOf(r, end, m.Bytes)
	if errors.Is(err, errChanged) {
		return false, nil
	}
	return is == m, err
}

// newID makes the identity of a file that was not known: of where it is and what it begins with, and of its time, since a file
// that takes the place of another may begin as that did. Of a complete file (size not negative) it is the same in every process.
func newID(p place, info fs.FileInfo, size int64, head []byte) string {
	h := sha256.New()
	for _, v := range []uint64{p.device, p.inode, uint64(info.ModTime().UnixNano()), uint64(size)} { //nolint:gosec // any bits will do
		_ = binary.Write(h, binary.BigEndian, v) // a hash takes all
	}
	h.Write(head)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil)[:16]))
}

// guarded is a file that is read as long as it is the same: what was read before it was truncated is not taken for what stands there now.
type guarded struct {
	f *os.File

	mu   sync.Mutex
	head []byte // at most headBytes
}

// ReadAt reads, and then looks whether it read from the same file throughout.
func (g *guarded) ReadAt(b []byte, off int64) (int, error) {
	n, err := g.f.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, err
	}
	if cerr := g.check(off + int64(n)); cerr != nil {
		return 0, cerr
	}
	return n, err
}

// check tells by errChanged that the file is shorter than size, or begins otherwise than it did. It learns more of the beginning.
func (g *guarded) check(size int64) error {
	info, err := g.f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < size {
		return errChanged
	}
	want := int(min(headBytes, info.Size()))
	head := make([]byte, want)
	n, err := g.f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if head = head[:n]; !bytes.HasPrefix(head, g.head) {
		return errChanged
	}
	if n > len(g.head) {
		g.head = head
	}
	return nil
}

// openRegular opens a regular file below root, and nothing else.
func openRegular(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|nonblocking, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", name)
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, nil, err
	}
	return f, info, nil
}

// changed tells whether size or time differ.
func changed(a, b fs.FileInfo) bool { return a.Size() != b.Size() || !a.ModTime().Equal(b.ModTime()) }

// age is how long ago a file was changed, by two clocks that may differ.
func age(info fs.FileInfo) time.Duration { return time.Since(info.ModTime()) }
