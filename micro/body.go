package micro

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/stream"
)

// DefaultMaxBody is the largest request or response of a call, in bytes.
const DefaultMaxBody = 64 << 20

const (
	bodiesAtATime = 4 // of the largest size, that one side holds
	// offerAgain is when a caller is told once more of a response that waits for it. Callers look at the first reply only.
	offerAgain = 500 * time.Millisecond
)

// bodies are those that fit into no message. Who sends one offers it to be fetched and sends, in its place, the header
// [bus.HeaderBody]: so a call with large bodies is a call as any other, with its attempts, its deadline and its reply.
type bodies struct {
	conn *bus.Conn
	mux  *stream.Mux
	max  int
	held atomic.Int64
}

func newBodies(conn *bus.Conn, mux *stream.Mux, most int) (*bodies, error) {
	if most < 0 {
		return nil, bus.Errorf(bus.InvalidArgument, "MaxBody %d: want at least 0", most)
	}
	return &bodies{conn: conn, mux: mux, max: orDefault(most, DefaultMaxBody)}, nil
}

// hold counts n bytes as held until release is called, or refuses.
func (b *bodies) hold(what string, n int) (release func(), err error) {
	if n > b.max {
		err := bus.Errorf(bus.ResourceExhausted, "%s has %d bytes: want at most %d (MaxBody)", what, n, b.max)
		err.Status = http.StatusRequestEntityTooLarge
		return nil, err
	}
	if b.held.Add(int64(n)) > bodiesAtATime*int64(b.max) {
		b.held.Add(-int64(n))
		return nil, bus.Errorf(bus.ResourceExhausted, "%s has %d bytes: too many large ones are under way", what, n)
	}
	return func() { b.held.Add(-int64(n)) }, nil
}

// offer is the header that tells where data can be fetched, until ctx ends or withdraw is called.
func (b *bodies) offer(ctx context.Context, data []byte) (header []string, fetched <-chan struct{}, withdraw func(), err error) {
	subject, fetched, withdraw, err := b.mux.Offer(ctx, data)
	return []string{strconv.Itoa(len(data)) + " " + subject}, fetched, withdraw, err
}

// fetch gets the body that msg tells of. It is held until release is called.
func (b *bodies) fetch(ctx context.Context, what string, msg *nats.Msg) (release func(), err error) {
	size, subject, _ := strings.Cut(msg.Header[bus.HeaderBody][0], " ")
	n, err := strconv.Atoi(size)
	if err != nil || n < 0 {
		return nil, bus.Errorf(bus.InvalidArgument, "header %s %.80q: want a size and a subject", bus.HeaderBody, msg.Header[bus.HeaderBody][0])
	}
	release, err = b.hold(what, n)
	if err != nil {
		return nil, err
	}
	data, err := b.mux.Fetch(ctx, subject, n)
	if err != nil {
		release()
		e := bus.AsError(err)
		return nil, bus.Wrap(e.Code, what+" could not be fetched: "+e.Message, err)
	}
	msg.Data = data
	delete(msg.Header, bus.HeaderBody)
	return release, nil
}

// exchange is one request and its answer, of whatever sizes unless the service is foreign.
func (c *Client) exchange(ctx context.Context, msg *nats.Msg, foreign bool) (*nats.Msg, error) {
	answer, err := c.conn.Request(ctx, msg)
	if !foreign && errors.Is(err, nats.ErrMaxPayload) {
		answer, err = c.exchangeLarge(ctx, msg)
	}
	return c.collect(ctx, answer, err)
}

// collect fetches the body of an answer that came without it; other answers and their errors it returns as they are.
func (c *Client) collect(ctx context.Context, answer *nats.Msg, err error) (*nats.Msg, error) {
	if answer == nil || len(answer.Header[bus.HeaderBody]) == 0 {
		return answer, err
	}
	for _, name := range [...]string{bus.HeaderServiceError, bus.HeaderServiceErrorCode, bus.HeaderErrorCode} {
		delete(answer.Header, name) // for who cannot fetch
	}
	_, offered, _ := strings.Cut(answer.Header[bus.HeaderBody][0], " ")
	release, err := c.bodies.fetch(ctx, "the response", answer)
	if err != nil {
		c.mux.Decline(offered)
		return answer, err
	}
	release() // the caller's from here
	return answer, nil
}

