package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Whatever is given as a file of settings is read no further than such a file may go.
func TestReadSettings(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "settings")
	if _, err := readSettings(name, 3); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	for text, most := range map[string]int64{"abc": 3, "abcd": 3} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		data, err := readSettings(name, most)
		if fits := int64(len(text)) <= most; fits != (err == nil) || fits && string(data) != text {
			t.Errorf("%q of %d: %q, %v", text, most, data, err)
		}
	}
}
