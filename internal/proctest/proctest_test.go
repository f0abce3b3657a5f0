//go:build unix

package proctest_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/skybus-io/skybus/internal/proctest"
)

const childVariable = "PROCTEST_CHILD"

func TestMain(m *testing.M) {
	if code := os.Getenv(childVariable); code != "" {
		os.Exit(childMain(code))
	}
	os.Exit(m.Run())
}

// childMain counts until it is asked to end.
func childMain(code string) (exit int) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	_, _ = fmt.Sscan(code, &exit) // 0 if it is no number
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		fmt.Println("count", n)
		select {
		case <-ctx.Done():
			return exit
		case <-tick.C:
		}
	}
}

func startChild(t *testing.T, code string) *proctest.Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := proctest.Start(t, "child", self, nil, []string{childVariable + "=" + code})
	if got := p.Await(`(?m)^count (\d+)$`); got[1] != "1" {
		t.Errorf("the first match is %q, want count 1", got)
	}
	return p
}

func TestStopAndExit(t *testing.T) {
	t.Parallel()
	startChild(t, "0").Stop(syscall.SIGTERM)

	p := startChild(t, "3")
	p.Signal(syscall.SIGTERM)
	if code := p.Exit(); code != 3 || !p.HasEnded() {
		t.Errorf("it ended with %d, want 3", code)
	}

	p = startChild(t, "0")
	p.Kill()
	p.Kill()
	if code := p.Exit(); code != -1 {
		t.Errorf("what was killed ended with %d, want -1", code)
	}
}

func TestFreeze(t *testing.T) {
	t.Parallel()
	p := startChild(t, "0")
	for range 3 {
		p.Freeze()
		before := p.Output()
		if proctest.Within(100*time.Millisecond, func() bool { return len(p.Output()) > len(before)+1000 }) {
			t.Error("a frozen process goes on")
		}
		p.Thaw()
		before = p.Output()
		proctest.Eventually(t, proctest.Patience, "it goes on", func() bool { return p.Output() != before })
	}
	p.Freeze()
	p.Kill()
	if code := p.Exit(); code != -1 {
		t.Errorf("what was killed while it was frozen ended with %d, want -1", code)
	}
}
