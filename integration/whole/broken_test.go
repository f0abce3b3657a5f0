//go:build unix

package whole_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
	name   string
	rules  []string    // by one of which the verdict must find it
	faults []injection // that show it
	edits  []edit
}

// each is a fault of each of some processes.
func each(kind, of string, processes int, hold time.Duration) (all []injection) {
	for i := range processes {
		all = append(all, injection{kind: kind, of: of, place: i, pause: 5 * time.Second, hold: hold})
	}
	return all
}

func brokenBuilds() []brokenBuild {
	return []brokenBuild{
		{"ack-before-store", []string{ruleCall}, each(killed, serverKind, 3, 3*time.Second), []edit{ // an asynchronous step is acknowledged when it is on its way
			{
				"micro/route/async.go", "			_, err := p.conn.JetStream().PublishMsg(ctx, msg, id)\n			return err\n",
				"			_, err := p.conn.JetStream().PublishMsgAsync(msg, id)\n			return err\n",
			},
		}},
		{"no-sender-fencing", []string{ruleOrder, ruleStale, ruleContents, ruleSenders}, each(frozen, mirrorKind, 4, 5*time.Second), []edit{ // who was the sender goes on when it is not any more
			{"mirror/progress.go", "headerExpectSeq: {strconv.FormatUint(revision, 10)}", "\"Expected\": {strconv.FormatUint(revision, 10)}"},
			{"mirror/apply.go", "if a.ctx.Err() != nil || !a.s.lease.Valid() {", "if a.ctx.Err() != nil {"},
			{"mirror/exchange.go", "lease == nil || !lease.Valid() {", "lease == nil {"},
			{"mirror/sender.go", "		case <-s.lease.Lost():\n			return errLeaseLost\n", ""},
			{"mirror/sender.go", "		return s.lease.Valid()\n", "		return true\n"},
			{"mirror/sender.go", "	if !s.lease.Valid() {\n", "	if s.lease == nil {\n"},
		}},
		{"no-cas-on-fire", []string{ruleCancelled, ruleTwice, ruleEarly}, each(frozen, schedulerKind, 4, 5*time.Second), []edit{ // a timer fires as it was known, not as it is
			{
				"scheduler/record.go",
				"		headerExpectSeq:     {strconv.FormatUint(m.seq, 10)},\n		headerExpectSubject: {m.subject},\n	}\n	if m.record.Repeat == nil",
				"	}\n	if m.record.Repeat == nil",
			},
		}},
		{"drain-without-waiting", []string{ruleAbandoned}, each(restarted, serviceKind, 9, 0), []edit{ // a service that is stopped does not wait for its handlers
			{
				"micro/handlers.go", "	defer h.cancel()\n	late := time.NewTimer(max(0, wait))\n",
				"	defer h.cancel()\n	if wait < time.Hour {\n		return 0\n	}\n	late := time.NewTimer(max(0, wait))\n",
			},
		}},
		{"immortal-heartbeat", []string{ruleRotation}, each(frozen, serviceKind, 1, serviceTTL+3*time.Second), []edit{ // the sign of life of an instance does not end
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

// brokenBuildOf is the broken build of that name, or nil.
func brokenBuildOf(name string) *brokenBuild {
	for _, b := range brokenBuilds() {
		if b.name == name {
			return &b
		}
	}
	return nil
}

// buildPrograms builds skybus, and for a broken build the children too.
func buildPrograms(broken string) (proctest.Programs, error) {
	if broken == "" {
		return proctest.Build(module + "cmd/skybus")
	}
	b := brokenBuildOf(broken)
	if b == nil {
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
	overlay, err := b.overlay(root, dir)
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

// TestBroken lets TestWhole find out what is wrong with each broken build. It is a part of the long form.
func TestBroken(t *testing.T) {
	if long, ok := flag.Lookup(longFlag).Value.(flag.Getter).Get().(bool); !ok || !long {
		t.Skip("takes minutes: -long")
	}
	for _, b := range brokenBuilds() {
		t.Run(b.name, func(t *testing.T) {
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), self, "-test.run", "^TestWhole$", "-test.v", "-"+brokenFlag, b.name)
			cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SKYBUS_") })
			out, err := cmd.CombinedOutput()
			if _, failed := errors.AsType[*exec.ExitError](err); !failed {
				t.Fatalf("it passed, or could not be run: %v\n%s", err, out)
			}
			found := 0
			for line := range strings.Lines(string(out)) {
				for _, rule := range b.rules {
					if strings.Contains(line, rule) {
						t.Logf("%.400s", strings.TrimSpace(line))
						found++
						break
					}
				}
			}
			if found == 0 {
				t.Errorf("it failed, but by none of %q:\n%s", b.rules, out)
			}
		})
	}
}
