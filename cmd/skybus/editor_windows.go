package main

import (
	"cmp"
	"os"
	"strings"
)

// editor is the command that edits path. The variables may hold arguments.
func editor(path string) []string {
	return append(strings.Fields(cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "notepad")), path)
}
