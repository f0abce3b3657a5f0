package micro

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"
)

// Serial makes the endpoint handle one request at a time, in the order in which they arrive at the instance. Those that wait
// count for the endpoint's [Concurrency], above which requests are refused; one whose deadline passes before its turn is answered
// with deadline_exceeded and is not handled. A handler that does not heed the end of its ctx keeps the others waiting. The
// order is one of each instance and of each subject: a service's requests come by its name, by its version and by the
// instance's name, and each of these keeps its order.
func Serial() EndpointOption {
	return endpointOption(func(e *endpoint) { e.serial = &serial{lanes: map[string][]*turn{}} })
}

// SerialBy is [Serial] for the requests that key says the same of; those of different keys are handled concurrently. Req is
// the type the handler takes, or any; key is called with each request before its turn, must be quick, and must not change it.
// Requests are decoded one after the other.
func SerialBy[Req any](key func(req Req) string) EndpointOption {
	return endpointOption(func(e *endpoint) {
		e.serial = &serial{
			lanes: map[string][]*turn{},
			of:    reflect.TypeFor[Req](),
			key: func(request any) string {
				req, _ := request.(Req) // a nil any is one
				return key(req)
			},
		}
	})
}

// serial is the queues of an endpoint, by key. The first of each has its turn.
type serial struct {
	of  reflect.Type         // what key takes; nil where there is no key
	key func(req any) string // nil where there is one queue

	mu    sync.Mutex
	lanes map[string][]*turn
}

func (q *serial) check(request requestType) error {
	if q.of == nil || request.AssignableTo(q.of) {
		return nil
	}
	return fmt.Errorf("SerialBy takes a %s, the handler a %s", q.of, request.Type)
}

// turn is a place in a queue.
type turn struct {
	queue *serial
	key   string
	come  chan struct{} // closed when it has come
}

func (q *serial) enter(key string) *turn {
	t := &turn{queue: q, key: key, come: make(chan struct{})}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lanes[key]) == 0 {
		close(t.come)
	}
	q.lanes[key] = append(q.lanes[key], t)
	return t
}

// wait returns when the turn has come, or with an error when ctx ends first.
func (t *turn) wait(ctx context.Context) error {
	select {
	case <-t.come:
		return ctx.Err() // both may be so
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leave gives up the place, and the turn to the next.
func (t *turn) leave() {
	q := t.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	lane := q.lanes[t.key]
	i := slices.Index(lane, t)
	lane = slices.Delete(lane, i, i+1)
	q.lanes[t.key] = lane
	switch {
	case len(lane) == 0:
		delete(q.lanes, t.key)
	case i == 0:
		close(lane[0].come)
	}
}

// queue gives a message its place in the order of a serial endpoint.
func (s *Service) queue(ep *endpoint, msg *nats.Msg) (in *inbound) {
	in = s.read(ep, msg)
	if in.err != nil {
		return in
	}
	defer func() {
		if p := recover(); p != nil {
			in.err = s.panicked(context.Background(), in, p)
		}
	}()
	key := ""
	if ep.serial.key != nil {
		if in.request, in.err = ep.request.decode(in); in.err != nil {
			return in
		}
		key = ep.serial.key(ep.request.show(in.request))
	}
	in.turn = ep.serial.enter(key)
	return in
}
