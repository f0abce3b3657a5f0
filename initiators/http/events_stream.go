package http

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
)

const (
	maxCatchUps    = 64               // subscribers of a gateway that read what they missed by consumers of their own at a time
	catchUpSteps   = 8                // events that are fetched one by one before a consumer is made
	replayBytes    = 1 << 20          // that such a consumer asks for at a time
	replayIdle     = 30 * time.Second // after which the server forgets a consumer whose gateway is gone
	streamAttempt  = 2 * time.Second  // for one answer of the stream's leader
	streamAttempts = 3

	codeNoMessage jetstream.ErrorCode = 10037
)

// openStream follows a stream from now on.
func (t *topic) openStream(ctx context.Context) error {
	js := t.hub.conn.JetStream()
	state, err := t.hub.streamState(ctx, t.key.stream)
	if err != nil {
		return openError(t.key, err)
	}
	consumer, err := js.OrderedConsumer(ctx, t.key.stream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{t.key.subject}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: state.LastSeq + 1,
	})
	if err != nil {
		return openError(t.key, err)
	}
	consuming, err := consumer.Consume(t.hearStored, jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		t.hub.log.DebugContext(context.Background(), "events of a stream are late", "stream", t.key.stream, "error", err)
	}))
	if err != nil {
		return openError(t.key, err)
	}
	t.stop = func() {
		consuming.Stop()
		<-consuming.Closed()
	}
	return nil
}

// hearStored frames a message of a stream.
func (t *topic) hearStored(m jetstream.Msg) {
	if meta, err := m.Metadata(); err == nil { // else it is not from a consumer
		t.publish(t.frame(meta.Sequence.Stream, m.Subject(), m.Headers(), m.Data()))
	}
}

func (t *topic) frame(sequence uint64, subject string, header nats.Header, data []byte) event {
	return newEvent(sequence, eventName(t.key.naming, subject, header), eventData(header.Get(bus.HeaderContentType), data))
}

// streamState is what the stream's leader says of it.
func (h *eventHub) streamState(ctx context.Context, name string) (state jetstream.StreamState, err error) {
	err = h.conn.Permitted(ctx, bus.Access{Publish: []string{"$JS.API.STREAM.INFO." + name}}, func(ctx context.Context) error {
		stream, err := h.conn.JetStream().Stream(ctx, name)
		if err == nil {
			state = stream.CachedInfo().State
		}
		return err
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		err = bus.Wrap(bus.NotFound, "there is no stream "+name, err)
	}
	return state, err
}

// begin is the last event that a client has, by what it says or else by what the entry says. The frame, if there is one, tells it that some are missing.
func (h *eventHub) begin(ctx context.Context, src *eventSource, last uint64, resumes bool) (after uint64, reset *event, err error) {
	state, err := h.streamState(ctx, src.Stream)
	if err != nil {
		return 0, nil, err
	}
	first := max(state.FirstSeq, 1)
	switch {
	case !resumes && src.Start == eventStartAll:
		return first - 1, nil, nil
	case !resumes:
		return state.LastSeq, nil, nil
	case last > state.LastSeq, last+1 < first: // another stream of the same name, or what it kept is gone
		e := resetEvent(last, first)
		return first - 1, &e, nil
	}
	return last, nil, nil
}

// catchUp gives out what came after the sequence after, until s hears all that follows. That there is no more is what the stream's leader says: who
// says so was asked after the topic had begun, so what comes later the topic hears.
func (t *topic) catchUp(ctx context.Context, s *subscriber, after uint64, out func(event) error) error {
	for step := 1; ; step++ {
		e, found, err := t.next(ctx, after+1)
		if err != nil {
			return err
		}
		if !found {
			if t.attach(s, after) {
				return nil
			}
			continue
		}
		if err := out(e); err != nil {
			return err
		}
		after = e.sequence
		if step%catchUpSteps != 0 {
			continue
		}
		select {
		case t.hub.catchUps <- struct{}{}:
			after, err = t.replay(ctx, after, out)
			<-t.hub.catchUps
		default: // on, one by one
		}
		if err != nil {
			return err
		}
	}
}

// next is the first event at or after a sequence, as the stream's leader has it.
func (t *topic) next(ctx context.Context, from uint64) (e event, found bool, err error) {
	req, err := json.Marshal(struct {
		Seq  uint64 `json:"seq"`
		Next string `json:"next_by_subj"`
	}{from, t.key.subject})
	if err != nil {
		return e, false, err
	}
	for range streamAttempts {
		if e, found, err = t.ask(ctx, req); err == nil || ctx.Err() != nil {
			break
		}
	}
	return e, found, err
}

func (t *topic) ask(ctx context.Context, req []byte) (e event, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, streamAttempt)
	defer cancel()
	reply, err := t.hub.conn.Request(ctx, &nats.Msg{Subject: "$JS.API.STREAM.MSG.GET." + t.key.stream, Data: req})
	if err != nil {
		return e, false, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject string `json:"subject"`
			Seq     uint64 `json:"seq"`
			Header  []byte `json:"hdrs"`
			Data    []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return e, false, err
	}
	if answer.Error != nil {
		if answer.Error.ErrorCode == codeNoMessage {
			return e, false, nil
		}
		return e, false, answer.Error
	}
	m := answer.Message
	var header nats.Header
	if len(m.Header) > 0 {
		if header, err = nats.DecodeHeadersMsg(m.Header); err != nil {
			return e, false, err
		}
	}
	return t.frame(m.Seq, m.Subject, header, m.Data), true, nil
}

// replay gives out what came after the sequence after, by a consumer of its own, as far as that one sees.
func (t *topic) replay(ctx context.Context, after uint64, out func(event) error) (uint64, error) {
	consumer, err := t.hub.conn.JetStream().OrderedConsumer(ctx, t.key.stream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{t.key.subject}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
		InactiveThreshold: replayIdle,
	})
	if err != nil {
		return after, openError(t.key, err)
	}
	info := consumer.CachedInfo()
	if info == nil || info.NumPending == 0 {
		return after, nil
	}
	messages, err := consumer.Messages(jetstream.PullMaxBytes(replayBytes))
	if err != nil {
		return after, openError(t.key, err)
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return after, err
		}
		meta, err := m.Metadata()
		if err != nil {
			return after, err
		}
		if err := out(t.frame(meta.Sequence.Stream, m.Subject(), m.Headers(), m.Data())); err != nil {
			return after, err
		}
		after = meta.Sequence.Stream
		if meta.NumPending == 0 {
			return after, nil
		}
	}
}
