package registry

import (
	"encoding/json"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// Event is the last token of ev.instance.<service>.<instance>.<event>, where it is told, with the record as JSON, what became
// of an instance. Events are plain messages: at most once, and after what they tell of can be read. They are for programs
// that have no [Registry]: its feed tells of the same at the same time or a moment earlier.
type Event string

// What is told of an instance.
const (
	EventOnline  Event = "online"  // its record was written; again after it was lost
	EventChanged Event = "changed" // its record was changed by Update
	EventOffline Event = "offline" // it was withdrawn, or removed by a [Reaper]
)

// tell publishes an event. Nobody waits for it, so an error is only worth a look.
func tell(conn *bus.Conn, event Event, record Record) error {
	data, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return conn.Publish(&nats.Msg{
		Subject: conn.Namespace().InstanceEventSubject(record.Service, record.Instance, string(event)),
		Header:  nats.Header{bus.HeaderContentType: {bus.JSON{}.ContentType()}},
		Data:    data,
	})
}

func (a *Announcer) tell(event Event, record Record) {
	if err := tell(a.conn, event, record); err != nil {
		a.log.Debug("event is not told", "event", event, "error", err)
	}
}
