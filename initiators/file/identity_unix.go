//go:build unix

package file

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// nonblocking keeps a FIFO that took the place of a file from waiting for a writer.
const nonblocking = syscall.O_NONBLOCK

var errNoInode = errors.New("the file system tells no inode")

// placeOf is where a file is. The device counts only where it is not that of the directory.
func placeOf(_ *os.File, info fs.FileInfo, home uint64) (place, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return place{}, errNoInode
	}
	p := place{uint64(st.Dev), uint64(st.Ino)} //nolint:gosec,unconvert // their types differ between systems
	if p.device == home {
		p.device = 0
	}
	return p, nil
}

// inodeOf is what a look at a directory tells, 0 for nothing.
func inodeOf(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Ino) //nolint:unconvert // its type differs between systems
	}
	return 0
}
