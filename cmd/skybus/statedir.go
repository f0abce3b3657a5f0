package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// stateDir is where skybus keeps what must survive a restart, unless told otherwise: a directory of the user, as the
// system wants it. It need not exist.
func stateDir() (string, error) {
	dir, err := userStateDir(runtime.GOOS)
	if err != nil {
		return "", withHint(err, "--data DIR says where to keep the data")
	}
	return filepath.Join(dir, "skybus"), nil
}

func userStateDir(goos string) (string, error) {
	switch goos {
	case "windows":
		// Not the roaming directory that UserConfigDir is: this can be gigabytes.
		if dir := os.Getenv("LocalAppData"); dir != "" {
			return dir, nil
		}
		return "", errors.New("data directory: %LocalAppData% is not set")
	case "darwin":
		home, err := home()
		return filepath.Join(home, "Library", "Application Support"), err
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return dir, nil
	}
	home, err := home()
	return filepath.Join(home, ".local", "state"), err
}

func home() (string, error) {
	dir, err := os.UserHomeDir()
	if err != nil {
		return "", errors.New("data directory: there is no home directory")
	}
	return dir, nil
}
