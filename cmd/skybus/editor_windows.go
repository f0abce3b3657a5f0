package main

import (
	"cmp"
	"os"
	"strings"
)

// editor is the command that edits path, and what its user calls it. The variables may hold arguments.
func editor(path string) (name string, command []string) {
	name = cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "notepad")
	return name, append(strings.Fields(name), path)
}
