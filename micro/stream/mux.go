package stream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// Defaults of a [Mux].
const (
	DefaultWindow       = 256
	DefaultWindowBytes  = 1 << 20
	DefaultMaxMessage   = 4 << 20
	DefaultMaxStreams   = 1024
	DefaultPingInterval = 5 * time.Second
	DefaultDeadAfter    = 15 * time.Second
)

const (
	maxWindow      = 1 << 20
	minWindowBytes = 1 << 10
	maxWindowBytes = 1 << 30
	minPing        = 10 * time.Millisecond
)

// Config adjusts a [Mux]. The zero value works.
type Config struct {
	// Window and WindowBytes are how much a peer may send that is not read yet: frames (a message, or a piece of a large
	// one) and bytes. The last frame may begin below and end above WindowBytes. 0 means 256 and 1 MiB.
	Window      int
	WindowBytes int
	// MaxMessage is the largest message that Recv puts together, in bytes. 0 means 4 MiB.
	MaxMessage int
	// MaxStreams is how many streams may be open at a time, both ways together. 0 means 1,024.
	MaxStreams int
	// PingInterval is how long a peer may be silent before it is asked whether it lives, DeadAfter when it counts as dead.
	// 0 means 5 s and 15 s.
	PingInterval time.Duration
	DeadAfter    time.Duration
	// Logger hears of frames that do not belong to a stream, at Debug. Nil means the connection's.
	Logger *slog.Logger
}

func (c *Config) check() error {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.Window, DefaultWindow)
	def(&c.WindowBytes, DefaultWindowBytes)
	def(&c.MaxMessage, DefaultMaxMessage)
	def(&c.MaxStreams, DefaultMaxStreams)
	if c.PingInterval == 0 {
		c.PingInterval = DefaultPingInterval
	}
	if c.DeadAfter == 0 {
		c.DeadAfter = max(DefaultDeadAfter, 3*c.PingInterval)
	}
	switch {
	case c.Window < 1 || c.Window > maxWindow:
		return bus.Errorf(bus.InvalidArgument, "stream: Window %d: want 1 to %d", c.Window, maxWindow)
	case c.WindowBytes < minWindowBytes || c.WindowBytes > maxWindowBytes:
		return bus.Errorf(bus.InvalidArgument, "stream: WindowBytes %d: want %d to %d", c.WindowBytes, minWindowBytes, maxWindowBytes)
	case c.MaxMessage < 1:
		return bus.Errorf(bus.InvalidArgument, "stream: MaxMessage %d: want at least 1", c.MaxMessage)
	case c.MaxStreams < 1:
		return bus.Errorf(bus.InvalidArgument, "stream: MaxStreams %d: want at least 1", c.MaxStreams)
	case c.PingInterval < minPing || c.DeadAfter <= c.PingInterval:
		return bus.Errorf(bus.InvalidArgument, "stream: PingInterval %v, DeadAfter %v: want at least %v, and the second longer", c.PingInterval, c.DeadAfter, minPing)
	}
	return nil
}

// Stats are figures of a [Mux].
type Stats struct {
	Open    int    // streams now
	Stray   uint64 // frames of no open stream: mostly of streams that ended a moment before
	Foreign uint64 // frames that did not come from the stream's peer
}

// Mux has the streams of one connection: all of them are received through one subscription. It is safe for concurrent use.
type Mux struct {
	conn *bus.Conn
	cfg  Config
	log  *slog.Logger

	stray, foreign atomic.Uint64
	running        sync.WaitGroup // the watch, and what ends streams whose ctx ended

	mu      sync.Mutex
	prefix  string // of our receive subjects; empty before the first stream
	sub     *nats.Subscription
	stop    chan struct{} // ends the watch
	streams map[string]*Stream
	offers  map[string]*offer
	closed  bool
}

// New makes a Mux, which costs nothing until its first stream.
func New(conn *bus.Conn, cfg Config) (*Mux, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = conn.Logger()
	}
	return &Mux{
		conn:    conn,
		cfg:     cfg,
		log:     cfg.Logger.With("component", "stream"),
		stop:    make(chan struct{}),
		streams: map[string]*Stream{},
		offers:  map[string]*offer{},
	}, nil
}

// Stats are the figures now.
func (m *Mux) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Stats{Open: len(m.streams), Stray: m.stray.Load(), Foreign: m.foreign.Load()}
}

