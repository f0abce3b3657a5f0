package http

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

const (
	typeEvents        = "text/event-stream"
	headerLastEventID = "Last-Event-ID"
)

// event is one event, as it is sent.
type event struct {
	sequence uint64 // of a stream; 0 means none
	frame    []byte // shared by all who are sent it
}

// comment is sent when there is nothing else to send.
func comment() []byte { return []byte(":\n\n") }

// retryFrame tells how long to wait before the next connection.
func retryFrame(d time.Duration) []byte {
	return append(strconv.AppendInt([]byte("retry: "), d.Milliseconds(), 10), "\n\n"...)
}

// eventID tells where in a stream an event stands.
type eventID struct {
	sequence uint64
	stream   string // tells streams of one name apart, see streamTag; empty for an event without an id
}

// streamTag tells a stream from others that had its name before.
func streamTag(created time.Time) string { return strconv.FormatInt(created.UnixNano(), 36) }

// newEvent frames data. Lines of it end as they do in the format: in a line feed, a carriage return, or both.
func newEvent(id eventID, name string, data []byte) event {
	b := make([]byte, 0, len(data)+len(name)+64)
	if id.stream != "" {
		b = append(b, "id: "...)
		b = strconv.AppendUint(b, id.sequence, 10)
		b = append(b, '-')
		b = append(b, id.stream...)
		b = append(b, '\n')
	}
	if name != "" {
		b = append(b, "event: "...)
		b = append(b, name...)
		b = append(b, '\n')
	}
	for more := true; more; {
		line, rest := data, []byte(nil)
		i := bytes.IndexAny(data, "\r\n")
		if more = i >= 0; more {
			line, rest = data[:i], data[i+1:]
			if data[i] == '\r' && len(rest) > 0 && rest[0] == '\n' {
				rest = rest[1:]
			}
		}
		b = append(b, "data: "...)
		b = append(b, line...)
		b = append(b, '\n')
		data = rest
	}
	return event{id.sequence, append(b, '\n')}
}

// jsonEvent is an event of the gateway's own.
func jsonEvent(id eventID, name string, v any) event {
	data, err := json.Marshal(v)
	if err != nil { // structs of strings and numbers
		data = []byte("{}")
	}
	e := newEvent(id, name, data)
	e.sequence = 0 // nobody has heard it before
	return e
}

// resetEvent says that events may be missing: those of a stream between last and first, or some of a subject, which has no tag. Its id is the place before first, so that
// who connects again before another event came is not told once more.
func resetEvent(stream string, last, first uint64) event {
	return jsonEvent(eventID{max(first, 1) - 1, stream}, eventReset, struct {
		Last  uint64 `json:"last,omitempty"`
		First uint64 `json:"first,omitempty"`
	}{last, first})
}

// eventData is a payload as text: MessagePack becomes JSON, and what is no text base64.
func eventData(contentType string, data []byte) []byte {
	if contentType == typeMessagePack && len(data) > 0 {
		if text, err := transcode(typeMessagePack, typeJSON, data); err == nil {
			return text
		}
	}
	if isText(data) {
		return data
	}
	return base64.StdEncoding.AppendEncode(nil, data)
}

func isText(data []byte) bool { return utf8.Valid(data) && bytes.IndexByte(data, 0) < 0 }

// eventName is what naming, as in [Events], makes of a message. A header that is no name is none.
func eventName(naming, subject string, header nats.Header) string {
	if naming == eventNameSubject {
		return subject[strings.LastIndexByte(subject, '.')+1:]
	}
	name, ok := strings.CutPrefix(naming, eventNameHeader)
	if !ok {
		return ""
	}
	v := header.Get(name)
	if len(v) > maxEventName || !utf8.ValidString(v) || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return ""
	}
	return v
}

// resumption is what a client says of the last event that it has.
type resumption struct {
	eventID      // its stream is empty for that which is there now
	given   bool // the client says something
	known   bool // it may be an event of a stream
}

// lastEventID reads what a client says: an id, as newEvent writes it, or a sequence alone. What is neither was never an id of a stream.
func lastEventID(values []string) (r resumption, err error) {
	switch {
	case len(values) == 0 || len(values) == 1 && values[0] == "":
		return r, nil
	case len(values) > 1:
		return r, bus.Errorf(bus.InvalidArgument, "%s is there %d times: want it once", headerLastEventID, len(values)).With("field", headerLastEventID)
	}
	r.given = true
	sequence, stream, tagged := strings.Cut(values[0], "-")
	last, err := strconv.ParseUint(sequence, 10, 64)
	if err == nil && (!tagged || stream != "") {
		r.known, r.eventID = true, eventID{last, stream}
	}
	return r, nil
}

// acceptsEvents tells whether the answer may be a stream of events.
func acceptsEvents(values []string) bool {
	if len(values) == 0 {
		return true
	}
	for accept := range strings.SplitSeq(strings.Join(values, ","), ",") {
		media, params, _ := strings.Cut(accept, ";")
		switch strings.ToLower(strings.TrimSpace(media)) {
		case typeEvents, "text/*", "*/*":
			if q, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q="); ok {
				if v, err := strconv.ParseFloat(q, 64); err != nil || v <= 0 {
					continue
				}
			}
			return true
		}
	}
	return false
}
