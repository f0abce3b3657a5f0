package http

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
)

// That what is answered later waits is told once, also where what it is kept in could not be opened yet, and once that it goes on.
func TestAsyncLullIsToldOnceAndItsEnd(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := bareRig(t, bustest.Server(t))
		var log strings.Builder // written by the keeper alone, read when it has ended
		k := newKeeper(&Gateway{log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), cfg: Config{AsyncWork: 8}}, r.conn)
		r.node.Stop()
		k.begin(t.Context())
		k.want()
		time.Sleep(10 * time.Minute) // fake time: an outage during which it is told of several times
		r.node.Start(t)
		time.Sleep(time.Minute) // fake time: longer than the pauses between attempts
		r.node.Stop()
		time.Sleep(10 * time.Minute) // fake time: another outage
		r.node.Start(t)
		time.Sleep(time.Minute) // fake time: as above
		k.close()
		warned, told, over := 0, 0, 0
		for line := range strings.Lines(log.String()) {
			switch {
			case strings.Contains(line, "level=INFO") && strings.Contains(line, "answered later go on") && strings.Contains(line, "waited="):
				over++
			case strings.Contains(line, "answered later are waiting"):
				told++
				if strings.Contains(line, "level=WARN") {
					warned++
				}
			}
		}
		if warned != 2 || over != 2 || told < 6 {
			t.Errorf("told %d times, as a warning %d times, and that it is over %d times; want several, 2 and 2:\n%s", told, warned, over, log.String())
		}
	})
}
