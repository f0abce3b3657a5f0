package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestComplete(t *testing.T) {
	t.Parallel()
	tests := []struct {
		shell string
		words []string
		want  string // words, separated by spaces
	}{
		{"fish", []string{"ver"}, "version versions"},
		{"fish", []string{"nonsense"}, ""},
		{"fish", []string{"version", ""}, ""},
		{"fish", []string{"completion", ""}, "bash fish zsh"},
		{"fish", []string{"completion", "f"}, "fish"},
		{"fish", []string{"completion", "bash", ""}, ""},
		{"fish", []string{"version", "--out"}, "--output"},
		{"fish", []string{"server", "--cl"}, "--cluster --cluster-listen"},
		{"fish", []string{"version", "--cl"}, ""},
		{"fish", []string{"version", "-o", ""}, "json table yaml"},
		{"fish", []string{"version", "--output", "y"}, "yaml"},
		{"fish", []string{"version", "--output=y"}, "--output=yaml"},
		{"fish", []string{"version", "--bogus=y"}, ""},
		{"fish", []string{"-o", "json", "ver"}, "version versions"},
		{"fish", []string{"--output=json", "ver"}, "version versions"},
		{"fish", []string{"--help", "ver"}, "version versions"},
		{"fish", []string{"--server", "version", "compl"}, "completion"},
		{"fish", []string{"completion", "--", "--"}, ""},
		{"fish", []string{"completion", "--", "z"}, "zsh"},
		{"fish", []string{"--log-level", ""}, "debug error info trace warn"},
		{"bash", []string{"version", "--output", "=", ""}, "json table yaml"},
		{"bash", []string{"version", "--output", "="}, "json table yaml"},
		{"bash", []string{"version", "--output", "=", "y"}, "yaml"},
		{"bash", []string{"--server", "nats", ":", "//127.0.0.1", ":", "4222", "vers"}, "version versions"},
		{"bash", []string{"="}, ""},
	}
	for _, tt := range tests {
		args := append([]string{completeWord, tt.shell}, tt.words...)
		code, stdout, stderr := runs(t.Context(), &cli{}, args...)
		if code != exitOK || stderr != "" {
			t.Errorf("%q: exit %d, stderr %q", tt.words, code, stderr)
		}
		var got []string
		for line := range strings.Lines(stdout) {
			word, _, _ := strings.Cut(line, "\t")
			got = append(got, word)
		}
		if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s %q (-want +got):\n%s", tt.shell, tt.words, diff)
		}
	}
}
