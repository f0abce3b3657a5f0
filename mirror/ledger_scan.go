package mirror

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
)

const (
	scanChunks = 512 // of one answer
	scanBytes  = 4 << 20
)

// eachChunk calls f with the chunks of a backend at or after a sequence of the ledger, in order, until it returns false. Most come from any of the
// servers, many at a time, since there is one for each few writes; those that it may not have yet come from the leader.
func (m *Mirror) eachChunk(ctx context.Context, backend string, at uint64, f func(*chunk) bool) error {
	for {
		next, more, err := m.scanSome(ctx, backend, at, f)
		if err != nil {
			return fmt.Errorf("mirror: ledger of %q: %w", backend, err)
		}
		if !more {
			return nil
		}
		if next > at {
			at = next
			continue
		}
		c, seq, err := m.chunkAt(ctx, backend, at, true)
		if err != nil || c == nil || !f(c) {
			return err
		}
		at = seq + 1
	}
}

// scanSome asks one of the servers, and returns where to go on and whether f wants more.
func (m *Mirror) scanSome(ctx context.Context, backend string, at uint64, f func(*chunk) bool) (next uint64, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	request, err := json.Marshal(map[string]any{"seq": at, "next_by_subj": m.space.ledger(backend), "batch": scanChunks, "max_bytes": scanBytes})
	if err != nil {
		return at, false, err
	}
	subject := "$JS.API.DIRECT.GET." + streamLedger
	more = true
	err = m.conn.Permitted(ctx, bus.Access{Publish: []string{subject}}, func(ctx context.Context) error {
		at, more, err = m.readScan(ctx, &nats.Msg{Subject: subject, Data: request}, at, f)
		return err
	})
	return at, more, err
}

func (m *Mirror) readScan(ctx context.Context, request *nats.Msg, at uint64, f func(*chunk) bool) (next uint64, more bool, err error) {
	nc := m.conn.NATS()
	answers := make(chan *nats.Msg, scanChunks+1) // room for all: none is dropped
	request.Reply = nc.NewInbox()
	sub, err := nc.ChanSubscribe(request.Reply, answers)
	if err != nil {
		return at, true, err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is closed
	if err := nc.PublishMsg(request); err != nil {
		return at, true, err
	}
	for {
		var msg *nats.Msg
		select {
		case msg = <-answers:
		case <-ctx.Done():
			return at, true, context.Cause(ctx)
		}
		text := first(msg.Header, jetstream.SequenceHeader)
		if text == "" { // all stored messages have one
			return at, true, scanEnd(first(msg.Header, "Status"))
		}
		seq, err := parseUint(text)
		if err != nil {
			return at, true, err
		}
		c, err := decodeChunk(msg.Data, true)
		if err != nil {
			c = &chunk{} // not ours
		}
		if at = seq + 1; !f(c) {
			return at, false, nil
		}
	}
}

// scanEnd is the error that the last message of an answer stands for.
func scanEnd(status string) error {
	switch status {
	case "204", "404": // there are no more, or there is none
		return nil
	case "503":
		return nats.ErrNoResponders
	}
	return fmt.Errorf("direct get: status %q", status)
}
