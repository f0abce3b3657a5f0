package route

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro/registry"
)

// Explanation is what a run of a route would do, by what is known now.
type Explanation struct {
	Route    string        `json:"route"`
	Revision uint64        `json:"revision"`
	Request  string        `json:"request"` // what the body is
	Timeout  time.Duration `json:"timeout"`
	Steps    []Explained   `json:"steps"`
	// Problem says why the route would not even begin; the steps are told all the same, as far as there are any.
	Problem string `json:"problem,omitempty"`
}

// Explained is what one step would do.
type Explained struct {
	Step      string        `json:"step"` // its number, from 1; that of a step within step 2 is such as 2.1
	Target    string        `json:"target"`
	Version   string        `json:"version,omitempty"`
	Async     bool          `json:"async,omitempty"`
	Retry     bool          `json:"retry,omitempty"`
	Required  bool          `json:"required"`
	Subject   string        `json:"subject,omitempty"` // where its message goes
	Why       string        `json:"why"`               // there
	Timeout   time.Duration `json:"timeout"`           // left at most, if the steps before take no time
	Instances []string      `json:"instances,omitempty"`
	Others    []string      `json:"others,omitempty"` // instances that cannot be chosen, and why
	// What all online instances say of the endpoint.
	Idempotent bool `json:"idempotent,omitempty"`
	Amends     bool `json:"amends,omitempty"`
	OneWay     bool `json:"one_way,omitempty"`
	// Problem says why the step would fail.
	Problem string `json:"problem,omitempty"`
}

// Explainer says what a run of a route would do. It calls nobody and writes nothing.
type Explainer struct {
	Namespace bus.Namespace
	Registry  *registry.Registry // nil: no service was ever there
	// Route is the route of a name, and whether there is one.
	Route func(name string) (Stored, bool)
}

// Explain says what a run of the route called name with req would do within timeout.
func (x Explainer) Explain(name string, req Request, timeout time.Duration) Explanation {
	e := Explanation{Route: name, Request: describe(req), Timeout: timeout}
	stored, err := x.route(name)
	if err != nil {
		e.Problem = err.Error()
		return e
	}
	e.Revision = stored.Revision
	e.Steps = x.steps(nil, "", []string{name}, stored.Route, timeout, false)
	return e
}

func (x Explainer) route(name string) (Stored, error) {
	s, ok := x.Route(name)
	switch {
	case !ok:
		return s, fmt.Errorf("there is no route %q", name)
	case s.Err != nil:
		return s, fmt.Errorf("what is stored as route %q is none: %w", name, s.Err)
	}
	return s, nil
}

// describe says what the body of a request is.
func describe(req Request) string {
	var v any
	switch {
	case len(req.Body) == 0:
		return "empty"
	case req.ContentType != "" && req.ContentType != (bus.JSON{}).ContentType():
		return fmt.Sprintf("%d bytes of %s", len(req.Body), req.ContentType)
	case json.Unmarshal(req.Body, &v) != nil:
		return fmt.Sprintf("%d bytes that are not JSON, which services will refuse", len(req.Body))
	}
	what := "a value"
	switch v := v.(type) {
	case map[string]any:
		what = fmt.Sprintf("an object of %d fields", len(v))
		if len(v) == 1 {
			what = "an object of one field"
		}
	case []any:
		what = fmt.Sprintf("a list of %d", len(v))
	case nil:
		what = "null"
	}
	return fmt.Sprintf("%d bytes of JSON, %s", len(req.Body), what)
}