func (c *Client) exchangeLarge(ctx context.Context, msg *nats.Msg) (*nats.Msg, error) {
	msg, withdraw, err := c.offered(ctx, msg)
	if err != nil {
		return nil, err
	}
	defer withdraw()
	return c.conn.Request(ctx, msg)
}

// offered is msg without its body, which can be fetched until withdraw is called.
func (c *Client) offered(ctx context.Context, msg *nats.Msg) (asked *nats.Msg, withdraw func(), err error) {
	release, err := c.bodies.hold("the request", len(msg.Data))
	if err != nil {
		return nil, nil, err
	}
	header, _, end, err := c.bodies.offer(ctx, msg.Data)
	if err != nil {
		release()
		return nil, nil, err
	}
	asked = &nats.Msg{Subject: msg.Subject, Reply: msg.Reply, Header: maps.Clone(msg.Header)}
	asked.Header[bus.HeaderBody] = header
	return asked, func() {
		end()
		release()
	}, nil
}

// bodiless tells whether the body of a request is to be fetched.
func bodiless(msg *nats.Msg) bool { return len(msg.Header[bus.HeaderBody]) > 0 }

// fetchBody gets the body of a request that came without it, and takes the time that needs off the request's. An error is
// for the caller.
func (s *Service) fetchBody(ctx context.Context, msg *nats.Msg) (release func(), err error) {
	env, err := bus.ReadEnvelope(msg.Header)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, orDefault(env.Timeout, s.cfg.Timeout))
	defer cancel()
	release, err = s.bodies.fetch(ctx, "the request", msg)
	if deadline, ok := ctx.Deadline(); ok && env.Timeout > 0 {
		left := bus.Envelope{Timeout: max(time.Millisecond, time.Until(deadline))}
		msg.Header[bus.HeaderTimeout] = left.Header()[bus.HeaderTimeout]
	}
	return release, err
}

// offerReply sends a reply that is too large for a message, and returns when it was fetched or nobody waits for it any longer.
// Callers that do not look for it see an error. It does nothing for those who are no skybus clients.
func (s *Service) offerReply(msg, reply *nats.Msg, tooLarge error) (sent bool, err error) {
	env, err := bus.ReadEnvelope(msg.Header)
	if err != nil || env.RequestID == "" || !errors.Is(tooLarge, nats.ErrMaxPayload) {
		return false, nil
	}
	release, err := s.bodies.hold("the response", len(reply.Data))
	if err != nil {
		return false, err
	}
	defer release()
	wait := min(orDefault(env.Timeout, s.cfg.Timeout), s.mux.FetchTime(len(reply.Data))) // who fetches does it at once
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	header, fetched, withdraw, err := s.bodies.offer(ctx, reply.Data)
	if err != nil {
		return false, err
	}
	defer withdraw()
	told := bus.NewErrorReply(bus.Raw{}, tooLarge)
	maps.Copy(told.Header, reply.Header)
	told.Header[bus.HeaderBody] = header
	_, told.Reply, _ = strings.Cut(header[0], " ") // where the server tells when the caller is gone
	if err := s.send(msg, told); err != nil {
		return false, err
	}
	again := time.NewTicker(offerAgain)
	defer again.Stop()
	for {
		select {
		case <-fetched:
			return true, nil
		case <-s.bodies.mux.Done():
			return true, nil
		case <-again.C:
			_ = s.send(msg, told) // a caller who was going when it was told is gone by now, and the server says so
		case <-ctx.Done():
			return true, bus.Errorf(bus.DeadlineExceeded, "the response of %d bytes was not fetched in time", len(reply.Data))
		}
	}
}
