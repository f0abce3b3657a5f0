package http

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/jscode"
)

const (
	maxCatchUps    = 64               // subscribers of a gateway that read what they missed by consumers of their own at a time
	catchUpSteps   = 8                // events that are fetched one by one before a consumer is made
	replayBytes    = 1 << 20          // that such a consumer asks for at a time
	consumerIdle   = 30 * time.Second // after which the server forgets a consumer whose gateway is gone
	dropTimeout    = time.Second      // for the server to forget one that is not needed any more
	streamAttempt  = 2 * time.Second  // for one answer of the stream's leader
	streamAttempts = 3
)

// streamInfo is what the stream's leader says of it.
type streamInfo struct {
	first, last uint64
	created     time.Time // tells it from others of the same name
}

// streamState asks the stream's leader.
func (h *eventHub) streamState(ctx context.Context, name string) (is streamInfo, err error) {
	err = h.conn.Permitted(ctx, bus.Access{Publish: []string{"$JS.API.STREAM.INFO." + name}}, func(ctx context.Context) error {
		stream, err := h.conn.JetStream().Stream(ctx, name)
		if err == nil {
			info := stream.CachedInfo()
			is = streamInfo{max(info.State.FirstSeq, 1), info.State.LastSeq, info.Created}
		}
		return err
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		err = bus.Wrap(bus.NotFound, "there is no stream "+name, err)
	}
	return is, err
}

// openStream follows a stream from now on.
func (t *topic) openStream(ctx context.Context) error {
	is, err := t.hub.streamState(ctx, t.key.stream)
	if err != nil {
		return openError(t.key, err)
	}
	return t.follow(ctx, is, is.last+1)
}

// follow begins an epoch: that of the stream that is there now, from a sequence on. Those who heard another one before are told, and know
// nothing of the new one.
func (t *topic) follow(ctx context.Context, is streamInfo, from uint64) error {
	consumer, err := t.hub.conn.JetStream().OrderedConsumer(ctx, t.key.stream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{t.key.subject}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from, InactiveThreshold: consumerIdle,
	})
	if err != nil {
		return openError(t.key, err)
	}
	t.mu.Lock()
	epoch := t.epoch + 1
	t.mu.Unlock()
	begun := make(chan struct{})
	of := place{epoch: epoch, stream: streamTag(is.created)}
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		<-begun
		t.hearStored(m, of)
	}, jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		t.hub.log.DebugContext(context.Background(), "events of a stream are late", "stream", t.key.stream, "error", err)
	}))
	if err != nil {
		t.hub.drop(t.key.stream, consumer)
		return openError(t.key, err)
	}
	before := t.begin(epoch, is, func() {
		consuming.Stop()
		select {
		case <-consuming.Closed():
		case <-time.After(dropTimeout): // nats.go does not say so of each consumer whose stream or connection has gone
		}
		t.hub.drop(t.key.stream, consumer)
	})
	close(begun)
	t.stopping.Go(before) // it may take its time: the stream of it is gone
	return nil
}

// begin makes epoch the present one, and returns what ends the one before.
func (t *topic) begin(epoch int, is streamInfo, stop func()) (stopBefore func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	stopBefore = t.stop
	if epoch > 1 {
		t.hub.stats.resets.Add(uint64(len(t.subscribers)))
		for s := range t.subscribers {
			s.begin(0)
		}
		t.publishLocked(resetEvent(streamTag(is.created), t.last, is.first))
	}
	t.stop, t.epoch, t.created, t.last = stop, epoch, is.created, 0
	return stopBefore
}

// epochOf is the epoch of a stream, if it is the one that is followed.
func (t *topic) epochOf(is streamInfo) (epoch int, same bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.epoch, t.created.Equal(is.created)
}

// keepUp follows the stream that is there now from its beginning, if that is another one than the one that is followed.
func (t *topic) keepUp(ctx context.Context) error {
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-t.gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, topicTimeout)
	defer cancel()
	is, err := t.hub.streamState(ctx, t.key.stream)
	if err != nil {
		return err
	}
	if _, same := t.epochOf(is); same { // somebody else was faster
		return nil
	}
	return t.follow(ctx, is, 1)
}

// drop has the server forget a consumer at once; otherwise it does after consumerIdle. What ends a consumer in nats.go leaves it there.
func (h *eventHub) drop(stream string, consumer jetstream.Consumer) {
	info := consumer.CachedInfo()
	if info == nil || !h.conn.NATS().IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
	defer cancel()
	_ = h.conn.Permitted(ctx, bus.Access{Publish: []string{"$JS.API.CONSUMER.DELETE." + stream + "." + info.Name}}, func(ctx context.Context) error {
		return h.conn.JetStream().DeleteConsumer(ctx, stream, info.Name)
	})
}

// hearStored frames a message of a stream.
func (t *topic) hearStored(m jetstream.Msg, of place) {
	meta, err := m.Metadata()
	if err != nil { // it is not from a consumer
		return
	}
	e := t.frame(eventID{meta.Sequence.Stream, of.stream}, m.Subject(), m.Headers(), m.Data())
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.epoch == of.epoch {
		t.publishLocked(e)
	}
}

func (t *topic) frame(id eventID, subject string, header nats.Header, data []byte) event {
	return newEvent(id, eventName(t.key.naming, subject, header), eventData(header.Get(bus.HeaderContentType), data))
}

// place is where a client is in a stream.
type place struct {
	after  uint64 // the last event that it has
	epoch  int
	stream string // see streamTag
}

// begins is where a client begins, by what it says of its last event, or else by what the entry says. The frame, if there is one, tells it that events
// are missing.
func (t *topic) begins(ctx context.Context, src *eventSource, r resumption) (at place, reset *event, err error) {
	for {
		is, err := t.hub.streamState(ctx, t.key.stream)
		if err != nil {
			return at, nil, err
		}
		epoch, same := t.epochOf(is)
		if !same { // the stream was made anew a moment ago
			if err := t.keepUp(ctx); err != nil {
				return at, nil, err
			}
			continue
		}
		at, reset = is.begins(src, r)
		at.epoch = epoch
		return at, reset, nil
	}
}

// begins is where in a stream a client begins. Who was at a place that is not of this stream, or not kept any more, is told so: of another stream of its name, and
// of what is gone, it hears all that is kept; an id that is none of a stream's counts as none.
func (is streamInfo) begins(src *eventSource, r resumption) (at place, reset *event) {
	at = place{after: is.last, stream: streamTag(is.created)}
	switch {
	case !r.known:
		if src.Start == eventStartAll {
			at.after = is.first - 1
		}
		if !r.given {
			return at, nil
		}
	case r.stream != "" && r.stream != at.stream, r.sequence > is.last, r.sequence+1 < is.first:
		at.after = is.first - 1
	default:
		at.after = r.sequence
		return at, nil
	}
	e := resetEvent(at.stream, r.sequence, at.after+1)
	return at, &e
}

// catchUp gives out what came after a place, until s hears all that follows. That there is no more is what the stream's leader says: who
// says so was asked after the topic had begun, so what comes later the topic hears.
func (t *topic) catchUp(ctx context.Context, s *subscriber, at place, out func(event) error) error {
	for step := 1; ; step++ {
		heard := t.heard(at)
		e, found, err := t.next(ctx, at)
		if err != nil {
			return err
		}
		if !found {
			at.after = max(at.after, heard) // what the topic gave out until then was removed, if there was something
			attached, renewed := t.attach(s, at)
			switch {
			case attached:
				return nil
			case renewed:
				if at, err = t.restart(at, out); err != nil {
					return err
				}
			}
			continue
		}
		if err := out(e); err != nil {
			return err
		}
		at.after = e.sequence
		if step%catchUpSteps != 0 {
			continue
		}
		select {
		case t.hub.catchUps <- struct{}{}:
			at.after, err = t.replay(ctx, at, out)
			<-t.hub.catchUps
		default: // on, one by one
		}
		if err != nil {
			return err
		}
	}
}

// restart tells a client that what it was catching up with is another stream now, and is the place where that begins.
func (t *topic) restart(at place, out func(event) error) (place, error) {
	t.mu.Lock()
	now := place{epoch: t.epoch, stream: streamTag(t.created)}
	t.mu.Unlock()
	t.hub.stats.resets.Add(1)
	return now, out(resetEvent(now.stream, at.after, 1))
}

// next is the first event after a place, as the stream's leader has it.
func (t *topic) next(ctx context.Context, at place) (e event, found bool, err error) {
	req, err := json.Marshal(struct {
		Seq  uint64 `json:"seq"`
		Next string `json:"next_by_subj"`
	}{at.after + 1, t.key.subject})
	if err != nil {
		return e, false, err
	}
	for range streamAttempts {
		if e, found, err = t.ask(ctx, req, at.stream); err == nil || ctx.Err() != nil {
			break
		}
	}
	return e, found, err
}

func (t *topic) ask(ctx context.Context, req []byte, stream string) (e event, found bool, err error) {
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
		if answer.Error.ErrorCode == jscode.NoMessage {
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
	return t.frame(eventID{m.Seq, stream}, m.Subject, header, m.Data), true, nil
}

// nextOf is the next message of a consumer, or nil: those that were pending may have been removed, of which nothing tells.
func nextOf(ctx context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	wait, cancel := context.WithTimeout(ctx, streamAttempt)
	defer cancel()
	m, err := messages.Next(jetstream.NextContext(wait))
	if err != nil && wait.Err() != nil {
		return nil, ctx.Err()
	}
	return m, err
}

// replay gives out what came after a place, by a consumer of its own, as far as that one sees, and returns the last sequence of it.
func (t *topic) replay(ctx context.Context, at place, out func(event) error) (uint64, error) {
	after := at.after
	consumer, err := t.hub.conn.JetStream().OrderedConsumer(ctx, t.key.stream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{t.key.subject}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
		InactiveThreshold: consumerIdle, MaxResetAttempts: 1, // else it waits for a stream that is gone, whatever ctx says
	})
	if err != nil {
		return after, openError(t.key, err)
	}
	defer t.hub.drop(t.key.stream, consumer)
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
		m, err := nextOf(ctx, messages)
		if m == nil {
			return after, err
		}
		meta, err := m.Metadata()
		if err != nil {
			return after, err
		}
		if err := out(t.frame(eventID{meta.Sequence.Stream, at.stream}, m.Subject(), m.Headers(), m.Data())); err != nil {
			return after, err
		}
		after = meta.Sequence.Stream
		if meta.NumPending == 0 {
			return after, nil
		}
	}
}
