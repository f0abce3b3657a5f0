package mirror

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// write is a stored write.
type write struct {
	seq  uint64
	lane int
	at   time.Time // when it was stored
	size int
	body *spilled // where the body is, if not in the request
	request

	answerTo string // subject at which somebody waits for the answer, or nothing
	ack      Ack
	outcome  *outcome // nil where nobody waits
}

// message is what is stored. answerTo is empty where nobody waits for an answer.
func (r *request) message(subject, id, answerTo string, ack Ack, object string) *nats.Msg {
	h := nats.Header{headerMsgID: {id}}
	if answerTo != "" {
		h[headerAnswerTo], h[headerAck] = []string{answerTo}, []string{string(ack)}
	}
	if object != "" {
		h[headerObject] = []string{object}
	}
	return &nats.Msg{Subject: subject, Header: h, Data: r.encode()}
}

// decodeWrite reads a stored message. The write has no outcome yet.
func (m *Mirror) decodeWrite(subject string, seq uint64, at time.Time, h nats.Header, data []byte) (*write, error) {
	lane, ok := m.laneAt(subject)
	if !ok {
		return nil, fmt.Errorf("mirror: write %d at %q: no lane", seq, subject)
	}
	r, err := decodeRequest(data)
	if err != nil {
		return nil, fmt.Errorf("mirror: write %d at %q: %w", seq, subject, err)
	}
	w := &write{seq: seq, lane: lane, at: at, size: len(data) + 256, request: *r, answerTo: first(h, headerAnswerTo), ack: Ack(first(h, headerAck))}
	w.stamp()
	if object := first(h, headerObject); object != "" {
		w.body = parseSpilled(object)
	}
	return w, nil
}

// laneAt is the lane of what is stored at a subject. A process may have stored it that has not heard yet of the mirror of its name with fewer lanes: its client was
// told that the write is safe.
func (m *Mirror) laneAt(subject string) (lane int, ok bool) {
	lane, err := strconv.Atoi(lastToken(subject))
	if err != nil || lane < 0 || lane >= MaxLanes {
		return 0, false
	}
	return lane % m.cfg.Lanes, true
}

func (m *Mirror) readWrite(msg jetstream.Msg) (*write, *jetstream.MsgMetadata, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, nil, fmt.Errorf("mirror: %w", err)
	}
	w, err := m.decodeWrite(msg.Subject(), meta.Sequence.Stream, meta.Timestamp, msg.Headers(), msg.Data())
	return w, meta, err
}

func first(h nats.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// errEnded says that whoever sends has stopped, or is no longer the one who does.
var errEnded = errors.New("mirror: this process sends no more")
