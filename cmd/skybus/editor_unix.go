//go:build !windows

package main

import (
	"cmp"
	"os"
)

// editor is the command that edits path. The variables may hold arguments, so a shell takes them apart, as git does it.
func editor(path string) []string {
	command := cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi")
	return []string{"sh", "-c", command + ` "$@"`, command, path}
}
