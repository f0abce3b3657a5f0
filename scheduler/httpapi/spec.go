package httpapi

import (
	"bytes"
	"encoding/base64"
	"time"

	"github.com/skybus-io/skybus/scheduler"
)

const (
	typeJSON       = "application/json"
	typeText       = "text/plain; charset=utf-8"
	typeBinary     = "application/octet-stream"
	typeForm       = "application/x-www-form-urlencoded"
	typeMergePatch = "application/merge-patch+json"
	typeLines      = "application/x-ndjson"
)

// parseSpec makes a spec of the JSON form of a timer.
func parseSpec(body []byte) (scheduler.Spec, error) {
	if err := checkJSON(body); err != nil {
		return scheduler.Spec{}, err
	}
	var in input
	spec := in.spec(bytes.TrimSpace(body))
	return spec, in.Err()
}

func (in *input) spec(raw []byte) (s scheduler.Spec) {
	payloads := 0
	in.object("", raw, func(name string, v []byte) bool {
		switch name {
		case "id":
			return in.text(name, v, &s.ID)
		case "key":
			return in.text(name, v, &s.Key)
		case "after":
			in.duration(name, v, &s.After)
			s.After = max(s.After, 1) // at once, where 0 is not given
			return true
		case "at":
			return in.time(name, v, &s.At)
		case "repeat":
			s.Repeat = in.repeat(name, v)
			return true
		case "target":
			s.Target = in.target(name, v)
			return true
		case "payload", "payload_text", "payload_base64":
			payloads++
			return in.payload(name, v, &s)
		case "content_type":
			return true // below: it goes before that of the payload
		case "headers":
			return in.strings(name, v, &s.Header)
		case "labels":
			return in.strings(name, v, &s.Labels)
		case "retry":
			s.Retry = in.retry(name, v)
			return true
		case "paused":
			return in.boolean(name, v, &s.Paused)
		}
		return false
	})
	if payloads > 1 {
		in.Wrong("payload", "want one of payload, payload_text and payload_base64")
	}
	if kind(raw) == '{' {
		members(raw, func(name, v []byte) {
			if string(name) == "content_type" && kind(v) != 'n' {
				in.text("content_type", v, &s.ContentType)
			}
		})
	}
	return s
}

// payload takes any JSON value, text, or bytes in base64.
func (in *input) payload(name string, v []byte, s *scheduler.Spec) bool {
	if name == "payload" {
		s.Payload, s.ContentType = compact(v), typeJSON
		return true
	}
	var text string
	in.text(name, v, &text)
	if name == "payload_text" {
		s.Payload, s.ContentType = []byte(text), typeText
		return true
	}
	s.ContentType = typeBinary
	var err error
	if s.Payload, err = base64.StdEncoding.DecodeString(text); err != nil {
		in.Wrong(name, "want base64 with padding: %v", err)
	}
	return true
}

func (in *input) target(field string, raw []byte) (t scheduler.Target) {
	in.object(field, raw, func(name string, v []byte) bool {
		path := join(field, name)
		switch name {
		case "transport":
			return in.text(path, v, &t.Transport)
		case "uri":
			return in.text(path, v, &t.URI)
		case "method":
			return in.text(path, v, &t.Method)
		case "secret":
			return in.text(path, v, &t.Secret)
		case "timeout":
			return in.duration(path, v, &t.Timeout)
		}
		return false
	})
	return t
}

func (in *input) retry(field string, raw []byte) (r scheduler.Retry) {
	in.object(field, raw, func(name string, v []byte) bool {
		path := join(field, name)
		switch name {
		case "max_attempts":
			return in.small(path, v, &r.MaxAttempts)
		case "first":
			return in.duration(path, v, &r.First)
		case "last":
			return in.duration(path, v, &r.Last)
		case "max_age":
			return in.duration(path, v, &r.MaxAge)
		}
		return false
	})
	return r
}

func (in *input) repeat(field string, raw []byte) *scheduler.Repeat {
	r := &scheduler.Repeat{}
	in.object(field, raw, func(name string, v []byte) bool {
		path := join(field, name)
		switch name {
		case "every":
			return in.duration(path, v, &r.Every)
		case "cron":
			return in.text(path, v, &r.Cron)
		case "zone":
			return in.text(path, v, &r.Zone)
		case "start":
			return in.time(path, v, &r.Start)
		case "end":
			return in.time(path, v, &r.End)
		case "max":
			return in.integer(path, v, &r.Max)
		case "jitter":
			return in.duration(path, v, &r.Jitter)
		case "overlap":
			return in.text(path, v, (*string)(&r.Overlap))
		case "missed":
			return in.text(path, v, (*string)(&r.Missed))
		case "catch_up":
			return in.small(path, v, &r.CatchUp)
		case "window":
			return in.duration(path, v, &r.Window)
		}
		return false
	})
	return r
}

// duration is written as Go writes it.
type duration time.Duration

// MarshalText is for package json.
func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }
