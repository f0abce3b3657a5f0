package registry_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/registry"
)

// childVariable makes the test program an instance of shop/a on the server it names.
const childVariable = "REGISTRY_TEST_CHILD"

const childTTL = 6 * time.Second

// child claims shop/a, says "claimed" or the code of the error, runs until its input ends or its id is taken, and says how
// that ended.
func child(server string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	conn, err := bus.Connect(ctx, bus.Config{Server: server})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	r := record("shop", "a")
	r.PID, r.Started = os.Getpid(), time.Now()
	a, err := registry.NewAnnouncer(conn, r, registry.AnnounceConfig{Heartbeat: 500 * time.Millisecond, TTL: childTTL, AnswerPing: true})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if err := a.Claim(ctx); err != nil {
		fmt.Println(bus.CodeOf(err), err)
		return 2
	}
	fmt.Println("claimed")
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		cancel()
	}()
	err = a.Run(ctx)
	fmt.Println("ended", bus.CodeOf(err), err)
	return 0
}

// process is a child.
type process struct {
	cmd   *exec.Cmd
	lines chan string
}

// startChild starts a child and returns it with the first line it said.
func startChild(t *testing.T, s *bustest.Node) (*process, string) {
	t.Helper()
	p := &process{cmd: exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0]), lines: make(chan string, 100)}
	p.cmd.Env = append(os.Environ(), childVariable+"="+s.URL())
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			p.lines <- scanner.Text()
		}
		_ = p.cmd.Wait() // how it ended is told by its lines
	}()
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = p.cmd.Process.Kill() // it may have ended
		<-ended
	})
	return p, p.line(t)
}

// line is the next line the child says.
func (p *process) line(t *testing.T) string {
	t.Helper()
	select {
	case line := <-p.lines:
		return line
	case <-time.After(patience):
		t.Fatal("the child says nothing")
		return ""
	}
}

// Two processes: while the first lives the second is refused, and when it was killed a third has the id at once.
func TestProcesses(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	r := open(t, connect(t, s), nil)
	first, said := startChild(t, s)
	if said != "claimed" {
		t.Fatal(said)
	}
	becomes(t, r, "shop", "a", registry.Online)
	_, said = startChild(t, s)
	if want := fmt.Sprintf("process %d", first.cmd.Process.Pid); !strings.HasPrefix(said, "already_exists") || !strings.Contains(said, want) {
		t.Errorf("the second says %q", said)
	}
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	third, said := startChild(t, s)
	if said != "claimed" {
		t.Fatalf("%v after the first was killed the third says %q", time.Since(killed), said)
	}
	bustest.Eventually(t, "the third", func() bool {
		i := find(r, "shop", "a")
		return i.PID == third.cmd.Process.Pid && i.State == registry.Online
	})
	t.Logf("online again %v after the kill, with the start of the process", time.Since(killed))
}
