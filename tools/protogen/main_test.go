package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is committed is what the .proto file says.
func TestGeneratedCodeIsCurrent(t *testing.T) {
	t.Parallel()
	const committed = "../../examples/grpc/greetpb"
	dir := t.TempDir()
	source, err := os.ReadFile(filepath.Join(committed, "greet.proto"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "greet.proto"), source, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), []string{dir}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"greet.pb.go", "greet_grpc.pb.go"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(committed, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what greet.proto makes: run go run -C tools ./protogen ../examples/grpc/greetpb", name)
		}
	}
}

func TestWhatIsNoProto(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := run(t.Context(), []string{dir}); err == nil || !strings.Contains(err.Error(), "no .proto file") {
		t.Errorf("error %v, want that there is no .proto file", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x.proto"), []byte("message {"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), []string{dir}); err == nil || !strings.Contains(err.Error(), "x.proto:1") {
		t.Errorf("error %v, want the place of the mistake", err)
	}
	if err := run(t.Context(), nil); err == nil {
		t.Error("no directory is no error")
	}
}
