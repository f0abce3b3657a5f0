//go:build unix

package integration_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/proctest"
	"github.com/skybus-io/skybus/mirror"
)

// mirrorRig is a mirror of some processes and the copies behind it.
type mirrorRig struct {
	t      *testing.T
	server string // URLs
	conn   *bus.Conn
	file   string
	copies []*copyProcess
	procs  []*platform // of the mirror

	commits *commits
	ever    []*platform // the same, with those that have ended
	retried uint64      // a write that was parked and tried again, by hand and out of order
}

// newMirrorRig starts copies, and processes of a mirror with some more lines in its file.
func newMirrorRig(t *testing.T, server string, copies, procs int, lines ...string) *mirrorRig {
	t.Helper()
	r := &mirrorRig{t: t, server: server, conn: connect(t, server), file: filepath.Join(t.TempDir(), "mirror.yaml")}
	r.commits = watchCommits(t, r.conn)
	text := append([]string{"name: m", "lanes: 16", "retry: {timeout: 1s, tries: 1000}"}, append(lines, "backends:")...)
	for i := range copies {
		c := startCopy(t, copyConfig{})
		r.copies = append(r.copies, c)
		text = append(text, fmt.Sprintf("  - {name: %s, url: %q}", copyName(i), c.url))
	}
	if err := os.WriteFile(r.file, []byte(strings.Join(text, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	for range procs {
		r.procs = append(r.procs, r.startMirror())
	}
	r.ever = slices.Clone(r.procs)
	return r
}

// edit changes the file of the mirror, for processes that are yet to start.
func (r *mirrorRig) edit(old, text string) {
	r.t.Helper()
	data, err := os.ReadFile(r.file)
	if err == nil {
		err = os.WriteFile(r.file, bytes.ReplaceAll(data, []byte(old), []byte(text)), 0o600)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func copyName(i int) string { return string(rune('a' + i)) }

func (r *mirrorRig) startMirror() *platform {
	return startPlatform(r.t, "mirror", "run", "-f", r.file, "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--server", r.server)
}

// urls are where the mirror's clients come in.
func (r *mirrorRig) urls() []string {
	var urls []string
	for _, p := range r.procs {
		urls = append(urls, p.Ports["mirror"])
	}
	return urls
}

// restart starts a process again that has ended.
func (r *mirrorRig) restart(at int) {
	r.t.Helper()
	r.procs[at] = r.procs[at].Restart()
	r.ever = append(r.ever, r.procs[at])
}

// reigns are the times at which a process became the sender, in Unix nanoseconds.
func (r *mirrorRig) reigns() []int64 {
	r.t.Helper()
	sending := regexp.MustCompile(`"time":"([^"]+)"[^\n]*"msg":"sending"`)
	var all []int64
	for _, p := range r.ever {
		text := p.Output()
		for _, match := range sending.FindAllStringSubmatch(text, -1) {
			at, err := time.Parse(time.RFC3339Nano, match[1])
			if err != nil {
				r.t.Fatal(err)
			}
			all = append(all, at.UnixNano())
		}
	}
	slices.Sort(all)
	return all
}

// open is the mirror as a process sees it that sends nothing.
func (r *mirrorRig) open() *mirror.Mirror {
	r.t.Helper()
	m, err := mirror.Open(r.t.Context(), r.conn, mirror.Config{Name: "m", Observe: true})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := m.Close(); err != nil {
			r.t.Error(err)
		}
	})
	return m
}

// sender is the process that sends, and the place it has among all.
func (r *mirrorRig) sender(m *mirror.Mirror) (at int) {
	r.t.Helper()
	eventually(r.t, patience, "one process sends", func() bool {
		owner, err := m.Sender(r.t.Context())
		for i, p := range r.procs {
			if err == nil && strings.HasSuffix(owner, fmt.Sprintf("-%d", p.PID())) {
				at = i
				return true
			}
		}
		return false
	})
	return at
}

// copyProcess is a copy as its test sees it.
type copyProcess struct {
	*process

	t      *testing.T
	config copyConfig
	url    string

	offset  int64 // up to where the log was read
	applies []apply
	seen    map[uint64]bool
}

func startCopy(t *testing.T, config copyConfig) *copyProcess {
	t.Helper()
	config.Listen = orText(config.Listen, "127.0.0.1:0")
	config.Log = orText(config.Log, filepath.Join(t.TempDir(), "log"))
	c := &copyProcess{t: t, config: config, seen: map[uint64]bool{}}
	c.run()
	return c
}

func orText(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func (c *copyProcess) run() {
	c.t.Helper()
	config, err := json.Marshal(c.config)
	if err != nil {
		c.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	c.process = proctest.Start(c.t, "copy", self, nil, []string{copyVariable + "=" + string(config)})
	c.config.Listen = c.Await(`(?m)^listening (.*)$`)[1]
	c.url = "http://" + c.config.Listen
}

// restart starts a copy again that has ended, where it was and with what it had.
func (c *copyProcess) restart() {
	c.t.Helper()
	c.run()
}

// fail makes the copy fail in these ways from now on.
func (c *copyProcess) fail(f faults) {
	c.t.Helper()
	data, err := json.Marshal(f)
	if err != nil {
		c.t.Fatal(err)
	}
	c.ask(http.MethodPut, "/-/faults", data)
}

func (c *copyProcess) ask(method, path string, body []byte) []byte {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // all that matters was read
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("%s %s: %d %v: %s", method, path, resp.StatusCode, err, data)
	}
	return data
}

// content is what the copy has.
func (c *copyProcess) content() content {
	c.t.Helper()
	v := newContent()
	if err := json.Unmarshal(c.ask(http.MethodGet, "/-/content", nil), &v); err != nil {
		c.t.Fatal(err)
	}
	return v
}

// applied is all it has applied, as its log has it.
func (c *copyProcess) applied() []apply {
	c.t.Helper()
	f, err := os.Open(c.config.Log)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.NewSectionReader(f, c.offset, 1<<40))
	if err != nil {
		c.t.Fatal(err)
	}
	data = data[:bytes.LastIndexByte(data, '\n')+1]
	c.offset += int64(len(data))
	for line := range bytes.Lines(data) {
		var a apply
		if err := json.Unmarshal(line, &a); err != nil {
			c.t.Fatal(err)
		}
		c.applies = append(c.applies, a)
		c.seen[a.Seq] = true
	}
	return c.applies
}

// lacks is a write after from, up to last, that the copy has not applied; 0 when there is none.
func (c *copyProcess) lacks(from, last uint64) uint64 {
	c.t.Helper()
	c.applied()
	for seq := from + 1; seq <= last; seq++ {
		if !c.seen[seq] {
			return seq
		}
	}
	return 0
}
