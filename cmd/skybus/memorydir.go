package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/skybus-io/skybus/bus/embed"
)

const (
	memoryPrefix = "skybus-memory-"
	memoryAge    = time.Minute // younger directories may belong to a program that has not locked them yet
)

// memoryDir makes the directory of a server that keeps nothing, and removes those that killed programs left behind.
func memoryDir() (string, error) {
	if left, err := filepath.Glob(filepath.Join(os.TempDir(), memoryPrefix+"*")); err == nil {
		for _, dir := range left {
			removeAbandoned(dir)
		}
	}
	dir, err := os.MkdirTemp("", memoryPrefix)
	if err != nil {
		return "", withHint(fmt.Errorf("temporary directory: %w", err), "TMPDIR names another place for it, --data DIR keeps the data")
	}
	return dir, nil
}

// removeAbandoned removes dir if no program holds its lock. What cannot be removed is left to the system.
func removeAbandoned(dir string) {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() {
		return // a link may lead anywhere
	}
	if lock, err := os.Lstat(filepath.Join(dir, embed.LockFile)); err == nil {
		info = lock
	}
	if time.Since(info.ModTime()) < memoryAge || dirInUse(dir) {
		return
	}
	_ = os.RemoveAll(dir)
}

// dirInUse tells whether a program holds the lock of a data directory.
func dirInUse(dir string) bool {
	lock := filepath.Join(dir, embed.LockFile)
	if info, err := os.Lstat(lock); err != nil || !info.Mode().IsRegular() {
		return false // nothing is to be made by looking
	}
	l := flock.New(lock)
	locked, err := l.TryLock()
	if locked {
		_ = l.Unlock()
	}
	return err == nil && !locked
}
