//go:build !windows

package main

import (
	"cmp"
	"os"
)

// editor is the command that edits path, and what its user calls it. The variables may hold arguments, so a shell takes
// them apart, as git does it. An interrupt is not for that shell.
func editor(path string) (name string, command []string) {
	name = cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi")
	return name, []string{"sh", "-c", "trap : INT; " + name + ` "$@"`, name, path}
}
