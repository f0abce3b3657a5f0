package micro

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	natsmicro "github.com/nats-io/nats.go/micro"

	"github.com/skybus-io/skybus/bus"
)

const (
	foreignFor     = 30 * time.Second // how long an INFO counts
	notForeignFor  = time.Second      // and that there was none
	foreignGather  = 250 * time.Millisecond
	mostForeign    = 1024 // services known
	mostEndpoints  = 1024 // of one of them
	mostForeignSub = 256  // bytes of a subject
)

// foreignEndpoint is an endpoint of a service that is written with another library.
type foreignEndpoint struct {
	subject  string
	internal bool
}

// foreignService is a service that answers the discovery of ADR-32 and is none of ours.
type foreignService struct {
	version   string
	endpoints map[string]*foreignEndpoint // nil values: with a subject that we do not send to
}

// foreigners are the foreign services that calls asked for.
type foreigners struct {
	conn *bus.Conn

	mu    sync.Mutex
	cache map[string]*foreignEntry
}

type foreignEntry struct {
	found   chan struct{} // closed when it is known
	until   time.Time     // zero while it is not
	service *foreignService
}

func (f *foreigners) init(conn *bus.Conn) {
	f.conn, f.cache = conn, map[string]*foreignEntry{}
}

// known is what was found of a service lately, nil when that is nothing.
func (f *foreigners) known(name string) *foreignService {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.cache[name]
	if e == nil || e.service == nil || time.Now().After(e.until) {
		return nil
	}
	return e.service
}

// forget makes the next find ask again.
func (f *foreigners) forget(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.cache[name]; e != nil && !e.until.IsZero() {
		delete(f.cache, name)
	}
}

// lacks tells whether the service is known and has no such endpoint.
func (f *foreigners) lacks(name, endpoint string) bool {
	s := f.known(name)
	return s != nil && s.endpoints[endpoint] == nil
}

// find asks for the service, unless that was done a moment ago. Concurrent calls ask once.
func (f *foreigners) find(ctx context.Context, name string) *foreignService {
	f.mu.Lock()
	e := f.cache[name]
	if e == nil || !e.until.IsZero() && time.Now().After(e.until) {
		f.makeRoomLocked()
		e = &foreignEntry{found: make(chan struct{})}
		f.cache[name] = e
		f.mu.Unlock()
		f.ask(ctx, name, e)
	} else {
		f.mu.Unlock()
	}
	select {
	case <-e.found:
		return e.service
	case <-ctx.Done():
		return nil
	}
}

// makeRoomLocked forgets what is out of date, and all that is known if that is too little.
func (f *foreigners) makeRoomLocked() {
	if len(f.cache) < mostForeign {
		return
	}
	now := time.Now()
	for name, e := range f.cache {
		if !e.until.IsZero() && now.After(e.until) {
			delete(f.cache, name)
		}
	}
	for name, e := range f.cache {
		if len(f.cache) < mostForeign {
			return
		}
		if !e.until.IsZero() {
			delete(f.cache, name)
		}
	}
}

// ask fills e.
func (f *foreigners) ask(ctx context.Context, name string, e *foreignEntry) {
	s := f.gather(ctx, name)
	f.mu.Lock()
	defer f.mu.Unlock()
	e.service, e.until = s, time.Now()
	switch {
	case s != nil:
		e.until = e.until.Add(foreignFor)
	case ctx.Err() == nil: // else it was not asked for long enough
		e.until = e.until.Add(notForeignFor)
	}
	close(e.found)
}

// gather takes the first answer to an INFO that is of a foreign service, nil when none comes.
func (f *foreigners) gather(ctx context.Context, name string) *foreignService {
	ctx, cancel := context.WithTimeout(ctx, foreignGather)
	defer cancel()
	nc := f.conn.NATS()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil // the connection is closed, as the call will find too
	}
	defer func() { _ = sub.Unsubscribe() }() // as above
	subject := natsmicro.APIPrefix + "." + natsmicro.InfoVerb.String() + "." + name
	var found *foreignService
	_ = f.conn.Permitted(ctx, bus.Access{Publish: []string{subject}}, func(ctx context.Context) error {
		if err := f.conn.Publish(&nats.Msg{Subject: subject, Reply: inbox}); err != nil {
			return err
		}
		for found == nil {
			msg, err := sub.NextMsgWithContext(ctx)
			if err != nil {
				return err
			}
			found = readInfo(f.conn, name, msg.Data)
		}
		return nil
	}) // whatever it fails with, nobody foreign is known
	return found
}

// readInfo reads the INFO of a foreign service, nil when it is not one. It comes from anybody.
func readInfo(conn *bus.Conn, name string, data []byte) *foreignService {
	var info natsmicro.Info
	if json.Unmarshal(data, &info) != nil || info.Name != name || info.Type != natsmicro.InfoResponseType {
		return nil
	}
	if _, ours := info.Metadata[MetadataNamespace]; ours || len(info.Endpoints) > mostEndpoints {
		return nil
	}
	s := &foreignService{version: info.Version, endpoints: map[string]*foreignEndpoint{}}
	for _, e := range info.Endpoints {
		if _, known := s.endpoints[e.Name]; !known && mayCall(conn, e.Subject) {
			s.endpoints[e.Name] = &foreignEndpoint{subject: e.Subject, internal: e.Metadata[MetadataInternal] == "true"}
		}
	}
	return s
}

// ourKinds are the third tokens of skybus's subjects.
func ourKinds() []string { return []string{"svc", "ver", "one", "inst", "all", "ctl", "ev"} }

// mayCall tells whether we send requests to a subject because a stranger says so. It is nothing that we may do and the
// stranger perhaps not: no API of the server, nobody's inbox, nothing of skybus, nothing of our namespace, whose services are
// all in the registry, and nothing that looks like the services of another.
func mayCall(conn *bus.Conn, subject string) bool {
	if subject == "" || len(subject) > mostForeignSub || strings.ContainsAny(subject, "*>") || conn.IsInbox(subject) {
		return false
	}
	for i := range len(subject) {
		if subject[i] <= ' ' || subject[i] >= 0x7f {
			return false
		}
	}
	tokens := strings.Split(subject, ".")
	if slices.Contains(tokens, "") || len(tokens) > 3 && slices.Contains(ourKinds(), tokens[2]) {
		return false
	}
	for _, prefix := range []string{"$", "_INBOX", "_R_", "skybus.", conn.Namespace().String() + "."} {
		if strings.HasPrefix(subject, prefix) {
			return false
		}
	}
	return true
}

// findForeign looks for a foreign service of that name, where nobody of ours is known, and tells whether the next attempt has
// one to go to.
func (a *attempts) findForeign(ctx context.Context) bool {
	r := a.req
	if a.foreign != nil || r.Instance != "" || r.Region != "" || a.client.registry.Service(r.Service) != nil {
		return a.foreign != nil
	}
	a.useForeign(a.client.foreign.find(ctx, r.Service))
	if a.foreign == nil {
		return false
	}
	a.found = true
	a.n-- // the attempt before was sent to nobody
	return true
}

// useForeign makes the attempts go to a foreign service, which takes JSON.
func (a *attempts) useForeign(s *foreignService) {
	r := a.req
	if s == nil || r.Instance != "" || r.Region != "" || r.Version != "" && r.Version != s.version {
		return
	}
	ep := s.endpoints[r.Endpoint]
	if ep == nil {
		return
	}
	body, contentType, err := toJSON(r)
	if err != nil {
		a.unfit = bus.Errorf(bus.InvalidArgument, "request of %s.%s does not encode as JSON, which services of other libraries take: %w", r.Service, r.Endpoint, err)
	}
	a.foreign, r.Body, a.env.ContentType = ep, body, contentType
}

// toJSON is the body of r for a service that is not known to read anything but JSON: the value that it was made of, or
// what MessagePack says. Bytes of the caller's own go as they are, without a content type where he named none.
func toJSON(r *Request) (body []byte, contentType string, err error) {
	json := bus.JSON{}
	switch {
	case r.typed:
		body, err = json.Marshal(r.value)
		return body, json.ContentType(), err
	case r.bytes:
		return r.Body, "", nil
	case r.ContentType != (bus.MessagePack{}).ContentType() || len(r.Body) == 0:
		return r.Body, r.ContentType, nil
	}
	var v any
	if err := (bus.MessagePack{}).Unmarshal(r.Body, &v); err != nil {
		return nil, "", err
	}
	body, err = json.Marshal(v)
	return body, json.ContentType(), err
}
