//go:build unix

package integration_test

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRestartKeepsRoutes edits the demo's route, and starts everything again after a clean end and after kill -9.
func TestRestartKeepsRoutes(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	p := startUp(t, "--demo", "--data", t.TempDir())
	want := []string{"getwidgets.get", "authorize.check", "getwidgets.get"}
	edit(t, p.Ports["nats"], want...)
	for _, end := range []struct {
		name string
		end  func()
	}{
		{"a clean end", func() { p.Stop(os.Interrupt) }},
		{"kill -9", func() { p.Kill() }},
		{"kill -9 under load", func() {
			startLoad(t, 8, callWidgets(t, p.Ports["http"])).await(100)
			p.Kill()
		}},
	} {
		end.end()
		p = p.Restart()
		if got := trail(t, p.Ports["http"]); !slices.Equal(got, want) {
			t.Errorf("after %s the steps are %q, want %q", end.name, got, want)
		}
		var revisions []any // the demo's own and ours
		if out := skybus(t, p.Ports["nats"], "routes", "history", "getwidgets", "-o", "json"); json.Unmarshal([]byte(out), &revisions) != nil || len(revisions) != 2 {
			t.Errorf("after %s there are %d revisions, want 2: %s", end.name, len(revisions), out)
		}
	}
}

// edit makes the demo's route of these synchronous steps, by the command line.
func edit(t *testing.T, server string, targets ...string) {
	t.Helper()
	var text strings.Builder
	text.WriteString("description: edited\nsteps:\n")
	for _, target := range targets {
		service, endpoint, _ := strings.Cut(target, ".")
		text.WriteString("- {service: " + service + ", endpoint: " + endpoint + ", retry: true}\n")
	}
	file := filepath.Join(t.TempDir(), "route.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	skybus(t, server, "routes", "put", "getwidgets", "-f", file)
}

// trail asks the demo and returns the steps that left a note, in order.
func trail(t *testing.T, gateway string) []string {
	t.Helper()
	notes, err := newBrowser(t).widgets(t.Context(), gateway)
	if err != nil {
		t.Fatal(err)
	}
	for i, note := range notes {
		notes[i], _, _ = strings.Cut(note, " on ")
	}
	return notes
}

// TestTakenPlaces starts what cannot start: one clear line and a hint, at once, and whoever was there first goes on.
func TestTakenPlaces(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	data := t.TempDir()
	first := startUp(t, "--demo", "--data", data)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	taken, free := listener.Addr().String(), "127.0.0.1:0"
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"data of up", []string{"up", "--http", free, "--timers", free, "--admin", free, "--nats", free, "--data", data}, data},
		{"data of server", []string{"server", "--nats", free, "--data", data}, data},
		{"http", []string{"up", "--http", taken, "--timers", free, "--admin", free, "--nats", free, "--memory"}, taken},
		{"admin", []string{"up", "--http", free, "--timers", free, "--admin", taken, "--nats", free, "--memory"}, taken},
		{"timers", []string{"up", "--http", free, "--timers", taken, "--admin", free, "--nats", free, "--memory"}, taken},
		{"nats", []string{"up", "--http", free, "--timers", free, "--admin", free, "--nats", taken, "--memory"}, taken},
		{"nats of server", []string{"server", "--nats", taken, "--data", t.TempDir()}, taken},
		{"cluster", []string{"server", "--nats", free, "--data", t.TempDir(), "--cluster", "c", "--cluster-listen", taken}, taken},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { // one after another: the check below comes after them
			begin := time.Now()
			code, stdout, stderr := run(t, "skybus", test.args...)
			if took := time.Since(begin); took > 4*time.Second { // no time-out is as short
				t.Errorf("it took %v, want at most 4s", took)
			}
			if code != 1 || stdout != "" {
				t.Errorf("exit code %d and output %q, want 1 and none", code, stdout)
			}
			if !regexp.MustCompile(`^skybus: [^\n]*in use[^\n]*\nhint: --[^\n]+\n$`).MatchString(stderr) || !strings.Contains(stderr, test.want) {
				t.Errorf("it says %q, want one line that names %s, and a hint", stderr, test.want)
			}
		})
	}
	if got := trail(t, first.Ports["http"]); len(got) != 2 {
		t.Errorf("the first one answers %q now", got)
	}
}
