package tcp

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/internal/prom"
)

// Reason is why a connection was refused, or closed by the server, or a frame was not sent on.
type Reason string

// The reasons.
const (
	ReasonConnections      Reason = "connections"        // there were MaxConns
	ReasonConnectionsPerIP Reason = "connections_per_ip" // there were MaxConnsPerIP from that address
	ReasonAccept           Reason = "accept"             // the system gave none, such as for too many open files; counts the attempts
	ReasonHandshake        Reason = "handshake"          // TLS was not agreed on, or not in time
	ReasonIdle             Reason = "idle"               // neither a frame nor an answer within IdleTimeout
	ReasonSlowFrame        Reason = "slow_frame"         // a frame was not finished within FrameTimeout
	ReasonSlowReader       Reason = "slow_reader"        // an answer was not taken within WriteTimeout
	ReasonTooLong          Reason = "too_long"           // a frame was longer than MaxFrame
	ReasonBadFrame         Reason = "bad_frame"          // the framing did not understand it
	ReasonHTTP             Reason = "http"               // the client spoke HTTP, as a web page makes browsers do
	ReasonUnfinished       Reason = "unfinished"         // the client closed within a frame
	ReasonBroken           Reason = "broken"             // the connection broke, as when the client was killed
	ReasonBusy             Reason = "busy"               // there were MaxInFlight requests for longer than Timeout; counts frames
	ReasonRate             Reason = "rate"               // there were more than Rates lets pass for longer than Timeout; counts frames
	ReasonProxy            Reason = "proxy"              // a balancer did not say whose connection it is, or somebody else did
	ReasonAnswer           Reason = "answer"             // an answer could not be a frame, and an error was sent in its place; counts answers
	ReasonError            Reason = "error"              // an error fitted into no frame, however short
)

func reasons() []Reason {
	return []Reason{
		ReasonConnections, ReasonConnectionsPerIP, ReasonAccept, ReasonHandshake, ReasonIdle, ReasonSlowFrame, ReasonSlowReader, ReasonTooLong, ReasonBadFrame, ReasonHTTP,
		ReasonUnfinished, ReasonBroken, ReasonBusy, ReasonRate, ReasonProxy, ReasonAnswer, ReasonError,
	}
}

// Stats is what a server has done since it was made.
type Stats struct {
	Connections int64  `json:"connections"` // open now
	Accepted    uint64 `json:"accepted"`    // connections that were served
	InFlight    int64  `json:"in_flight"`   // requests now
	Frames      uint64 `json:"frames"`      // read; those that were skipped are not in it
	Held        uint64 `json:"held"`        // frames that Rates made wait
	Succeeded   uint64 `json:"succeeded"`   // requests that the target answered, also with what cannot be a frame (ReasonAnswer)
	Failed      uint64 `json:"failed"`      // requests that it did not

	Refused map[Reason]uint64 `json:"refused"` // by reason; each is there
}

// Stats is what the server has done so far. The figures are read one after the other, while others change.
func (s *Server) Stats() Stats {
	st := Stats{
		Connections: int64(s.door.open()), Accepted: s.counts.accepted.Load(), InFlight: s.counts.inFlight.Load(),
		Frames: s.counts.frames.Load(), Held: s.counts.held.Load(), Succeeded: s.counts.succeeded.Load(), Failed: s.counts.failed.Load(),
		Refused: map[Reason]uint64{},
	}
	for _, r := range reasons() {
		st.Refused[r] = 0
	}
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	maps.Copy(st.Refused, s.counts.refused)
	return st
}

type counts struct {
	accepted, frames, held, succeeded, failed atomic.Uint64
	inFlight                                  atomic.Int64
	good, bad                                 prom.Latencies

	mu      sync.Mutex
	refused map[Reason]uint64
}

// took notes how long a request took.
func (c *counts) took(d time.Duration, err error) {
	if err == nil {
		c.good.Observe(d)
		return
	}
	c.bad.Observe(d)
}

func (c *counts) refuse(r Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		c.refused = map[Reason]uint64{}
	}
	c.refused[r]++
}
