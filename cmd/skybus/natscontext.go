package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/synadia-io/orbit.go/natscontext"
)

const contextHint = "`nats context ls` lists the contexts of this machine"

// loadContext reads a context of the nats command: the one named, the file named when name is an absolute path, or the
// selected one. It returns no settings when none is selected.
//
// The package natscontext gives out settings only together with a connection of its own, so that flags could not be
// laid over them; what is taken from it is the format.
func loadContext(name string) (natscontext.Settings, error) {
	path := name
	if !filepath.IsAbs(name) {
		dir, err := contextDir()
		if err != nil {
			if name == "" {
				return natscontext.Settings{}, nil // no home, nothing selected
			}
			return natscontext.Settings{}, err
		}
		if name == "" {
			if name, err = selectedContext(dir); name == "" {
				return natscontext.Settings{}, err
			}
		}
		if strings.Contains(name, "..") || strings.ContainsAny(name, `/\`) {
			return natscontext.Settings{}, withHint(usagef("NATS context %q: not a name", name), contextHint)
		}
		path = filepath.Join(dir, "context", name+".json")
	}
	return readContext(name, path)
}

func readContext(name, path string) (natscontext.Settings, error) {
	s := natscontext.Settings{}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, withHint(fmt.Errorf("NATS context %q does not exist", name), contextHint)
	}
	if err != nil {
		return s, fmt.Errorf("NATS context %q: %w", name, err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("NATS context %q: %s: %w", name, path, err)
	}
	s.Name = name
	s.Creds = os.ExpandEnv(s.Creds)
	for setting, value := range map[string]string{"nsc": s.NSCLookup, "user_jwt": s.UserJwt, "windows_cert_store": s.WinCertStoreType} {
		if value != "" {
			return s, withHint(fmt.Errorf("NATS context %q: the setting %q is not supported", name, setting),
				"use a context with a credentials file, or --server and --creds")
		}
	}
	return s, nil
}

// contextDir is where the nats command keeps its contexts, on every system.
func contextDir() (string, error) {
	if dir := os.Getenv("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "nats"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("NATS contexts: %w", err)
	}
	return filepath.Join(home, ".config", "nats"), nil
}

// selectedContext is the name `nats context select` left, empty when it left none.
func selectedContext(dir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "context.txt"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("selected NATS context: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

func expandHome(path string) string {
	rest, ok := strings.CutPrefix(path, "~/")
	if !ok {
		return path
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return path
	}
	return filepath.Join(home, rest)
}
