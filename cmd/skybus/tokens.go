package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
)

const maxTokenFile = 1 << 20

// readTokens reads a file with a bearer token a line; lines that are empty or begin with # are left out. A file that everybody on
// the machine can read is refused, and one without a token, which would let everybody in. The empty name is no file.
func readTokens(name string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, tokenError(err)
	}
	if info.Mode().Perm()&0o007 != 0 && runtime.GOOS != "windows" {
		return nil, withHint(fmt.Errorf("token file: everybody on this machine may read or write %s", name), "chmod o= %s", name)
	}
	if info.Size() > maxTokenFile {
		return nil, tokenError(fmt.Errorf("%s has more than %d bytes", name, maxTokenFile))
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, tokenError(err)
	}
	var tokens []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			tokens = append(tokens, line)
		}
	}
	if len(tokens) == 0 {
		return nil, tokenError(errors.New("there is no token in " + name))
	}
	return tokens, nil
}

func tokenError(err error) error {
	return withHint(fmt.Errorf("token file: %w", err), "--token-file names a file with tokens of 16 characters or more, one a line")
}
