//go:build unix

package whole_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/internal/proctest"
)

// brokenFlag is the name of a broken build, of which TestWhole has to find out what is wrong:
//
//	go test ./integration/whole -run Whole -broken no-cas-on-fire
const brokenFlag = "broken"

// edit takes the place of a piece of a file, which must be there once.
type edit struct{ file, old, new string }

// brokenBuild is skybus, and the children, without something that others rely on.
type brokenBuild struct {
	name  string
	rules []string // by one of which the verdict must find it
	edits []edit
}

func brokenBuilds() []brokenBuild {
	return []brokenBuild{
		{"ack-before-store", []string{ruleCall}, []edit{ // an asynchronous step is acknowledged when it is on its way
			{
				"micro/route/async.go", "			_, err := p.conn.JetStream().PublishMsg(ctx, msg, id)\n			return err\n",
				"			_, err := p.conn.JetStream().PublishMsgAsync(msg, id)\n			return err\n",
			},
		}},
		{"no-sender-fencing", []string{ruleOrder, ruleStale, ruleContents}, []edit{ // who was the sender goes on when it is not any more
			{"mirror/progress.go", "headerExpectSeq: {strconv.FormatUint(revision, 10)}", "\"Expected\": {strconv.FormatUint(revision, 10)}"},
			{"mirror/apply.go", "if a.ctx.Err() != nil || !a.s.lease.Valid() {", "if a.ctx.Err() != nil {"},
			{"mirror/sender.go", "		case <-s.lease.Lost():\n			return errLeaseLost\n", ""},
			{"mirror/sender.go", "		return s.lease.Valid()\n", "		return true\n"},
		}},
		{"no-cas-on-fire", []string{ruleCancelled, ruleTwice, ruleEarly}, []edit{ // a timer fires as it was known, not as it is
			{
				"scheduler/record.go",
				"		headerExpectSeq:     {strconv.FormatUint(m.seq, 10)},\n		headerExpectSubject: {m.subject},\n	}\n	if m.record.Repeat == nil",
				"	}\n	if m.record.Repeat == nil",
			},
		}},
		{"drain-without-waiting", []string{ruleAbandoned}, []edit{ // a service that is stopped does not wait for its handlers
			{
				"micro/handlers.go", "	defer h.cancel()\n	late := time.NewTimer(max(0, wait))\n",
				"	defer h.cancel()\n	if wait < time.Hour {\n		return 0\n	}\n	late := time.NewTimer(max(0, wait))\n",
			},
		}},
		{"immortal-heartbeat", []string{ruleRotation}, []edit{ // the sign of life of an instance does not end
			{"micro/registry/announce.go", "a.alive, kv.TTL(a.cfg.TTL))", "a.alive, kv.TTL(time.Hour))"},
		}},
	}
}

// ruleRotation is what the rig says of an instance that was frozen and is called all the same.
const ruleRotation = "is frozen and must be out of rotation"

// overlay writes the edits of a broken build into dir and returns the file for `go build -overlay`.
func (b brokenBuild) overlay(root, dir string) (string, error) {
	texts := map[string]string{}
	for _, e := range b.edits {
		path := filepath.Join(root, e.file)
		if _, ok := texts[path]; !ok {
			data, err := os.ReadFile(path)
			if err != nil {
				return "", err
			}
			texts[path] = string(data)
		}
		if n := strings.Count(texts[path], e.old); n != 1 {
			return "", fmt.Errorf("%s has %q %d times, want once", e.file, e.old, n)
		}
		texts[path] = strings.Replace(texts[path], e.old, e.new, 1)
	}
	replace := map[string]string{}
	for path, text := range texts {
		replace[path] = filepath.Join(dir, b.name+"-"+strings.ReplaceAll(filepath.Base(path), ".go", "")+".go.txt")
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, b.name+".json")
	return file, os.WriteFile(file, data, 0o600)
}

// childProgramVariable is the program that children are, where it is not this one.
const childProgramVariable = "SKYBUS_WHOLE_CHILD_PROGRAM"

// childProgram is the program that is started to be a child.
func childProgram() (string, error) {
	if path := os.Getenv(childProgramVariable); path != "" {
		return path, nil
	}
	return os.Executable()
}

// buildPrograms builds skybus, and for a broken build the children too.
func buildPrograms(broken string) (proctest.Programs, error) {
	if broken == "" {
		return proctest.Build(module + "cmd/skybus")
	}
	i := slices.IndexFunc(brokenBuilds(), func(b brokenBuild) bool { return b.name == broken })
	if i < 0 {
		return "", fmt.Errorf("-%s %q: there is no such build", brokenFlag, broken)
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "skybus-broken-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left is in the directory of temporary files
	overlay, err := brokenBuilds()[i].overlay(root, dir)
	if err != nil {
		return "", err
	}
	programs, err := proctest.Build("-overlay", overlay, module+"cmd/skybus")
	if err != nil {
		return "", err
	}
	children := programs.Path("children")
	cmd := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", children, module+"integration/whole") //nolint:noctx // there is no test yet that could end it
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s%w", err, out, programs.Remove())
	}
	return programs, os.Setenv(childProgramVariable, children)
}

// moduleRoot is the directory of the module, two above that of this package.
func moduleRoot() (string, error) { return filepath.Abs(filepath.Join("..", "..")) }

// TestBrokenBuilds looks whether all edits still fit.
func TestBrokenBuilds(t *testing.T) {
	t.Parallel()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range brokenBuilds() {
		if _, err := b.overlay(root, t.TempDir()); err != nil {
			t.Errorf("%s: %v", b.name, err)
		}
	}
}
