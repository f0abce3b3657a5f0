package initiators

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/route"
)

// Spec is a target as data, as entries of gateways and files of initiators hold it. Exactly one of Call, Route, Publish, Stream and Timer
// is set.
type Spec struct {
	// Call is an endpoint, "service.endpoint".
	Call string `json:"call,omitempty"`
	// Route is the name of a route.
	Route string `json:"route,omitempty"`
	// Publish is a subject: success is that the server has the message, whoever listens then. Stream is one too, and success is that a
	// stream has stored it. Both may hold placeholders (see [Mapping]) that stand for one token each; what is before the first one must lie below an allowed
	// prefix.
	Publish string `json:"publish,omitempty"`
	Stream  string `json:"stream,omitempty"`
	// Timer sets a timer with the request as its payload.
	Timer *TimerSpec `json:"timer,omitempty"`

	// Request makes the request of what came. Nil means what the initiator does by itself: the body as it is, if its documentation says nothing else.
	Request *Mapping `json:"request,omitempty"`
	// Reply makes the answer of what came back. Nil means as it is.
	Reply *Mapping `json:"reply,omitempty"`
}

// TimerSpec is a timer to set. All members are templates (see [Mapping]).
type TimerSpec struct {
	// After is how long from now it is due, such as 30s; At is when, as RFC 3339 has it. One of both is needed.
	After string `json:"after,omitempty"`
	At    string `json:"at,omitempty"`
	// ID is the timer's id. Empty means that of the piece of traffic where it has one, so that a repeat sets no second timer, else a new one.
	ID string `json:"id,omitempty"`
	// Target is what it calls: call://service.endpoint, route://name, nats://subject, or a URL, as far as the scheduler allows them.
	Target string `json:"target"`
}

// TimerRequest is a timer that a target asks for.
type TimerRequest struct {
	ID          string // empty means a new one
	After       time.Duration
	At          time.Time // used where it is not zero
	Target      string
	ContentType string
	Payload     []byte
	Header      nats.Header
}

// Timers sets timers. It is safe for concurrent use. An error with the code already_exists says that the id is taken.
type Timers interface {
	CreateTimer(ctx context.Context, t TimerRequest) (id string, err error)
}

// Sources is what targets are made with.
type Sources struct {
	Client *micro.Client // for Call, Publish and Stream, whose connection it is
	Runner *route.Runner // for Route
	// Timers sets timers. Nil means that targets with a timer are refused.
	Timers Timers
	// PublishPrefixes are what subjects of Publish and Stream may begin with; they end in a dot. Empty means <app>.<env>.pub. alone. What is
	// NATS's or skybus's own stays refused.
	PublishPrefixes []string
}

// Validate finds what is wrong with s, without looking at what there is on the bus. The errors have the code invalid_argument and the detail field.
func (s Spec) Validate() error {
	_, err := s.parse()
	return err
}

// String names what s sends to, such as call orders.get.
func (s Spec) String() string {
	switch {
	case s.Call != "":
		return "call " + s.Call
	case s.Route != "":
		return "route " + s.Route
	case s.Publish != "":
		return "publish " + s.Publish
	case s.Stream != "":
		return "stream " + s.Stream
	case s.Timer != nil:
		return "timer " + s.Timer.Target
	}
	return "nothing"
}

// parsed is a Spec whose templates are parsed.
type parsed struct {
	service, endpoint string
	subject           template
	timer             timerTemplates
	request, reply    *mapping
}

func (s Spec) parse() (p parsed, err error) {
	kinds := 0
	for _, is := range []bool{s.Call != "", s.Route != "", s.Publish != "", s.Stream != "", s.Timer != nil} {
		if is {
			kinds++
		}
	}
	if kinds != 1 {
		return p, invalid("target", "has %d of call, route, publish, stream and timer: want one", kinds)
	}
	switch {
	case s.Call != "":
		if p.service, p.endpoint, err = micro.ParseTarget(s.Call); err != nil {
			return p, invalid("call", "%w", err)
		}
	case s.Route != "":
		if err := bus.CheckToken("route", s.Route); err != nil {
			return p, invalid("route", "%w", err)
		}
	case s.Timer != nil:
		if p.timer, err = s.Timer.parse(); err != nil {
			return p, err
		}
	default:
		if p.subject, err = s.parseSubject(); err != nil {
			return p, err
		}
	}
	if s.Request != nil {
		if p.request, err = s.Request.compile(); err != nil {
			return p, within("request", err)
		}
	}
	if s.Reply != nil {
		if p.reply, err = s.Reply.compile(); err != nil {
			return p, within("reply", err)
		}
	}
	return p, nil
}

