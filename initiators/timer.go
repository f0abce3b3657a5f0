package initiators

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/skybus-io/skybus/bus"
)

type timerTemplates struct {
	after, at, id, target *template
}

func (s *TimerSpec) parse() (t timerTemplates, err error) {
	if (s.After == "") == (s.At == "") {
		return t, invalid("timer", "want one of after and at")
	}
	if s.Target == "" {
		return t, invalid("timer.target", "is missing: want call://service.endpoint, route://name, nats://subject or a URL")
	}
	for _, m := range []struct {
		name, source string
		to           **template
	}{{"after", s.After, &t.after}, {"at", s.At, &t.at}, {"id", s.ID, &t.id}, {"target", s.Target, &t.target}} {
		if m.source == "" {
			continue
		}
		parsed, err := parseTemplate(m.source)
		if err != nil {
			return t, invalid("timer."+m.name, "%w", err)
		}
		*m.to = &parsed
		if text, fixed := parsed.literal(); fixed {
			if err := checkTimer(m.name, text); err != nil {
				return t, err
			}
		}
	}
	return t, nil
}

// checkTimer checks what stands in the specification itself.
func checkTimer(name, text string) (err error) {
	switch name {
	case "after":
		_, err = parseAfter(text)
	case "at":
		_, err = parseAt(text)
	case "id":
		if err = bus.CheckToken("timer", text); err != nil {
			err = invalid("timer.id", "%w", err)
		}
	}
	return err
}

func parseAfter(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, invalid("timer.after", "%.40q: want a duration of 0 or more, such as 30s or 2h", s)
	}
	return d, nil
}

func parseAt(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, invalid("timer.at", "%.40q: want a time such as 2031-01-02T15:04:05Z", s)
	}
	return t, nil
}

// timerTarget sets a timer.
type timerTarget struct {
	timers Timers
	timer  timerTemplates
}

// Send sets the timer, and answers its id: {"id":"..."}. One that is there already was set by the same piece of traffic where the
// id was made from its key, which is a success then.
func (t timerTarget) Send(ctx context.Context, req Request) (Reply, error) {
	values := bodyValues(req.ID, req.ContentType, req.Body, req.lookup)
	r := TimerRequest{ContentType: req.ContentType, Payload: req.Body, Header: req.Header}
	if r.ContentType == "" {
		r.ContentType = typeJSON
	}
	get := func(from *template) (string, error) {
		if from == nil {
			return "", nil
		}
		s, _, err := from.text(values, nil)
		return s, err
	}
	after, err := get(t.timer.after)
	if err == nil && after != "" {
		r.After, err = parseAfter(after)
	}
	if err != nil {
		return Reply{}, err
	}
	at, err := get(t.timer.at)
	if err == nil && (at != "" || t.timer.after == nil) {
		r.At, err = parseAt(at)
	}
	if err != nil {
		return Reply{}, err
	}
	if r.Target, err = get(t.timer.target); err != nil {
		return Reply{}, err
	}
	if r.ID, err = get(t.timer.id); err != nil {
		return Reply{}, err
	}
	known := t.timer.id == nil && req.Key != ""
	if known {
		sum := sha256.Sum256([]byte(req.Key))
		r.ID = hex.EncodeToString(sum[:16])
	}
	id, err := t.timers.CreateTimer(ctx, r)
	if err != nil {
		if !known || bus.CodeOf(err) != bus.AlreadyExists {
			return Reply{}, bus.AsError(err)
		}
		id = r.ID
	}
	return jsonReply(struct {
		ID string `json:"id"`
	}{id})
}