// Close ends all streams with the code unavailable, tells their peers, and returns when nothing of the Mux runs any more. No
// stream can be opened or accepted after it. Further calls do nothing.
func (m *Mux) Close() error {
	m.mu.Lock()
	first := !m.closed
	m.closed = true
	sub, open := m.sub, m.allLocked()
	m.mu.Unlock()
	if first {
		for _, s := range open {
			s.Cancel(bus.Errorf(bus.Unavailable, "stream: the other side stopped"))
		}
		if sub != nil {
			_ = sub.Unsubscribe() // fails when the connection is closed, and the subscription with it
		}
		close(m.stop)
	}
	m.running.Wait()
	return nil
}

// Done is closed by [Mux.Close].
func (m *Mux) Done() <-chan struct{} { return m.stop }

func (m *Mux) allLocked() []*Stream {
	all := make([]*Stream, 0, len(m.streams))
	for _, s := range m.streams {
		all = append(all, s)
	}
	return all
}

func (m *Mux) all() []*Stream {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.allLocked()
}

// add gives s a receive subject of its own.
func (m *Mux) add(s *Stream) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.streams) >= m.cfg.MaxStreams {
		return bus.Errorf(bus.ResourceExhausted, "stream: %d streams are open, the most that may be (MaxStreams)", len(m.streams))
	}
	if err := m.readyLocked(); err != nil {
		return err
	}
	// Who has a stream with us knows the prefix, and must not guess the subjects of others.
	s.token = rand.Text()
	s.subject = m.prefix + s.token
	m.streams[s.token] = s
	m.running.Add(1)
	return nil
}

// readyLocked makes sure that there is a subscription.
func (m *Mux) readyLocked() error {
	if m.closed {
		return bus.Errorf(bus.Unavailable, "stream: closed here")
	}
	if m.sub != nil {
		return nil
	}
	nc := m.conn.NATS()
	prefix := nc.NewInbox() + "."
	sub, err := nc.Subscribe(prefix+"*", m.receive)
	if err != nil {
		return bus.Wrap(bus.Unavailable, fmt.Sprintf("stream: subscribe %s*: %v", prefix, err), err)
	}
	m.prefix, m.sub = prefix, sub
	m.running.Go(m.watch)
	return nil
}

func (m *Mux) remove(s *Stream) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.streams, s.token)
}

// receive hands a frame to its stream. It is called in the goroutine of the subscription, one frame at a time, and never
// waits for a reader: what a peer may send has room.
func (m *Mux) receive(msg *nats.Msg) {
	token := msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]
	m.mu.Lock()
	s := m.streams[token]
	if o := m.offers[token]; o != nil {
		m.serveLocked(o, msg)
		m.mu.Unlock()
		return
	}
	m.mu.Unlock()
	if s == nil {
		m.stray.Add(1)
		m.refuse(msg)
		return
	}
	s.receive(msg)
}

// refuse tells the sender of a frame that there is no such stream, so that it need not find out by waiting. It tells so only
// who sends what a living stream sends, and never of a frame that is itself such an answer.
func (m *Mux) refuse(msg *nats.Msg) {
	f, err := parseFrame(first(msg.Header, bus.HeaderStream))
	if err != nil || m.conn.CheckRequest(msg) != "" {
		return
	}
	switch f.kind {
	case kindOpen, kindAccept, kindPart, kindData, kindPing:
		m.log.Debug("frame of an unknown stream", "subject", msg.Subject, "kind", string(f.kind))
		m.tell(msg.Reply, bus.Errorf(bus.Canceled, "stream: the other side has ended it"))
	case kindHead, kindEnd, kindDone, kindCredit, kindCancel, kindPong:
	}
}

// tell sends the end of a stream that is not, or never was.
func (m *Mux) tell(peer string, err error) {
	msg := bus.NewErrorReply(bus.JSON{}, err)
	msg.Subject = peer
	msg.Header[bus.HeaderStream] = []string{frame{kind: kindCancel}.String()}
	_ = m.conn.Publish(msg) // its pings find out otherwise
}

// watch ends streams whose peer is silent, and when the connection was lost those of before: what was sent meanwhile is lost too.
func (m *Mux) watch() {
	lost := make(chan struct{}, 1)
	defer m.conn.NotifyLoss(lost)()
	nc := m.conn.NATS()
	reconnects := nc.Stats().Reconnects
	tick := time.NewTicker(m.cfg.PingInterval / 2)
	defer tick.Stop()
	for {
		select {
		case <-m.stop:
			return
		case <-m.conn.Closed():
			m.failBefore(math.MaxUint64, bus.Errorf(bus.Unavailable, "stream: the connection was closed"))
			return
		case <-lost:
			// A slow subscription elsewhere is told of too. If ours was it, the numbers of the frames show it.
			if now := nc.Stats().Reconnects; now != reconnects {
				reconnects = now
				m.failBefore(now, bus.Errorf(bus.Unavailable, "stream: the connection was lost"))
			}
		case <-tick.C:
			for _, s := range m.all() {
				s.keepAlive(m.cfg.PingInterval, m.cfg.DeadAfter)
			}
		}
	}
}

