package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/jscode"
)

// storedMessage is a message as the leader of a stream gives it.
type storedMessage struct {
	Subject string    `json:"subject"`
	Seq     uint64    `json:"seq"`
	Header  []byte    `json:"hdrs"`
	Data    []byte    `json:"data"`
	Time    time.Time `json:"time"`
}

// header is what the message carries beside its data.
func (s *storedMessage) header() nats.Header {
	h, err := nats.DecodeHeadersMsg(s.Header)
	if err != nil {
		return nil // there is none
	}
	return h
}

// askLeader reads a message from the leader of a stream: other servers, who answer direct gets, may not have it yet. errNone means that there is
// none.
func (m *Mirror) askLeader(ctx context.Context, stream string, which map[string]any) (*storedMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	request, err := json.Marshal(which)
	if err != nil {
		return nil, err
	}
	reply, err := m.conn.Request(ctx, &nats.Msg{Subject: "$JS.API.STREAM.MSG.GET." + stream, Data: request})
	if err != nil {
		return nil, err
	}
	var response struct {
		Error   *jetstream.APIError `json:"error"`
		Message *storedMessage      `json:"message"`
	}
	switch err := json.Unmarshal(reply.Data, &response); {
	case err != nil:
		return nil, err
	case response.Error != nil && response.Error.ErrorCode == jscode.NoMessage:
		return nil, errNone
	case response.Error != nil:
		return nil, response.Error
	case response.Message == nil:
		return nil, errNone
	}
	return response.Message, nil
}

// isUnanswered tells whether an error may be over in a moment: a stream has no leader, or not yet.
func isUnanswered(err error) bool {
	code := bus.CodeOf(err)
	return code == bus.DeadlineExceeded || code == bus.Unavailable || jscode.Of(err) == jscode.NoLeader
}

// rawWrite is a message of the stream of writes.
func (m *Mirror) rawWrite(ctx context.Context, seq uint64) (*storedMessage, error) {
	return m.askWrite(ctx, map[string]any{"seq": seq})
}

// nextWrite is the first message of the mirror at or after a sequence.
func (m *Mirror) nextWrite(ctx context.Context, seq uint64) (*storedMessage, error) {
	return m.askWrite(ctx, map[string]any{"seq": seq, "next_by_subj": m.space.writes()})
}

func (m *Mirror) askWrite(ctx context.Context, which map[string]any) (*storedMessage, error) {
	msg, err := m.askLeader(ctx, streamWrites, which)
	if err != nil && !errors.Is(err, errNone) {
		return nil, fmt.Errorf("mirror: stored write: %w", err)
	}
	return msg, err
}
