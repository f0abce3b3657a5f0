package tcp_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/initiators/tcp"
)

// A length that is only claimed costs nothing. Not parallel: it measures what the process allocates.
func TestClaimedLength(t *testing.T) {
	for name, framing := range map[string]tcp.Framing{"prefix": tcp.Prefix{}, "fixed": tcp.Fixed{Size: 64 << 20, Binary: true}} {
		r := bufio.NewReader(strings.NewReader("\x04\x00\x00\x00" + strings.Repeat("x", 10<<10))) // 64 MiB, of which 10 KiB come
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := framing.ReadFrame(r, 64<<20)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
			t.Errorf("%s: %d bytes were allocated for 10 KiB", name, n)
		}
	}
}

// Hundreds of connections that begin a frame and finish none hold nobody up, and are hung up on.
func TestCrowdOfHalfFrames(t *testing.T) {
	t.Parallel()
	s := serve(t, target(echo), tcp.Config{MaxConnsPerIP: -1, FrameTimeout: 3 * time.Second, MaxInFlight: 4})
	const crowd = 300
	begin := time.Now()
	for i := range crowd {
		c := s.dial(t)
		c.write(fmt.Sprintf("half of %d", i))
	}
	bustest.Eventually(t, "the crowd", func() bool { return s.Stats().Accepted == crowd })
	var asking sync.WaitGroup
	for i := range 10 {
		c := s.dial(t)
		asking.Go(func() {
			for n := range 50 {
				want := fmt.Sprintf("%d-%d\n", i, n)
				if _, err := io.WriteString(c, want); err != nil {
					t.Error(err)
					return
				}
				if got, err := c.r.ReadString('\n'); err != nil || got != want {
					t.Errorf("%q, %v: want %q", got, err, want)
					return
				}
			}
		})
	}
	asking.Wait()
	bustest.Eventually(t, "the end of the crowd", func() bool { return s.refused(tcp.ReasonSlowFrame) == crowd && s.Stats().Connections == 10 })
	if took := time.Since(begin); took < 3*time.Second || s.Stats().Frames != 500 {
		t.Errorf("%d frames, after %v", s.Stats().Frames, took)
	}
}
