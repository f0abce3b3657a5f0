package micro

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// The verbs of control messages, which concern an instance and not its endpoints.
const (
	VerbPing       = "ping"       // tells who it is and its [Stats]
	VerbRegister   = "register"   // [Service.SetRegistered]
	VerbUnregister = "unregister" // the same
	VerbStop       = "stop"       // ends Run; answered when that begins
	VerbLog        = "log"        // sets the level of the program's log to the body: debug, info, warn or error; empty only asks
)

const (
	knownVerbs = VerbLog + ", " + VerbPing + ", " + VerbRegister + ", " + VerbStop + ", " + VerbUnregister
	maxVerbs   = 8 // that take their time, at once
)

// control answers a control message.
func (s *Service) control(r *run, m *nats.Msg) {
	switch verb := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]; verb {
	case VerbPing:
		s.respondJSON(m, s.pong())
	case VerbRegister, VerbUnregister:
		s.controlRegistered(r, m, verb == VerbRegister)
	case VerbStop:
		s.respondJSON(m, struct {
			Stopping bool `json:"stopping"`
		}{true})
		r.stopping.Do(func() { close(r.stop) })
	case VerbLog:
		s.controlLog(m)
	default:
		s.refuseControl(m, bus.Errorf(bus.Unimplemented, "control verb %.64q is not known; known: %s", verb, knownVerbs))
	}
}

func (s *Service) refuseControl(m *nats.Msg, err error) {
	_ = s.respond(m, bus.NewErrorReply(bus.JSON{}, err)) // nobody counts these
}

type pong struct {
	Address    string    `json:"address"`
	Started    time.Time `json:"started"`
	Registered bool      `json:"registered"`
	LogLevel   string    `json:"log_level,omitempty"`
	Stats
}

func (s *Service) pong() pong {
	p := pong{Address: s.Address().String(), Started: s.started, Registered: s.Registered(), Stats: s.Stats()}
	if s.cfg.LogLevel != nil {
		p.LogLevel = levelWord(s.cfg.LogLevel.Level())
	}
	return p
}

// controlRegistered does not keep other control messages waiting for the queues to drain and the record to be written.
func (s *Service) controlRegistered(r *run, m *nats.Msg, registered bool) {
	env, err := bus.ReadEnvelope(m.Header)
	if err != nil {
		s.refuseControl(m, err)
		return
	}
	timeout := orDefault(env.Timeout, s.cfg.Drain)
	select {
	case r.busy <- struct{}{}:
	default:
		s.refuseControl(m, bus.Errorf(bus.Unavailable, "%s: %d changes are under way already", s.Address(), maxVerbs))
		return
	}
	r.verbs.start(func() {
		defer func() { <-r.busy }()
		ctx, cancel := context.WithTimeout(r.verbs.base(), timeout)
		defer cancel()
		if err := s.SetRegistered(ctx, registered); err != nil {
			s.refuseControl(m, err)
			return
		}
		s.respondJSON(m, struct {
			Registered bool `json:"registered"`
		}{s.Registered()})
	})
}

func (s *Service) controlLog(m *nats.Msg) {
	level := s.cfg.LogLevel
	if level == nil {
		s.refuseControl(m, bus.Errorf(bus.FailedPrecondition, "%s: the level of its log cannot be changed (micro.Config.LogLevel is not set)", s.Address()))
		return
	}
	switch word := string(m.Data); word {
	case "":
	case "debug", "info", "warn", "error":
		_ = level.UnmarshalText(m.Data) // these words it knows
	default:
		s.refuseControl(m, bus.Errorf(bus.InvalidArgument, "log level %.40q: want debug, info, warn or error", word))
		return
	}
	s.respondJSON(m, struct {
		Level string `json:"level"`
	}{levelWord(level.Level())})
}

func levelWord(l slog.Level) string { return strings.ToLower(l.String()) }
