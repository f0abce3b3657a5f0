package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestByteSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"1": 1, "1048576": 1 << 20, "1B": 1, "2K": 2 << 10, "2KiB": 2 << 10, "2KB": 2000, "512MiB": 512 << 20, "10GB": 10_000_000_000, "1T": 1 << 40, "8388607TiB": 8388607 << 40,
		"": 0, "0": 0, "-1": 0, "K": 0, "iB": 0, "1iB": 0, "1X": 0, "1KM": 0, "1.5G": 0, "8388608TiB": 0, "9223372036854775808": 0,
	} {
		var got byteSize
		err := got.UnmarshalText([]byte(text))
		if int64(got) != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d and %v, want %d", text, got, err, want)
		}
	}
}

func TestUserStateDir(t *testing.T) { // not parallel: it sets variables
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	t.Setenv("LocalAppData", filepath.Join(home, "Local"))
	state := filepath.Join(home, "state")
	for _, tt := range []struct{ goos, xdg, want string }{
		{"linux", "", filepath.Join(home, ".local", "state")},
		{"linux", state, state},
		{"linux", "relative", filepath.Join(home, ".local", "state")}, // as the XDG specification says
		{"darwin", state, filepath.Join(home, "Library", "Application Support")},
		{"windows", state, filepath.Join(home, "Local")},
	} {
		t.Setenv("XDG_STATE_HOME", tt.xdg)
		if got, err := userStateDir(tt.goos); err != nil || got != tt.want {
			t.Errorf("%s with %q: %q and %v, want %q", tt.goos, tt.xdg, got, err, tt.want)
		}
	}
}

func TestPortsFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := portsFile(filepath.Join(dir, "ports"))
	if err := os.WriteFile(string(p), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.prepare(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(string(p)); !os.IsNotExist(err) {
		t.Errorf("the old file is still there: %v", err)
	}
	for range 2 { // the second replaces the first
		if err := p.write(map[string]string{"nats": "nats://x:1", "admin": "http://y:2"}); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(string(p))
	if err != nil || string(data) != `{"admin":"http://y:2","nats":"nats://x:1"}`+"\n" {
		t.Errorf("%q, %v", data, err)
	}
	p.remove()
	p.remove()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := portsFile(filepath.Join(dir, "no", "ports")).prepare(); err == nil || !strings.Contains(err.Error(), "ports file") {
		t.Errorf("a directory that is not there: %v", err)
	}
	none := portsFile("")
	if err := none.prepare(); err != nil {
		t.Error(err)
	}
	if err := none.write(nil); err != nil {
		t.Error(err)
	}
	none.remove()
}

// silentListener takes connections and says nothing.
func silentListener(t *testing.T) (addr string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}
