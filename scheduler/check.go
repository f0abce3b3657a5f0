package scheduler

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"math/rand/v2"
	"mime"
	"strconv"
	"time"

	"github.com/nats-io/nuid"

	"github.com/skybus-io/skybus/bus"
)

const pastLimit = 365 * 24 * time.Hour // a time due that is longer ago is taken for a mistake

// draft is a timer that was checked and is not stored yet.
type draft struct {
	id      string
	due     int64 // Unix nanoseconds
	record  record
	payload []byte
}

// draft checks spec and decides when it is due.
func (s *Scheduler) draft(ctx context.Context, spec Spec) (*draft, error) {
	d, now, err := s.undated(ctx, spec)
	if err == nil {
		err = checkAge(spec, now)
	}
	if err != nil {
		return nil, err
	}
	return d, s.schedule(d, spec, now)
}

// undated checks spec, but for when it is due.
func (s *Scheduler) undated(ctx context.Context, spec Spec) (d *draft, now time.Time, err error) {
	id, err := checkID(spec)
	if err != nil {
		return nil, now, err
	}
	if err := checkData(spec); err != nil {
		return nil, now, err
	}
	if err := spec.Retry.check(); err != nil {
		return nil, now, err
	}
	d = &draft{id: id, payload: spec.Payload, record: record{
		name: s.shards[0].name(id),
		Gen:  newGen(), N: 1, ContentType: spec.ContentType, Header: spec.Header, Retry: spec.Retry,
		Repeat: spec.Repeat, Labels: spec.Labels, Key: spec.Key, Paused: spec.Paused,
	}}
	if d.record.ContentType == "" && len(d.payload) > 0 {
		d.record.ContentType = "application/octet-stream"
	}
	if d.record.Target, err = s.checkTarget(ctx, spec.Target, spec.Payload, d.record.ContentType, spec.Header); err != nil {
		return nil, now, err
	}
	if now, err = s.shard(id).clock.latest(ctx); err != nil {
		return nil, now, err
	}
	d.record.Created = now.UnixNano()
	return d, now, nil
}

// checkAge refuses what is taken for a mistake.
func checkAge(spec Spec, now time.Time) error {
	if !spec.At.IsZero() && spec.At.Before(now.Add(-pastLimit)) {
		return invalid("at", "is %s, more than a year ago", spec.At.Format(time.RFC3339))
	}
	return nil
}

// schedule decides when the timer is due.
func (s *Scheduler) schedule(d *draft, spec Spec, now time.Time) error {
	start, err := startOf(spec, now)
	if err != nil {
		return err
	}
	if spec.Repeat == nil {
		d.due = start.UnixNano()
		return nil
	}
	if err := spec.Repeat.check(s.zones); err != nil {
		return err
	}
	table, err := spec.Repeat.timetable(d.record.Gen, s.zones)
	if err != nil {
		return err
	}
	first, ok := table.first(now, start)
	if !ok {
		return invalid("repeat", "has no occurrence left: it would never fire")
	}
	d.due, d.record.Nominal, d.record.N = first.due.UnixNano(), first.nominal.UnixNano(), first.n
	return nil
}

// startOf is the time that After or At says, the zero time where neither does and the timer recurs.
func startOf(spec Spec, now time.Time) (time.Time, error) {
	switch {
	case spec.After != 0 && !spec.At.IsZero():
		return time.Time{}, invalid("after", "and at exclude each other")
	case spec.After < 0:
		return time.Time{}, invalid("after", "is %s, it must not be negative", spec.After)
	case spec.After > 0:
		at := now.Add(spec.After)
		if at.After(maxTime()) || at.Before(now) {
			return time.Time{}, invalid("after", "is %s, it must end before %s", spec.After, maxTime().Format(time.DateOnly))
		}
		return at, nil
	case !spec.At.IsZero():
		if spec.At.After(maxTime()) {
			return time.Time{}, invalid("at", "is %s, it must be before %s", spec.At.Format(time.RFC3339), maxTime().Format(time.DateOnly))
		}
		return spec.At, nil
	case spec.Repeat == nil:
		return time.Time{}, invalid("after", "is missing: one of after, at and repeat says when the timer is due")
	}
	return time.Time{}, nil
}

func checkID(spec Spec) (string, error) {
	switch {
	case spec.Key != "" && spec.ID != "" && spec.ID != idOfKey(spec.Key):
		return "", invalid("id", "and key exclude each other: the id is made from the key")
	case spec.Key != "":
		if len([]rune(spec.Key)) > MaxKey {
			return "", invalid("key", "is longer than %d characters", MaxKey)
		}
		return idOfKey(spec.Key), nil
	case spec.ID == "":
		return nuid.Next(), nil
	}
	if err := bus.CheckToken("id", spec.ID); err != nil {
		return "", bus.AsError(err).With("field", "id")
	}
	return spec.ID, nil
}

// idOfKey is the id of the timers with the key.
func idOfKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "k-" + base64.RawURLEncoding.EncodeToString(sum[:])
}

func checkData(spec Spec) error {
	if len(spec.Payload) > MaxPayload {
		e := invalid("payload", "has %d bytes, at most %d are taken", len(spec.Payload), MaxPayload)
		e.Status = 413
		return e
	}
	if spec.ContentType != "" {
		if _, _, err := mime.ParseMediaType(spec.ContentType); err != nil || len(spec.ContentType) > 256 || checkHeaderValue("", spec.ContentType) != nil {
			return invalid("content_type", "%.64q is no media type", spec.ContentType)
		}
	}
	if len(spec.Labels) > MaxLabels {
		return invalid("labels", "are %d, at most %d are taken", len(spec.Labels), MaxLabels)
	}
	for name, value := range spec.Labels {
		if err := bus.CheckToken("label", name); err != nil {
			return bus.AsError(err).With("field", "labels")
		}
		if len([]rune(value)) > MaxLabelValue {
			return invalid("labels."+name, "is longer than %d characters", MaxLabelValue)
		}
	}
	return nil
}

func (r Retry) check() error {
	full := r.withDefaults()
	switch {
	case r.MaxAttempts < 0 || r.MaxAttempts > MaxAttempts:
		return invalid("retry.max_attempts", "is %d, it must be 1 to %d", r.MaxAttempts, MaxAttempts)
	case full.First < minFirst || full.First > MaxRetryWait:
		return invalid("retry.first", "is %s, it must be %s to %s", r.First, minFirst, MaxRetryWait)
	case full.Last < full.First || full.Last > MaxRetryWait:
		return invalid("retry.last", "is %s, it must be %s (first) to %s", full.Last, full.First, MaxRetryWait)
	case r.MaxAge < 0 || r.MaxAge > MaxRetryAge:
		return invalid("retry.max_age", "is %s, it must be at most %s", r.MaxAge, MaxRetryAge)
	}
	return nil
}

// withDefaults is r with its zeros replaced.
func (r Retry) withDefaults() Retry {
	setDefault(&r.MaxAttempts, DefaultAttempts)
	setDefault(&r.First, DefaultFirst)
	if r.Last == 0 {
		r.Last = max(DefaultLast, r.First)
	}
	setDefault(&r.MaxAge, DefaultAge)
	return r
}

// invalid is an error of one field of a timer.
func invalid(field, format string, args ...any) *bus.Error {
	return bus.Errorf(bus.InvalidArgument, field+" "+format, args...).With("field", field)
}

// newGen is short, and unlikely to be the same for two timers of one id.
func newGen() string { return strconv.FormatUint(rand.Uint64()>>12|1<<51, 36) }
