package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// The keys of tokens lie beside the file that names them, wherever skybus is started.
func TestAccessFilesLieBeside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	elsewhere := filepath.Join(t.TempDir(), "keys.pem")
	const token = "{issuer: %q, audience: [shop], algorithms: [RS256], file: %q}"
	access := fmt.Sprintf("{jwt: ["+token+", "+token+"]}", "https://a.example", "keys/a.pem", "https://b.example", elsewhere)
	want := []string{filepath.Join(dir, "keys", "a.pem"), elsewhere}

	a, err := readAccess(write("access.yaml", access))
	if err != nil {
		t.Fatal(err)
	}
	root := &cli{}
	parser, err := newParser(root, &App{globals: root.common(), stdout: io.Discard, stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	p, err := readPlatformFile(write("skybus.yaml", "gateway: {access: "+access+"}"), childOf(parser.Model.Node, "up"))
	if err != nil {
		t.Fatal(err)
	}
	for what, a := range map[string]*gatewayAccess{"--access": &a, "gateway.access": p.access} {
		for i, file := range want {
			if got := a.JWT[i].File; got != file {
				t.Errorf("%s: jwt[%d].file is %s, want %s", what, i, got, file)
			}
		}
	}
}
