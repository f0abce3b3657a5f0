//go:build unix

package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/internal/proctest"
	"github.com/skybus-io/skybus/scheduler"
)

const skewVariable = "SKYBUS_INTEGRATION_SKEW" // seconds that a program built by buildSkewed is ahead

// buildSkewed builds skybus with a clock that is wrong: time.Now is replaced as it is compiled, nothing of skybus is.
func buildSkewed(t *testing.T) (program string) {
	t.Helper()
	dir := t.TempDir()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		t.Skipf("there are no sources of Go here: %v", err)
	}
	// Only what the clock shows is off: time goes by as it does.
	const line = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(source), line) != 1 {
		t.Fatalf("%s has no function Now as it is known here", original)
	}
	patched := strings.Replace(string(source), line, line+"\tsec += skewed\n", 1) + `
var skewed = func() int64 {
	text, _ := syscall.Getenv("` + skewVariable + `")
	n, sign := int64(0), int64(1)
	for i := range len(text) {
		if text[i] == '-' {
			sign = -1
			continue
		}
		n = n*10 + int64(text[i]-'0')
	}
	return n * sign
}()
`
	patched = strings.Replace(patched, "import (\n", "import (\n\t\"syscall\"\n", 1)
	replacement, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{original: replacement}})
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string][]byte{replacement: []byte(patched), overlay: list} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program = filepath.Join(dir, "skybus")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-overlay", overlay, "-o", program, module+"cmd/skybus")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build with another clock: %v\n%s", err, out)
	}
	return program
}

// TestTimersByTheServersClock runs a server whose clock is 12 s ahead, and one whose clock is 12 s behind: what is due after some time is
// due after that time, what is due at a time goes by the server's clock, and the scheduler warns.
func TestTimersByTheServersClock(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	program := buildSkewed(t)
	for _, skew := range []time.Duration{12 * time.Second, -12 * time.Second} {
		t.Run(fmt.Sprint(skew), func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "ports.json")
			p := proctest.Start(t, "skewed server", program, []string{"server", "--nats", "127.0.0.1:0", "--data", t.TempDir(), "--ports-file", file},
				[]string{fmt.Sprintf("%s=%d", skewVariable, int(skew.Seconds()))})
			server := proctest.FollowPlatform(p, file)
			server.AwaitReady()
			url := server.Ports["nats"]
			runs := startScheduler(t, url)
			s, sink := openTimers(t, url), newSink(t)
			const after = 2 * time.Second
			asked := time.Now()
			if _, err := s.Create(t.Context(), scheduler.Spec{ID: "after", After: after, Target: sink.target()}); err != nil {
				t.Fatal(err)
			}
			at := time.Now().Add(after)
			if _, err := s.Create(t.Context(), scheduler.Spec{ID: "at", At: at, Target: sink.target()}); err != nil {
				t.Fatal(err)
			}
			eventually(t, patience+12*time.Second, "both fire", func() bool { return len(sink.arrived("after")) > 0 && len(sink.arrived("at")) > 0 })
			if took := sink.arrived("after")[0].at.Sub(asked); took < after || took > after+5*time.Second {
				t.Errorf("what was due after %s came after %s", after, took)
			}
			// The server's clock says at when ours says at - skew.
			if off := sink.arrived("at")[0].at.Sub(at.Add(-skew)); off < -5*time.Millisecond { // both are one machine
				t.Errorf("what was due at a time came %s early by the server's clock", -off)
			}
			runs.Await(`clock is far from`)
		})
	}
}
