package micro

import (
	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// Everyone and verb of the control message that ends a handler whose caller gave up.
const (
	everyInstance = "all"
	verbCancel    = "cancel"
)

// cancelRemote tells whoever handles the attempt that nobody waits for it any more. Who handles it is not known, so all
// instances are told. They obey for requests that came from the inbox that the message names as its own: reply is as that of
// the request, up to its last dot. Nobody answers there.
func (c *Client) cancelRemote(r *Request, env bus.Envelope, reply string) {
	msg := &nats.Msg{
		Subject: c.conn.Namespace().ControlSubject(r.Service, everyInstance, verbCancel),
		Reply:   reply,
		Header:  bus.Envelope{RequestID: env.RequestID, Attempt: env.Attempt, Call: env.Call}.Header(),
		Data:    []byte(r.Endpoint),
	}
	if err := c.conn.Publish(msg); err != nil {
		c.log.Debug("attempt not cancelled", "service", r.Service, "error", err) // it ends at its deadline
	}
}
