package election_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/election"
)

const (
	processTTL = 5 * time.Second // the default
	promise    = processTTL + 500*time.Millisecond
)

// monotonic is a clock that all processes of the machine share and nobody sets.
func monotonic() int64 {
	const clockMonotonic = 1
	var ts syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		panic(errno)
	}
	return ts.Nano()
}

// act is one act of a leader, who asked before it whether it leads.
type act struct {
	term          kv.Term
	before, after int64
}

// candidate is a process that campaigns.
type candidate struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu   sync.Mutex
	acts []act
	ends map[kv.Term]int64
	bad  []string
}

func startCandidate(t *testing.T, url string, env ...string) *candidate {
	t.Helper()
	p := &candidate{done: make(chan struct{}), ends: map[kv.Term]int64{}}
	p.cmd = exec.CommandContext(t.Context(), os.Args[0])
	p.cmd.Env = append(append(os.Environ(), candidateVariable+"="+url), env...)
	p.cmd.Stderr = t.Output()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.hear(lines.Text())
		}
		_ = p.cmd.Wait() // it is killed
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // may have ended
		<-p.done
		for _, line := range p.bad {
			t.Errorf("process %d: %s", p.cmd.Process.Pid, line)
		}
	})
	return p
}

func (p *candidate) hear(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	words := strings.Fields(line)
	var a act
	var text string
	switch n, _ := fmt.Sscan(line, new(string), &text, &a.before, &a.after); {
	case words[0] == "act" && n == 4:
		a.term, _ = kv.ParseTerm(text)
		p.acts = append(p.acts, a)
	case words[0] == "end":
		term, _ := kv.ParseTerm(text)
		p.ends[term] = a.before
	default:
		p.bad = append(p.bad, line)
	}
}

func (p *candidate) log() []act {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clip(p.acts)
}

func (p *candidate) leads() bool { return len(p.log()) > 0 }

// reign is when a leader certainly led: it was valid before and after.
type reign struct {
	term       kv.Term
	begin, end int64
}

func reigns(acts []act) []reign {
	var list []reign
	for _, a := range acts {
		if n := len(list); n > 0 && list[n-1].term == a.term {
			list[n-1].end = a.before
			continue
		}
		list = append(list, reign{a.term, a.after, a.before})
	}
	return list
}

// A leader that is killed is followed within the TTL and half a second.
func TestKilledLeader(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a TTL")
	}
	t.Parallel()
	server := bustest.Server(t, bustest.TCP())
	leader := startCandidate(t, server.URL())
	bustest.Eventually(t, "the process to lead", leader.leads)
	elected := campaignLater(t, open(t, connect(t, bus.Config{InProcess: server}), election.Config{TTL: processTTL}), "next")
	select {
	case <-elected:
		t.Fatal("two lead")
	case <-time.After(processTTL / 2): // it has renewed since
	}
	if err := leader.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	next := bustest.Receive(t, "the next leader", elected)
	t.Logf("takeover after kill -9: %v, TTL %v", time.Since(killed), processTTL)
	if took := time.Since(killed); took > promise {
		t.Errorf("took %v, want at most %v", took, promise)
	}
	if term := leader.log()[0].term; next.Term().Compare(term) <= 0 {
		t.Errorf("term %v after %v", next.Term(), term)
	}
}

// A leader that is frozen and wakes up does not act any more: somebody else leads. Never do two.
func TestFrozenLeader(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a TTL")
	}
	t.Parallel()
	for name, env := range map[string]string{"who asks the leadership": "", "who asks the context": contextVariable + "=1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			freeze(t, env)
		})
	}
}

func freeze(t *testing.T, env string) {
	t.Helper()
	server := bustest.Server(t, bustest.TCP())
	first := startCandidate(t, server.URL(), env)
	bustest.Eventually(t, "the first to lead", first.leads)
	second := startCandidate(t, server.URL())
	signal(t, first, syscall.SIGSTOP)
	frozen := monotonic()
	bustest.Eventually(t, "the second to lead", second.leads)
	took := time.Duration(second.log()[0].before - frozen)
	t.Logf("takeover from the frozen: %v, TTL %v", took, processTTL)
	if took > promise {
		t.Errorf("took %v, want at most %v", took, promise)
	}
	woken := monotonic()
	signal(t, first, syscall.SIGCONT)
	term := first.log()[0].term
	bustest.Eventually(t, "the woken to know", func() bool {
		first.mu.Lock()
		defer first.mu.Unlock()
		return first.ends[term] > 0
	})
	n := len(second.log())
	bustest.Eventually(t, "the second to go on", func() bool { return len(second.log()) > n+100 })
	for _, a := range first.log() {
		if a.term == term && a.before >= woken {
			t.Fatalf("the woken acted %v after it woke", time.Duration(a.before-woken))
		}
	}
	for _, a := range reigns(first.log()) {
		for _, b := range reigns(second.log()) {
			if a.begin < b.end && b.begin < a.end {
				t.Errorf("terms %v and %v were valid at once for %v", a.term, b.term, time.Duration(min(a.end, b.end)-max(a.begin, b.begin)))
			}
		}
	}
}

func signal(t *testing.T, p *candidate, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}
