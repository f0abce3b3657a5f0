//go:build unix

package registry_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/micro/registry"
)

// A frozen process keeps its id until its liveness is over. When it goes on after another took the id, it ends.
func TestFrozenProcess(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t, bustest.TCP())
	r := open(t, connect(t, s), nil)
	frozen, said := startChild(t, s)
	if said != "claimed" {
		t.Fatal(said)
	}
	becomes(t, r, "shop", "a", registry.Online)
	if err := frozen.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	if _, said := startChild(t, s); !strings.HasPrefix(said, "already_exists") || !strings.Contains(said, "silent") {
		t.Errorf("%v after the freeze a second says %q", time.Since(since), said)
	}
	becomes(t, r, "shop", "a", registry.Offline)
	second, said := startChild(t, s)
	if said != "claimed" {
		t.Fatal(said)
	}
	isSecond := func() bool {
		i := find(r, "shop", "a")
		return i != nil && i.PID == second.cmd.Process.Pid && i.State == registry.Online
	}
	bustest.Eventually(t, "the second", isSecond)
	if err := frozen.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	thawed := time.Now()
	if said := frozen.line(t); !strings.HasPrefix(said, "ended already_exists") {
		t.Errorf("the frozen says %q", said)
	}
	t.Logf("it noticed %v after it went on", time.Since(thawed))
	if took := time.Since(thawed); took > 5*time.Second { // once it runs at all
		t.Errorf("it took %v", took)
	}
	changed := r.Changed()
	for over := time.After(childTTL); ; changed = r.Changed() {
		if !isSecond() {
			t.Fatalf("the second is %+v", find(r, "shop", "a"))
		}
		select {
		case <-changed:
		case <-over:
			return
		}
	}
}
