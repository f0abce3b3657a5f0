package mirror

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// waiters are the clients of this process that wait for an answer. Other processes that send tell it at a subject of an inbox.
type waiters struct {
	inbox string // its subjects are those of this process

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan *answer
	closed  bool
}

func (m *Mirror) openWaiters() (*nats.Subscription, error) {
	m.waiters.inbox = m.conn.NATS().NewInbox() + "."
	m.waiters.waiting = map[uint64]chan *answer{}
	sub, err := m.conn.NATS().Subscribe(m.waiters.inbox+"*", func(msg *nats.Msg) {
		if a, err := decodeAnswer(msg.Data); err == nil {
			m.waiters.tell(msg.Subject, a)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	return sub, nil
}

// add is a new waiter: where it is told, and how. leave must be called at the end.
func (w *waiters) add() (subject string, answers <-chan *answer, leave func()) {
	ch := make(chan *answer, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next++
	id := w.next
	if w.closed {
		close(ch)
		return w.inbox + "0", ch, func() {}
	}
	w.waiting[id] = ch
	return w.inbox + strconv.FormatUint(id, 10), ch, func() {
		w.mu.Lock()
		delete(w.waiting, id)
		w.mu.Unlock()
	}
}

// tell answers a waiter of this process, and tells whether the subject is one's.
func (w *waiters) tell(subject string, a *answer) bool {
	text, mine := strings.CutPrefix(subject, w.inbox)
	if !mine {
		return false
	}
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if ch, ok := w.waiting[id]; ok {
		select {
		case ch <- a:
		default: // it was told already
		}
	}
	return true
}

func (w *waiters) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for id, ch := range w.waiting {
		close(ch)
		delete(w.waiting, id)
	}
}

// encode is the answer as another process hears it, the text of an HTTP/1.1 response after the name of the backend.
func (a *answer) encode() []byte {
	b := make([]byte, 0, len(a.body)+512)
	b = append(append(b, a.backend...), ' ')
	b = strconv.AppendInt(b, int64(a.status), 10)
	if a.tooLarge {
		b = append(b, " too-large"...)
	}
	b = append(b, '\r', '\n')
	for _, f := range a.fields {
		b = append(append(append(append(append(b, f.Name...), ':', ' '), f.Value...), '\r'), '\n')
	}
	return append(append(b, '\r', '\n'), a.body...)
}

func decodeAnswer(data []byte) (*answer, error) {
	head, body, ok := strings.Cut(string(data), "\r\n\r\n")
	line, text := cutLine(head)
	backend, status, found := strings.Cut(line, " ")
	if !ok || !found {
		return nil, errNoAnswer
	}
	status, large, _ := strings.Cut(status, " ")
	n, err := strconv.Atoi(status)
	if err != nil || n != 0 && n < 100 || n > 999 {
		return nil, errNoAnswer
	}
	a := &answer{backend: backend, status: n, body: []byte(body), tooLarge: large != ""}
	for text != "" {
		line, text = cutLine(text)
		name, value, ok := strings.Cut(line, ": ")
		if !ok || !isToken(name) || !isLine(value) {
			return nil, errNoAnswer
		}
		a.fields = append(a.fields, field{Name: name, Value: value})
	}
	return a, nil
}

var errNoAnswer = fmt.Errorf("mirror: the message is no answer of a backend")
