package election_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/election"
)

// candidateVariable makes the test program a candidate: the server's address. With the other one set it asks its context,
// and not its leadership, before it acts.
const (
	candidateVariable = "ELECTION_TEST_SERVER"
	contextVariable   = "ELECTION_TEST_CONTEXT"
)

// candidateMain campaigns, acts as often as it can while it leads, and tells of each act.
func candidateMain(url string) int {
	ctx := context.Background()
	err := func() error {
		conn, err := bus.Connect(ctx, bus.Config{Server: url})
		if err != nil {
			return err
		}
		e, err := election.Open(ctx, conn, election.Config{TTL: processTTL})
		if err != nil {
			return err
		}
		for {
			l, err := e.Campaign(ctx, service, fmt.Sprint(os.Getpid()))
			if err != nil {
				return err
			}
			lead(ctx, l)
		}
	}()
	fmt.Println("error", err)
	return 1
}

// lead prints, for each act, the term and the times before and after the leadership was found valid.
func lead(ctx context.Context, l *election.Leadership) {
	work, cancel := l.Context(ctx)
	defer cancel()
	leads := l.Valid
	if os.Getenv(contextVariable) != "" {
		leads = func() bool { return work.Err() == nil }
	}
	for {
		before := monotonic()
		if !leads() {
			break
		}
		fmt.Println("act", l.Term(), before, monotonic())
		// Not a sleep: who wakes from a freeze here is at once where it was, before any timer runs.
		for now := before; now < before+int64(time.Millisecond); {
			now = monotonic()
		}
	}
	// Both say the same from the first moment on.
	if err := work.Err(); err == nil || l.Valid() || !errors.Is(context.Cause(work), election.ErrNotLeader) {
		fmt.Println("error context goes on:", err)
	}
	fmt.Println("end", l.Term(), monotonic())
}
