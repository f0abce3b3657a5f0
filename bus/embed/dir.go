package embed

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// LockFile is the file in a data directory that a running server holds a lock on.
const LockFile = "skybus.lock"

const nameFile = "server-name"

// ErrDirInUse is in the error of [Start] when a server, of this process or another,
// has the directory open.
var ErrDirInUse = errors.New("data directory is in use")

// lockDir creates the directory and takes the lock in it. The lock ends with the
// process, whichever way that ends.
func lockDir(dir string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	l := flock.New(filepath.Join(dir, LockFile))
	ok, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock directory %q: %w", dir, err)
	}
	if !ok {
		return nil, fmt.Errorf("%w: %q: stop the server that runs on it, or choose another directory", ErrDirInUse, dir)
	}
	return l, nil
}

// storedName returns the name kept in dir, a new one the first time. The caller
// holds the lock.
func storedName(dir string) (string, error) {
	path := filepath.Join(dir, nameFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		name := "skybus-" + strings.ToLower(rand.Text()[:8])
		return name, writeName(path, name)
	}
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(b))
	if name == "" || strings.ContainsAny(name, " \t\r\n") {
		return "", fmt.Errorf("%s holds no server name: write the one the cluster knows into it", path)
	}
	return name, nil
}

// writeName leaves either the whole name or no file.
func writeName(path, name string) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, []byte(name+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