func (s Spec) parseSubject() (template, error) {
	parsed, err := ParseSubject(s.Publish+s.Stream, false) // one of both
	if err != nil {
		return template{}, invalid(s.kind(), "%w", err)
	}
	return parsed.template, nil
}

// kind is the member that says what s sends to.
func (s Spec) kind() string {
	kind, _, _ := strings.Cut(s.String(), " ")
	return kind
}

// within tells of what member a field is that an error names.
func within(name string, err error) error {
	e := bus.AsError(err)
	out := bus.Wrap(e.Code, name+"."+e.Message, err)
	return out.With("field", strings.TrimSuffix(name+"."+e.Details["field"], "."))
}

// Target makes the target that s describes. It is safe for concurrent use. What it takes and s does not have is invalid_argument.
func (s Sources) Target(spec Spec) (Target, error) {
	p, err := spec.parse()
	if err != nil {
		return nil, err
	}
	var t Target
	switch {
	case spec.Route != "" && s.Runner == nil:
		return nil, invalid("route", "there is no runner of routes here (Sources.Runner)")
	case spec.Route == "" && spec.Timer == nil && s.Client == nil:
		return nil, invalid(spec.kind(), "there is no client to send by here (Sources.Client)")
	case spec.Call != "":
		t = endpointTarget{s.Client, p.service, p.endpoint}
	case spec.Route != "":
		t = routeTarget{s.Runner, spec.Route}
	case spec.Timer != nil:
		if s.Timers == nil {
			return nil, invalid("timer", "there is no scheduler to set timers with here")
		}
		t = timerTarget{s.Timers, p.timer}
	default:
		if t, err = s.publishTarget(p.subject, spec.kind()); err != nil {
			return nil, err
		}
	}
	if p.request == nil && p.reply == nil {
		return t, nil
	}
	return mappedTarget{t, p.request, p.reply}, nil
}

func (s Sources) publishTarget(subject template, kind string) (Target, error) {
	conn := s.Client.Conn()
	for _, p := range s.PublishPrefixes {
		if rest, dot := strings.CutSuffix(p, "."); !dot || !bus.IsSubject(rest) || conn.CheckFree(p+"x") != nil {
			return nil, bus.Errorf(bus.InvalidArgument, "initiators: prefix %.80q of subjects: want one that ends in a dot and is not skybus's or NATS's own: change Sources.PublishPrefixes (skybus: --publish-prefix)", p)
		}
	}
	if err := checkPrefix(kind, subject, conn.Namespace(), s.PublishPrefixes); err != nil {
		return nil, err
	}
	return publishTarget{conn, subject, kind == "stream"}, nil
}

// CheckSubject tells whether the subject that s publishes to lies below one of prefixes, as [Sources] has them; a target of another kind has none. Nothing is
// asked of NATS. The error has the code permission_denied and the detail field.
func (s Spec) CheckSubject(ns bus.Namespace, prefixes []string) error {
	if s.Publish == "" && s.Stream == "" {
		return nil
	}
	subject, err := s.parseSubject()
	if err != nil {
		return err
	}
	return checkPrefix(s.kind(), subject, ns, prefixes)
}

func checkPrefix(kind string, subject template, ns bus.Namespace, prefixes []string) error {
	if len(prefixes) == 0 {
		prefixes = []string{ns.String() + ".pub."}
	}
	fixed, _ := subject.literal()
	if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(fixed, p) }) {
		return nil
	}
	return bus.Errorf(bus.PermissionDenied, "%s: subject %.80q: only those below %s are allowed", kind, subject.source, strings.Join(prefixes, " and ")).With("field", kind)
}
