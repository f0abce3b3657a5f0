//go:build unix

package integration_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// lineClients send lines without a pause, and count the answers that say where a line is stored.
type lineClients struct {
	sending, reading sync.WaitGroup

	conns    []net.Conn
	answers  atomic.Int64
	mu       sync.Mutex
	stored   map[uint64]bool // sequences
	mistakes []string
}

func startLines(t *testing.T, url string, n int) *lineClients {
	t.Helper()
	l := &lineClients{stored: map[uint64]bool{}}
	for i := range n {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "tcp://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() }) // again, where the test came to its end
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		l.conns = append(l.conns, c)
		l.sending.Go(func() {
			for n := 0; ; n++ {
				if _, err := fmt.Fprintf(c, "%d-%d\n", i, n); err != nil {
					return // the server has closed
				}
			}
		})
		l.reading.Go(func() { l.read(c) })
	}
	return l
}

// read reads answers until the server closes.
func (l *lineClients) read(c net.Conn) {
	for lines := bufio.NewScanner(c); lines.Scan(); {
		var answer struct {
			Sequence uint64 `json:"sequence"`
		}
		err := json.Unmarshal(lines.Bytes(), &answer)
		l.mu.Lock()
		if err != nil || answer.Sequence == 0 || l.stored[answer.Sequence] {
			l.mistakes = append(l.mistakes, lines.Text())
		}
		l.stored[answer.Sequence] = true
		l.mu.Unlock()
		l.answers.Add(1)
	}
}

// end waits until the server has closed all connections.
func (l *lineClients) end(t *testing.T) {
	t.Helper()
	l.reading.Wait()
	for _, c := range l.conns {
		_ = c.Close() // what is on its way is not read any more
	}
	l.sending.Wait()
	if len(l.mistakes) > 0 {
		t.Errorf("%d answers are no success, such as %s", len(l.mistakes), l.mistakes[0])
	}
}

// TestTCPEnds ends `skybus tcp` under clients that send without a pause. Told to stop, it answers each line that it has sent on; killed, it has answered none
// that is not stored.
func TestTCPEnds(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	server := startUp(t, "--memory").Ports["nats"]
	js := connect(t, server).JetStream()
	for name, end := range map[string]func(*platform){
		"stop": func(p *platform) { p.Stop(syscall.SIGTERM) },
		"kill": func(p *platform) { p.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "LINES_" + name, Subjects: []string{"default.dev.pub.lines." + name}})
			if err != nil {
				t.Fatal(err)
			}
			p := startPlatform(t, "tcp", "--listen", "127.0.0.1:0", "--stream", "default.dev.pub.lines."+name, "--server", server)
			clients := startLines(t, p.Ports["tcp_tcp"], 10)
			eventually(t, patience, "a thousand answers", func() bool { return clients.answers.Load() > 1000 })
			end(p)
			clients.end(t)
			info, err := stream.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			stored, answered := info.State.Msgs, uint64(clients.answers.Load())
			t.Logf("%d lines stored, %d answered", stored, answered)
			if answered > stored || name == "stop" && answered != stored {
				t.Errorf("%d lines are stored, %d were answered", stored, answered)
			}
			for sequence := range clients.stored {
				if sequence > info.State.LastSeq {
					t.Errorf("line %d was answered, the last stored is %d", sequence, info.State.LastSeq)
				}
			}
		})
	}
}