// failBefore ends the streams of connections before that of so many reconnects: what waited for the connection may be open on it already.
func (m *Mux) failBefore(reconnects uint64, err error) {
	for _, s := range m.all() {
		if s.made < reconnects {
			s.Cancel(err)
		}
	}
}

// Open asks who listens on msg.Subject for a stream and waits until it is accepted. msg is the first message, with the
// headers of an envelope; Open sets its Reply and [bus.HeaderStream]. ctx is the stream's: when it ends, so does the stream,
// and the peer's ctx with it. Its deadline travels along.
//
// The error is a [bus.Error]: unavailable with [bus.ErrNoResponders] in its chain when nobody listens, failed_precondition
// when it was answered as a plain request, permission_denied when the server refuses msg.Subject to this user, what the other
// side said when it refused, and those of [bus.Conn.Publish].
func (m *Mux) Open(ctx context.Context, msg *nats.Msg) (*Stream, error) {
	if err := m.conn.WaitConnected(ctx); err != nil {
		code := bus.Unavailable // and not deadline_exceeded: nothing was sent
		if errors.Is(ctx.Err(), context.Canceled) {
			code = bus.Canceled
		}
		return nil, bus.Wrap(code, "stream "+msg.Subject+": not connected to NATS", err)
	}
	s := newStream(m, true)
	if err := m.add(s); err != nil {
		return nil, err
	}
	if msg.Header == nil {
		msg.Header = nats.Header{}
	}
	if deadline, ok := ctx.Deadline(); ok {
		if h := (bus.Envelope{Timeout: time.Until(deadline)}).Header()[bus.HeaderTimeout]; len(h) > 0 {
			msg.Header[bus.HeaderTimeout] = h
		}
	}
	msg.Reply = s.subject
	msg.Header[bus.HeaderStream] = []string{frame{kindOpen, 0, uint64(m.cfg.Window), uint64(m.cfg.WindowBytes)}.String()}
	s.follow(ctx)
	denied := make(chan *bus.Error, 1)
	defer m.conn.NotifyDenied(denied, bus.Access{Publish: []string{msg.Subject}})()
	if err := m.conn.Publish(msg); err != nil {
		s.end(err, true, nil)
		return nil, err
	}
	select {
	case <-s.opened:
		return s, nil
	case err := <-denied:
		s.end(err, true, nil)
		return nil, err
	case <-s.over:
	}
	select {
	case <-s.opened: // and over already, with all it had to say
		return s, nil
	default:
		return nil, s.failure()
	}
}

// Accept takes the stream that msg asks for. The ctx it returns ends with ctx, at the caller's deadline and when the stream
// ends, however it does; who asked for it is told the end. header goes back with the answer ([Stream.Accepted]).
// invalid_argument means that msg asks for none or its sender waits in no inbox: nothing is to be answered in the second
// case, which [bus.Conn.CheckRequest] tells before. resource_exhausted means that there are too many streams.
func (m *Mux) Accept(ctx context.Context, msg *nats.Msg, header nats.Header) (context.Context, *Stream, error) {
	if drop := m.conn.CheckRequest(msg); drop != "" {
		return nil, nil, bus.Errorf(bus.InvalidArgument, "stream: the message is no request (%s)", drop)
	}
	f, err := parseFrame(first(msg.Header, bus.HeaderStream))
	if err == nil && f.kind != kindOpen {
		err = fmt.Errorf("%q opens no stream", f.kind)
	}
	if err != nil {
		return nil, nil, bus.Errorf(bus.InvalidArgument, "header %s: %w", bus.HeaderStream, err)
	}
	env, err := bus.ReadEnvelope(msg.Header)
	if err != nil {
		return nil, nil, err
	}
	s := newStream(m, false)
	s.peer, s.allowed, s.allowedBytes = msg.Reply, f.messages, f.bytes
	close(s.opened)
	if err := m.add(s); err != nil {
		return nil, nil, err
	}
	ctx = s.derive(ctx, env.Timeout)
	answer := frame{kindAccept, 0, uint64(m.cfg.Window), uint64(m.cfg.WindowBytes)}
	if err := s.publish(answer, header, nil); err != nil {
		s.end(err, true, nil)
		return nil, nil, err
	}
	return ctx, s, nil
}
