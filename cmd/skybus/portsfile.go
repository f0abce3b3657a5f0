package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// portsFile tells scripts, by being there, that a program is ready, and in it under which addresses. The empty portsFile
// is none: its methods do nothing.
type portsFile string

// prepare removes what an earlier run left, which would tell of addresses where nobody listens. It comes first, so that
// a file that cannot be written is known before anything is started.
func (p portsFile) prepare() error {
	if p == "" {
		return nil
	}
	if info, err := os.Lstat(string(p)); err == nil && info.IsDir() {
		return portsError(fmt.Errorf("%s is a directory", p)) // an empty one would be removed
	}
	if err := os.Remove(string(p)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return portsError(err)
	}
	if _, err := os.Stat(filepath.Dir(string(p))); err != nil {
		return portsError(err)
	}
	return nil
}

// write writes URLs by the name of what listens there. A reader finds all of them or no file.
func (p portsFile) write(urls map[string]string) error {
	if p == "" {
		return nil
	}
	data, err := json.Marshal(urls)
	if err != nil {
		return portsError(err)
	}
	f, err := os.CreateTemp(filepath.Dir(string(p)), ".ports-*")
	if err != nil {
		return portsError(err)
	}
	_, err = f.Write(append(data, '\n'))
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), string(p))
	}
	if err != nil {
		return portsError(errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// remove says that nobody listens any more.
func (p portsFile) remove() {
	if p != "" {
		_ = os.Remove(string(p)) // whoever starts next removes it too
	}
}

func portsError(err error) error {
	return withHint(fmt.Errorf("ports file: %w", err), "--ports-file names a file in a directory that exists and can be written to")
}
