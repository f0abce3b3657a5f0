package bus

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// KeepInProgress tells JetStream three times in each ackWait, the AckWait of the consumer that delivered msg, that msg is being worked on, until
// release is called. Without a sign of life in ackWait, as after a crash, it is delivered to another. release returns when nothing of it
// runs any more; further calls do nothing.
func KeepInProgress(msg jetstream.Msg, ackWait time.Duration) (release func()) {
	done := make(chan struct{})
	var signing sync.WaitGroup
	signing.Go(func() {
		ticker := time.NewTicker(ackWait / 3)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				_ = msg.InProgress() // fails while the connection is down; then it may come again
			}
		}
	})
	return sync.OnceFunc(func() {
		close(done)
		signing.Wait()
	})
}
