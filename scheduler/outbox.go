package scheduler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const outboxLook = 250 * time.Millisecond // between looks for answers that will not come

// outbox publishes to streams and waits for nothing: who is waiting is told of each answer. nats.go's PublishMsgAsync does so too, at
// twice the price of creating a timer on this side.
type outbox struct {
	nc     *nats.Conn
	prefix string // of the subjects where answers come
	wait   time.Duration

	mu         sync.Mutex
	sub        *nats.Subscription // nil before the first message, and after close
	last       uint64             // number of a message
	oldest     uint64             // that may be under way
	underway   map[uint64]sending
	look       *time.Timer // nil while nothing is under way
	reconnects uint64      // of the connection, when it was last looked at
	closed     bool
}

// sending is a message under way.
type sending struct {
	to   waiter
	sent time.Time
}

// waiter is told once what came of a message, by a goroutine that it must not keep waiting.
type waiter interface {
	answered(seq uint64, err error)
}

func newOutbox(nc *nats.Conn, wait time.Duration) *outbox {
	return &outbox{nc: nc, prefix: nc.NewInbox() + ".", wait: wait, underway: map[uint64]sending{}, oldest: 1}
}

// send publishes msg, and to is told of the answer; unless it returns an error. Without a connection it takes nothing: nats.go would keep it, and send it
// when it is not wanted any more.
func (o *outbox) send(msg *nats.Msg, to waiter) error {
	if !o.nc.IsConnected() {
		return nats.ErrConnectionReconnecting
	}
	now := time.Now()
	o.mu.Lock()
	if err := o.openLocked(); err != nil {
		o.mu.Unlock()
		return err
	}
	o.last++
	id := o.last
	o.underway[id] = sending{to, now}
	if o.look == nil {
		o.look = time.AfterFunc(outboxLook, o.lookAround)
	}
	o.mu.Unlock()
	msg.Reply = o.prefix + strconv.FormatUint(id, 36)
	if err := o.nc.PublishMsg(msg); err != nil {
		if _, ok := o.take(id); ok {
			return err
		}
	}
	return nil
}

func (o *outbox) openLocked() error {
	if o.closed {
		return nats.ErrConnectionClosed
	}
	if o.sub != nil {
		return nil
	}
	sub, err := o.nc.Subscribe(o.prefix+"*", o.hear)
	if err == nil {
		o.sub, o.reconnects = sub, o.nc.Stats().Reconnects
	}
	return err
}

// take takes a message out, if it is under way.
func (o *outbox) take(id uint64) (sending, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s, ok := o.underway[id]
	delete(o.underway, id)
	return s, ok
}

// hear takes an answer.
func (o *outbox) hear(m *nats.Msg) {
	id, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, o.prefix), 36, 64)
	if err != nil {
		return
	}
	if s, ok := o.take(id); ok {
		s.to.answered(readAck(m))
	}
}

// lookAround gives up what was sent too long ago; all of it where the connection was lost meanwhile.
func (o *outbox) lookAround() {
	var lost []sending
	reconnects, now := o.nc.Stats().Reconnects, time.Now()
	o.mu.Lock()
	all := reconnects != o.reconnects || o.nc.IsClosed() || o.closed
	o.reconnects = reconnects
	for ; o.oldest <= o.last; o.oldest++ {
		s, ok := o.underway[o.oldest]
		if !ok {
			continue
		}
		if !all && now.Sub(s.sent) < o.wait {
			break
		}
		lost = append(lost, s)
		delete(o.underway, o.oldest)
	}
	switch {
	case len(o.underway) > 0:
		o.look.Reset(outboxLook)
	case o.look != nil:
		o.look.Stop()
		o.look = nil
	}
	o.mu.Unlock()
	for _, s := range lost {
		s.to.answered(0, jetstream.ErrAsyncPublishTimeout)
	}
}

// close gives up all that is under way.
func (o *outbox) close() {
	o.mu.Lock()
	sub := o.sub
	o.sub, o.closed = nil, true
	o.mu.Unlock()
	if sub != nil {
		_ = sub.Unsubscribe() // fails only when the connection is closed
	}
	o.lookAround()
}

// readAck is the answer of a stream to a message.
func readAck(m *nats.Msg) (seq uint64, err error) {
	if _, rest, ok := bytes.Cut(m.Data, []byte(`"seq":`)); ok && bytes.HasPrefix(m.Data, []byte(`{"stream":`)) {
		rest = bytes.TrimLeft(rest, " ")
		n := 0
		for ; n < len(rest) && n < 19 && rest[n] >= '0' && rest[n] <= '9'; n++ {
			seq = seq*10 + uint64(rest[n]-'0')
		}
		if n > 0 && n < len(rest) && rest[n] == '}' {
			return seq, nil
		}
	}
	if len(m.Data) == 0 {
		return 0, nats.ErrNoResponders
	}
	var a struct {
		Error  *jetstream.APIError `json:"error"`
		Stream string              `json:"stream"`
		Seq    uint64              `json:"seq"`
	}
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return 0, fmt.Errorf("scheduler: answer of a stream: %w", err)
	}
	switch {
	case a.Error != nil:
		return 0, a.Error
	case a.Stream == "":
		return 0, jetstream.ErrInvalidJSAck
	}
	return a.Seq, nil
}
