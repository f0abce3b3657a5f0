package main

import (
	"slices"
	"strings"
	"testing"
)

func TestTestCommand(t *testing.T) {
	t.Parallel()
	want := []string{"go", "test", "-race", "-shuffle=on", "./..."}
	for _, tc := range []struct {
		name   string
		readme string
		err    string // part of the error, "" when there is none
	}{
		{"plain", "# x\n\n```sh\ngo run .\ngo test -race -shuffle=on ./...\n```\n", ""},
		{"comments, prompts and blank lines", "```\n# first\n$ go run . # runs\n\n$ go test -race -shuffle=on ./... # tests\n```\n", ""},
		{"only the first block counts", "```\ngo run .\n```\n```\ngo run .\ngo test -race -shuffle=on ./...\n```\n", "has 1 command(s)"},
		{"no block", "# x\n\ngo test -race -shuffle=on ./...\n", "no fenced block"},
		{"block without an end", "```\ngo run .\ngo test -race -shuffle=on ./...\n", "no fenced block"},
		{"another command", "```\ngo run .\nmake test\n```\n", `is "make test"`},
		{"no race detector", "```\ngo run .\ngo test -shuffle=on ./...\n```\n", "not a `go test -race -shuffle=on`"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := testCommand(tc.readme)
			switch {
			case tc.err == "" && (err != nil || !slices.Equal(got, want)):
				t.Errorf("got %q, %v, want %q", got, err, want)
			case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
				t.Errorf("got %q, %v, want an error with %q", got, err, tc.err)
			}
		})
	}
}
