package micro

import (
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// Everyone and verb of the control message that ends a handler whose caller gave up.
const (
	everyInstance = "all"
	verbCancel    = "cancel"
)

// cancelRemote tells whoever handles the attempt that nobody waits for it any more. Who handles it is not known, so all
// instances are told. They obey for requests that came from the inbox that the message names as its own.
func (c *Client) cancelRemote(service, requestID string, attempt int) {
	msg := &nats.Msg{
		Subject: c.conn.Namespace().ControlSubject(service, everyInstance, verbCancel),
		Reply:   c.conn.NATS().NewRespInbox(), // as the request's own; nobody answers
		Header: nats.Header{
			bus.HeaderRequestID: {requestID},
			bus.HeaderAttempt:   {strconv.Itoa(attempt)},
		},
	}
	if err := c.conn.Publish(msg); err != nil {
		c.log.Debug("attempt not cancelled", "service", service, "error", err) // it ends at its deadline
	}
}