func (x Explainer) steps(all []Explained, prefix string, path []string, r Route, timeout time.Duration, retry bool) []Explained {
	for i, s := range r.Steps {
		e := Explained{
			Step: fmt.Sprint(prefix, i+1), Target: s.Target(), Version: s.Version, Async: s.Async, Retry: s.Retry || retry,
			Required: s.IsRequired(), Timeout: timeout,
		}
		if s.Timeout > 0 {
			e.Timeout = min(timeout, time.Duration(s.Timeout))
		}
		switch {
		case s.Async:
			x.async(&e, s, path)
			all = append(all, e)
		case s.Route != "":
			inner, ok := x.nested(&e, s.Route, path)
			if all = append(all, e); ok {
				all = x.steps(all, e.Step+".", append(slices.Clip(path), s.Route), inner, e.Timeout, e.Retry)
			}
		default:
			x.call(&e, s)
			all = append(all, e)
		}
	}
	return all
}

func (x Explainer) nested(e *Explained, name string, path []string) (Route, bool) {
	e.Why = "run here, with the request and the response so far"
	if err := checkPath(path, name); err != nil {
		e.Problem = err.Message
		return Route{}, false
	}
	stored, err := x.route(name)
	if err != nil {
		e.Problem = err.Error()
	}
	return stored.Route, err == nil
}

func (x Explainer) async(e *Explained, s Step, path []string) {
	e.Why = "stored in " + AsyncStream + "; a worker calls it until it succeeds"
	if s.Route != "" {
		e.Subject = x.Namespace.AsyncSubject(RouterService, s.Route)
		e.Why = "stored in " + AsyncStream + "; a worker runs it until it succeeds"
		if err := checkPath(path, s.Route); err != nil {
			e.Problem = err.Message
		} else if _, err := x.route(s.Route); err != nil {
			e.Problem = "the worker will find that " + err.Error()
		}
		return
	}
	subject := x.Namespace.AsyncSubject(s.Service, s.Endpoint)
	x.call(e, s)
	e.Subject, e.Why = subject, "stored in "+AsyncStream+"; a worker calls it until it succeeds"
	if e.Problem != "" {
		e.Problem = "the worker will wait: " + e.Problem
	}
}

// call says where a call of s would go.
func (x Explainer) call(e *Explained, s Step) {
	var service *registry.Service
	if x.Registry != nil {
		service = x.Registry.Service(s.Service)
	}
	offline := x.instances(e, s, service)
	if service != nil {
		if ep, ok := service.Endpoint(s.Endpoint); ok {
			e.Idempotent, e.Amends, e.OneWay = ep.Idempotent, ep.Amends, ep.OneWay
		}
	}
	group := "the queue group of the service"
	e.Subject = x.Namespace.ServiceSubject(s.Service, s.Endpoint)
	if s.Version != "" {
		group = "the queue group of version " + s.Version
		e.Subject = x.Namespace.VersionSubject(s.Service, s.Version, s.Endpoint)
	}
	switch {
	case len(e.Instances) == 0:
		e.Why = group
		e.Problem = "nobody in the registry serves it: unless a service that is not skybus's own does, it is unavailable after a while"
	case offline:
		e.Subject = x.Namespace.InstanceSubject(s.Service, "*", s.Endpoint)
		e.Why = "an instance of its own choice: one that is offline may still be in the queue group"
	default:
		e.Why = group + ": the server chooses, unless the program has a policy or weights of versions for the service"
	}
}

// instances sorts those of a service into who may be chosen and who not, and tells whether the client goes around one.
func (x Explainer) instances(e *Explained, s Step, service *registry.Service) (offline bool) {
	if service == nil {
		return false
	}
	for _, i := range service.Online {
		_, serves := i.Endpoint(s.Endpoint)
		switch {
		case s.Version != "" && s.Version != i.Version:
			e.Others = append(e.Others, fmt.Sprintf("%s: has version %s", i.Instance, i.Version))
		case !serves:
			e.Others = append(e.Others, fmt.Sprintf("%s: has no endpoint %s", i.Instance, s.Endpoint))
		default:
			e.Instances = append(e.Instances, i.Instance)
		}
	}
	for _, i := range service.Rest {
		e.Others = append(e.Others, fmt.Sprintf("%s: is %s", i.Instance, i.State))
	}
	return service.Offline()
}
