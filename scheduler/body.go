package scheduler

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// The body of every message of a timer is its record, in a form of our own, and then the payload. The server looks through headers
// a dozen times for each message it stores, and at bodies never.
//
//	version, 1 byte
//	length of what follows but the payload, uvarint
//	which of the fields marked * there are, uvarint
//	time due, 8 bytes big endian, Unix nanoseconds
//	namespace and id with a dot between them: length as uvarint, and bytes
//	grace, uvarint, milliseconds
//	time due less time of creation, varint, nanoseconds
//	number of the occurrence, varint
//	generation, URI, * content type, * transport, * method, * secret, * key, * manual: length as uvarint, and bytes
//	* timeout, varint, nanoseconds
//	* time due less nominal time, varint, nanoseconds
//	* header, * labels: number as uvarint, and names and values in the order of names
//	* retry: attempts, first, last, age, varints
//	* repeat: length as uvarint, and JSON
const bodyVersion = 1

// What a record has beside what all have.
const (
	hasPaused      uint64 = 1 << iota
	hasBinary             // the content type is the one of bytes
	hasJSON               // it is the one of JSON
	hasContentType        // it is another one
	hasTransport          // it is not http
	hasMethod
	hasSecret
	hasKey
	hasManual
	hasTimeout
	hasNominal
	hasHeader
	hasLabels
	hasRetry
	hasRepeat
	hasMore // than this version knows
)

const (
	typeBinary = "application/octet-stream"
	typeJSON   = "application/json"
)

const (
	maxRecord  = 44 << 10 // as JSON: what a dead letter has in a header, which with all others ends at 64 KiB
	safeRecord = 7 << 10  // so long in a body it is no longer than that
)

var errBody = errors.New("it has no record of a timer")

// fields is what r has beside what all have.
func (r *record) fields() uint64 {
	has := uint64(0)
	set := func(field uint64, there bool) {
		if there {
			has |= field
		}
	}
	set(hasPaused, r.Paused)
	set(hasBinary, r.ContentType == typeBinary)
	set(hasJSON, r.ContentType == typeJSON)
	set(hasContentType, has&(hasBinary|hasJSON) == 0 && r.ContentType != "")
	set(hasTransport, r.Target.Transport != transportHTTP)
	set(hasMethod, r.Target.Method != "")
	set(hasSecret, r.Target.Secret != "")
	set(hasKey, r.Key != "")
	set(hasManual, r.Manual != "")
	set(hasTimeout, r.Target.Timeout != 0)
	set(hasNominal, r.Nominal != 0)
	set(hasHeader, len(r.Header) > 0)
	set(hasLabels, len(r.Labels) > 0)
	set(hasRetry, r.Retry != Retry{})
	set(hasRepeat, r.Repeat != nil)
	return has
}

// texts are the fields that are texts, in their order.
func (r *record) texts(has uint64) [8]textField {
	return [8]textField{
		{&r.Gen, true},
		{&r.Target.URI, true},
		{&r.ContentType, has&hasContentType != 0},
		{&r.Target.Transport, has&hasTransport != 0},
		{&r.Target.Method, has&hasMethod != 0},
		{&r.Target.Secret, has&hasSecret != 0},
		{&r.Key, has&hasKey != 0},
		{&r.Manual, has&hasManual != 0},
	}
}

type textField struct {
	value *string
	there bool
}

// encode is the body of a message of the timer, which is due then and fired by the server a grace later.
func (r *record) encode(due int64, grace time.Duration, payload []byte) ([]byte, error) {
	has := r.fields()
	b := binary.AppendUvarint(make([]byte, 0, usualRecord), has)
	b = appendText(binary.BigEndian.AppendUint64(b, uint64(due)), r.name)
	b = binary.AppendUvarint(b, uint64(graceMillis(grace)))
	b = binary.AppendVarint(b, due-r.Created)
	b = binary.AppendVarint(b, r.N)
	for _, f := range r.texts(has) {
		if f.there {
			b = appendText(b, *f.value)
		}
	}
	b, err := r.appendRest(b, has, due)
	if err != nil {
		return nil, err
	}
	if len(b) > safeRecord {
		text, err := r.text()
		if err != nil {
			return nil, err
		}
		if len(text) > maxRecord {
			return nil, invalid(fieldHeader, "labels and target together take %d bytes as JSON, at most %d are taken", len(text), maxRecord)
		}
	}
	body := append(make([]byte, 0, 1+binary.MaxVarintLen32+len(b)+len(payload)), bodyVersion)
	body = binary.AppendUvarint(body, uint64(len(b)))
	return append(append(body, b...), payload...), nil
}

const usualRecord = 128 // bytes

func (r *record) appendRest(b []byte, has uint64, due int64) ([]byte, error) {
	if has&hasTimeout != 0 {
		b = binary.AppendVarint(b, int64(r.Target.Timeout))
	}
	if has&hasNominal != 0 {
		b = binary.AppendVarint(b, due-r.Nominal)
	}
	if has&hasHeader != 0 {
		b = appendMap(b, r.Header)
	}
	if has&hasLabels != 0 {
		b = appendMap(b, r.Labels)
	}
	if has&hasRetry != 0 {
		for _, v := range []int64{int64(r.Retry.MaxAttempts), int64(r.Retry.First), int64(r.Retry.Last), int64(r.Retry.MaxAge)} {
			b = binary.AppendVarint(b, v)
		}
	}
	if has&hasRepeat != 0 {
		text, err := json.Marshal(r.Repeat)
		if err != nil {
			return nil, bus.Wrap(bus.Internal, "scheduler: encode timer", err)
		}
		b = appendText(b, string(text))
	}
	return b, nil
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

func appendMap(b []byte, m map[string]string) []byte {
	b = binary.AppendUvarint(b, uint64(len(m)))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		b = appendText(appendText(b, name), m[name])
	}
	return b
}

