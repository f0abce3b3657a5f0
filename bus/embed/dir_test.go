package embed_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/bus/embed"
)

// dirVar makes the test binary a program that runs a server on that directory
// until it is killed.
const dirVar = "EMBED_TEST_DIR"

func TestMain(m *testing.M) {
	dir := os.Getenv(dirVar)
	if dir == "" {
		bustest.Main(m, "github.com/skybus-io/skybus/")
	}
	s, err := embed.Start(context.Background(), embed.Config{Dir: dir, Listen: ":0"})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.URL())
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func TestDirInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, embed.Config{Dir: dir})
	_, err := embed.Start(t.Context(), embed.Config{Dir: dir, Listen: ":0"})
	if !errors.Is(err, embed.ErrDirInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second start: %v, want %v with %s", err, embed.ErrDirInUse, dir)
	}
	// The refused one must leave the first alone.
	if err := connect(t, s).Flush(); err != nil {
		t.Error(err)
	}
	closeServer(t, s)
	closeServer(t, start(t, embed.Config{Dir: dir}))
}

func TestDirInUseByAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), dirVar+"="+dir)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "nats://") {
		t.Fatalf("other process: %q, %v", line, err)
	}
	other, err := nats.Connect(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := newJetStream(t, other).CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b"}); err != nil {
		t.Fatal(err)
	}

	_, err = embed.Start(t.Context(), embed.Config{Dir: dir, Listen: ":0"})
	if !errors.Is(err, embed.ErrDirInUse) {
		t.Errorf("start: %v, want %v", err, embed.ErrDirInUse)
	}

	// A killed process leaves no lock behind, and its streams.
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	s := start(t, embed.Config{Dir: dir})
	if _, err := newJetStream(t, connect(t, s)).KeyValue(t.Context(), "b"); err != nil {
		t.Error(err)
	}
}
