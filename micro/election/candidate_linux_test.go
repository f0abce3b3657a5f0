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

// candidateVariable makes the test program a candidate: the server's address.
const candidateVariable = "ELECTION_TEST_SERVER"

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
	for {
		before := monotonic()
		if !l.Valid() {
			break
		}
		fmt.Println("act", l.Term(), before, monotonic())
		time.Sleep(time.Millisecond)
	}
	// The context says the same from the first moment on.
	if err := work.Err(); err == nil || !errors.Is(context.Cause(work), election.ErrNotLeader) {
		fmt.Println("error context goes on:", err)
	}
	fmt.Println("end", l.Term(), monotonic())
}