// graceMillis is a grace as a record has it.
func graceMillis(grace time.Duration) int64 {
	return int64((grace + time.Millisecond - 1) / time.Millisecond)
}

// overdueAt is when the server fires what is due then by itself: whole milliseconds take less room.
func overdueAt(due int64, grace time.Duration) time.Time {
	return time.Unix(0, due+int64(time.Millisecond)-1).Truncate(time.Millisecond).Add(time.Duration(graceMillis(grace)) * time.Millisecond).UTC()
}

// brief is what of a body an owner keeps of each timer.
type brief struct {
	name   string
	due    int64
	paused bool
}

// readBrief reads no more of a body than that.
func readBrief(body []byte) (brief, error) {
	fields, _, err := cutBody(body)
	d := decoder{rest: string(fields)}
	has := d.uvarint()
	b := brief{due: int64(d.fixed()), name: d.text(), paused: has&hasPaused != 0}
	if err != nil || d.bad {
		return brief{}, errBody
	}
	return b, nil
}

// cutBody is the record and the payload of a body.
func cutBody(body []byte) (fields, payload []byte, err error) {
	if len(body) == 0 || body[0] != bodyVersion {
		return nil, nil, errBody
	}
	n, used := binary.Uvarint(body[1:])
	if used <= 0 || n > uint64(len(body)-1-used) {
		return nil, nil, errBody
	}
	rest := body[1+used:]
	return rest[:n], rest[n:], nil
}

// decode reads a body.
func (r *record) decode(body []byte) (due int64, grace time.Duration, payload []byte, err error) {
	fields, payload, err := cutBody(body)
	if err != nil {
		return 0, 0, nil, err
	}
	d := decoder{rest: string(fields)}
	has := d.uvarint()
	due = int64(d.fixed())
	name := d.text()
	grace = time.Duration(min(d.uvarint(), uint64(maxGrace/time.Millisecond))) * time.Millisecond
	*r = record{name: name, Created: due - d.varint(), N: d.varint(), Paused: has&hasPaused != 0}
	r.Target.Transport = transportHTTP
	for _, f := range r.texts(has) {
		if f.there {
			*f.value = d.text()
		}
	}
	switch {
	case has&hasBinary != 0:
		r.ContentType = typeBinary
	case has&hasJSON != 0:
		r.ContentType = typeJSON
	}
	r.decodeRest(&d, has, due)
	if d.bad || d.rest != "" || has >= hasMore {
		return 0, 0, nil, errBody
	}
	return due, grace, payload, nil
}

func (r *record) decodeRest(d *decoder, has uint64, due int64) {
	if has&hasTimeout != 0 {
		r.Target.Timeout = time.Duration(d.varint())
	}
	if has&hasNominal != 0 {
		r.Nominal = due - d.varint()
	}
	if has&hasHeader != 0 {
		r.Header = d.texts()
	}
	if has&hasLabels != 0 {
		r.Labels = d.texts()
	}
	if has&hasRetry != 0 {
		r.Retry = Retry{int(d.varint()), time.Duration(d.varint()), time.Duration(d.varint()), time.Duration(d.varint())}
	}
	if has&hasRepeat != 0 {
		r.Repeat = new(Repeat)
		d.bad = json.Unmarshal([]byte(d.text()), r.Repeat) != nil || d.bad
	}
}

// decoder reads a record. What it reads after something bad means nothing.
type decoder struct {
	rest string
	bad  bool
}

func (d *decoder) fixed() uint64 {
	if len(d.rest) < 8 {
		d.bad, d.rest = true, ""
		return 0
	}
	n := binary.BigEndian.Uint64([]byte(d.rest[:8]))
	d.rest = d.rest[8:]
	return n
}

func (d *decoder) uvarint() (n uint64) {
	for i := range min(len(d.rest), binary.MaxVarintLen64) {
		c := d.rest[i]
		if n |= uint64(c&0x7f) << (7 * i); c < 0x80 {
			d.rest = d.rest[i+1:]
			return n
		}
	}
	d.bad, d.rest = true, ""
	return 0
}

func (d *decoder) varint() int64 {
	n := d.uvarint()
	return int64(n>>1) ^ -int64(n&1)
}

func (d *decoder) text() string {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, ""
		return ""
	}
	text := d.rest[:n]
	d.rest = d.rest[n:]
	return text
}

func (d *decoder) texts() map[string]string {
	n := d.uvarint()
	if n > uint64(len(d.rest)) { // each takes more than a byte
		d.bad, d.rest = true, ""
		return nil
	}
	m := make(map[string]string, min(n, MaxHeaders))
	for range n {
		name := d.text()
		m[name] = d.text()
	}
	return m
}
