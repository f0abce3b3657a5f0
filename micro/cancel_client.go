package micro

import (
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// Everyone and verb of the control message that ends a handler whose caller gave up.
const (
	everyInstance = "all"
	verbCancel    = "cancel"
)

// cancelKey is what a cancel message says, beside the sender's inbox.
type cancelKey struct {
	service, endpoint, requestID string
	attempt                      int
}

// siblings counts the attempts under way that a cancel message cannot tell apart: a handler's calls all have its request id. A
// new id is nobody else's and needs no counting.
type siblings struct {
	mu    sync.Mutex
	count map[cancelKey]int
}

func (s *siblings) enter(k cancelKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == nil {
		s.count = map[cancelKey]int{}
	}
	s.count[k]++
}

// leave tells whether none is left.
func (s *siblings) leave(k cancelKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count[k]--
	if s.count[k] > 0 {
		return false
	}
	delete(s.count, k)
	return true
}

// cancelRemote tells whoever handles the attempt that nobody waits for it any more. Who handles it is not known, so all
// instances are told. They obey for requests that came from the inbox that the message names as its own: reply is as that of
// the request, up to its last dot. Nobody answers there.
func (c *Client) cancelRemote(k cancelKey, reply string) {
	msg := &nats.Msg{
		Subject: c.conn.Namespace().ControlSubject(k.service, everyInstance, verbCancel),
		Reply:   reply,
		Header: nats.Header{
			bus.HeaderRequestID: {k.requestID},
			bus.HeaderAttempt:   {strconv.Itoa(k.attempt)},
		},
		Data: []byte(k.endpoint),
	}
	if err := c.conn.Publish(msg); err != nil {
		c.log.Debug("attempt not cancelled", "service", k.service, "error", err) // it ends at its deadline
	}
}
