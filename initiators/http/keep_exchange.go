package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/http/auth"
	"github.com/skybus-io/skybus/initiators/http/cors"
	"github.com/skybus-io/skybus/kv"
)

// hold reads the body, so that it can be stored and compared as it came.
func (x *exchange) hold() ([]byte, error) {
	r := x.request
	if bodiless(r.Method) {
		return nil, nil
	}
	body, err := x.gateway.places.readBody(x.server, r, x.entry.maxBody)
	if err != nil {
		return nil, err
	}
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	return body, nil
}

// keep answers a request with what is kept for its key, or later, or as all others. An error is the answer then.
func (x *exchange) keep(as offer, target initiators.Target, req initiators.Request, body []byte) (err error) {
	e, r := x.entry, x.request
	handler := x.answering(as, target, req)
	prefer := parsePrefer(r.Header.Values("Prefer"))
	isLater := e.async != nil && (prefer.async || e.async.Always)
	keyed := e.once != nil && isWrite(r.Method)
	if !isLater && !keyed {
		handler.ServeHTTP(x, r)
		return nil
	}
	rc := http.NewResponseController(x.server)
	_ = rc.SetWriteDeadline(time.Now().Add(maxKeyWait + e.longest + slack)) // a writer without deadlines needs none
	in, err := x.gateway.keeper.open(r.Context())
	if err != nil {
		return err
	}
	if isLater {
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			work, fail := x.work(r, body), func(err error) { x.gateway.fail(w, r, x.answer, err) }
			if err := in.later.room(r.Context(), work, e.async.MaxPending); err != nil {
				if bus.CodeOf(err) == bus.ResourceExhausted {
					x.gateway.metrics.limited(limitPending)
				}
				w.Header().Set("Retry-After", "1")
				fail(err)
				return
			}
			in.later.accept(w, r, prefer, work, fail)
		})
	}
	if !keyed {
		handler.ServeHTTP(x, r)
		return nil
	}
	in.once.serve(x, r, *e.once, e.name, x.principal(), body, handler, func(failed error) { err = failed })
	return err
}

// answering answers the request by its target, to whom it is told to.
func (x *exchange) answering(as offer, target initiators.Target, req initiators.Request) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner := *x
		inner.ResponseWriter, inner.request, inner.status, inner.written = w, r, 0, 0
		req.Key = keyOf(r.Context())
		if err := inner.call(as, target, req); err != nil {
			inner.gateway.fail(&inner, r, inner.answer, err)
		}
		x.answer = inner.answer
	})
}

// work is the request as it is stored until it is answered.
func (x *exchange) work(r *http.Request, body []byte) laterWork {
	path := make(map[string]string, len(x.entry.params))
	for _, name := range x.entry.params {
		path[name] = r.PathValue(name)
	}
	work := newWork(r, x.entry.name, body, path)
	if guard := x.gateway.cfg.Guard; guard != nil {
		maps.DeleteFunc(work.Header, func(name string, _ []string) bool { return guard.Hides(name) })
	}
	work.Subject, work.Client = x.principal(), x.clientOf(r)
	if x.who != nil {
		work.Principal, _ = json.Marshal(x.who) // strings, and what JSON once was
	}
	http.Header(work.Header).Set(requestIDHeader, x.answer.RequestID)
	return work
}

// principal is who asks, as keys and answers are kept for; empty where nobody has to say.
func (x *exchange) principal() string {
	if x.who == nil || x.who.Kind == auth.Anonymous {
		return ""
	}
	return x.who.Key()
}

// asked is who a stored request is from; nil where nobody was asked.
func (work *laterWork) asked() (*auth.Principal, error) {
	if len(work.Principal) == 0 {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(work.Principal))
	dec.UseNumber()
	var who auth.Principal
	if err := dec.Decode(&who); err != nil {
		return nil, bus.Errorf(bus.DataLoss, "the stored request does not say who it is from: %w", err)
	}
	return &who, nil
}

// answerer answers stored requests of an entry.
func (g *Gateway) answerer(name string) (http.Handler, Async, bool) {
	e := g.table.Load().byName[name]
	if e == nil || e.async == nil {
		return nil, Async{}, false
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{ResponseWriter: w, server: w, gateway: g, request: r, begin: time.Now(), entry: e, trace: childTrace(r.Header)}
		x.answer = Answer{Route: e.name, RequestID: requestID(r), entry: e}
		var err error
		if work := laterOf(r.Context()); work != nil && g.cfg.Guard != nil {
			x.who, err = work.asked()
		}
		var target initiators.Target
		var as offer
		var req initiators.Request
		if err == nil {
			target, as, req, err = x.prepare()
		}
		if err == nil {
			req.Key = keyOf(r.Context())
			err = x.call(as, target, req)
		}
		if err != nil {
			g.fail(x, r, x.answer, err)
		}
	}), *e.async, true
}

// tellLater answers how a request stands that is answered later, to pages too that its entry lets in.
func (x *exchange) tellLater(r *http.Request) {
	g := x.gateway
	x.answer.RequestID = requestID(r)
	x.Header()[requestIDHeader] = []string{x.answer.RequestID}
	fail := func(err error) { g.fail(x, r, x.answer, err) }
	preflight := cors.IsPreflight(r)
	if r.Method != http.MethodGet && r.Method != http.MethodHead && !preflight {
		g.refuseMethod(x, r, []string{http.MethodGet, http.MethodHead})
		return
	}
	leave, err := g.places.enter()
	if err != nil {
		fail(err)
		return
	}
	defer leave()
	in, err := g.keeper.find(r.Context())
	switch {
	case errors.Is(err, kv.ErrNoBucket):
		fail(unknownRequest())
		return
	case err != nil:
		fail(err)
		return
	}
	in.later.status(x, r, func(entry string) (string, bool) {
		e := g.table.Load().byName[entry]
		switch shared := e != nil && e.cors != nil; {
		case preflight && shared:
			e.cors.Preflight(x, r)
			return "", false
		case preflight:
			g.refuseMethod(x, r, []string{http.MethodGet, http.MethodHead})
			return "", false
		case shared:
			e.cors.SetHeader(x.Header(), r)
		}
		if g.cfg.Guard != nil {
			if x.who, err = g.cfg.Guard.Authenticate(r); err != nil {
				fail(err)
				return "", false
			}
		}
		if err = x.count(nil); err != nil {
			fail(err)
			return "", false
		}
		return x.principal(), true
	}, fail)
}
