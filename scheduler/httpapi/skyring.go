package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/restapi"
)

const (
	headerTimerID = "X-Timer-Id"
	headerReason  = "X-Skyring-Reason"
	maxReason     = 512 // bytes
)

// skyring finds what answers a request, as Skyring's router did: paths in any case, with or without a slash at their end.
func (h *Handler) skyring(r *http.Request) api {
	path := r.URL.Path
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	if strings.EqualFold(path, "/timer") {
		if r.Method == http.MethodPost {
			return create{skyring{h}}
		}
		return unknown{skyring{h}}
	}
	if len(path) > len("/timer/") && strings.EqualFold(path[:len("/timer/")], "/timer/") {
		id := path[len("/timer/"):]
		switch {
		case strings.Contains(id, "/"):
		case r.Method == http.MethodPut:
			return change{skyring{h}, id}
		case r.Method == http.MethodDelete:
			return remove{skyring{h}, id}
		}
		return unknown{skyring{h}}
	}
	if r.Method == http.MethodGet && strings.EqualFold(path, "/ping") {
		return ping{skyring{h}}
	}
	return unknown{skyring{h}}
}

// skyring is what the answers of this API have in common: no bodies, and the reason of a refusal in a header.
type skyring struct{ h *Handler }

func (s skyring) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := restapi.AsError(r.Context(), err)
	status := restapi.StatusOf(e)
	if status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest // the only one it knew
	}
	restapi.Prepare(w, r, s.h.log, status, err)
	reason := e.Message
	if status == http.StatusRequestEntityTooLarge {
		reason = "request entity too large"
	}
	refuse(w, status, reason)
}

// refuse answers with the reason in a header.
func refuse(w http.ResponseWriter, status int, reason string) {
	w.Header()[headerReason] = []string{headerText(reason)}
	w.WriteHeader(status)
}

// headerText is text that a header can carry.
func headerText(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	return text[:min(len(text), maxReason)]
}

type ping struct{ skyring }

func (ping) serve(http.ResponseWriter, *http.Request) {}

type unknown struct{ skyring }

func (unknown) serve(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h["Content-Type"] = []string{typeJSON}
	h[headerReason] = []string{"Not Found"}
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write([]byte(`{"message":"Not Found"}`)) // the client has gone
}

type create struct{ skyring }

// serve creates a timer. As with Skyring the answer names the timer's place whatever comes of it.
func (c create) serve(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get(headerTimerID)
	if id == "" {
		id = newID()
	}
	locate(w, id)
	spec, ok := c.read(w, r)
	if !ok {
		return
	}
	if err := bus.CheckToken("x-timer-id", id); err != nil {
		c.fail(w, r, err)
		return
	}
	spec.ID = id
	ctx, cancel := context.WithTimeout(r.Context(), c.h.cfg.Timeout)
	defer cancel()
	if _, err := c.h.timers.Create(ctx, spec); err != nil {
		c.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

type change struct {
	skyring

	id string
}

// serve gives a timer that is pending a new time, counted from now, and all else anew.
func (c change) serve(w http.ResponseWriter, r *http.Request) {
	locate(w, c.id)
	spec, ok := c.read(w, r)
	if !ok {
		return
	}
	if bus.CheckToken("id", c.id) != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), c.h.cfg.Timeout)
	defer cancel()
	if _, err := c.h.timers.Update(ctx, c.id, 0, spec); err != nil {
		c.missing(w, r, err)
	}
}

type remove struct {
	skyring

	id string
}

func (d remove) serve(w http.ResponseWriter, r *http.Request) {
	locate(w, d.id)
	if bus.CheckToken("id", d.id) != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), d.h.cfg.Timeout)
	defer cancel()
	if err := d.h.timers.Cancel(ctx, d.id, 0); err != nil {
		d.missing(w, r, err)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// missing answers 404 without a reason where there is no timer, or none any more: Skyring forgot what was due.
func (s skyring) missing(w http.ResponseWriter, r *http.Request, err error) {
	if e := bus.AsError(err); e.Code == bus.NotFound || alreadyDue(e) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	s.fail(w, r, err)
}

func locate(w http.ResponseWriter, id string) {
	w.Header()["Location"] = []string{"/timer/" + url.PathEscape(id)}
}

// newID is a random UUID, version 4.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var text [36]byte
	hex.Encode(text[:8], b[:4])
	hex.Encode(text[9:13], b[4:6])
	hex.Encode(text[14:18], b[6:8])
	hex.Encode(text[19:23], b[8:10])
	hex.Encode(text[24:], b[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}
