package file

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"sync"
	"unicode/utf8"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
)

// record is a piece of a file on its way to the target.
type record struct {
	piece

	of     *reading
	seq    uint64 // of the reading's tracker
	number int64  // counted from 1

	body    []byte
	fields  []string                   // of CSV
	members map[string]json.RawMessage // of a line that is a JSON object, once one was asked for
}

// prepare makes the body. It refuses what is not of the format.
func (r *record) prepare() *bus.Error {
	if r.err != nil {
		return r.err
	}
	r.body = r.data
	switch r.of.n.s.cfg.Format {
	case NDJSON:
		if !json.Valid(r.data) {
			return notJSON(r.data)
		}
	case CSV:
		return r.parseCSV()
	case Lines:
		if r.of.n.s.cfg.ContentType != "" {
			break
		}
		if !utf8.Valid(r.data) {
			return bus.Errorf(bus.InvalidArgument, "the line is not UTF-8, which JSON has to be; with content_type lines are sent as they are")
		}
		r.body = append(appendString(append(make([]byte, 0, len(r.data)+16), `{"line":`...), string(r.data)), '}')
	case Whole:
	}
	return nil
}

// notJSON says what is wrong with a line.
func notJSON(line []byte) *bus.Error {
	err := json.Unmarshal(line, new(json.RawMessage))
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return bus.Wrap(bus.InvalidArgument, "not JSON: "+syntax.Error()+" at byte "+strconv.FormatInt(syntax.Offset, 10), err)
	}
	return bus.Errorf(bus.InvalidArgument, "not JSON")
}

func (r *record) parseCSV() *bus.Error {
	fields, err := parseFields(r.data, r.of.n.s.cfg.Comma)
	if err != nil {
		return err
	}
	columns := r.of.columns
	if len(fields) != len(columns) {
		return bus.Errorf(bus.InvalidArgument, "%d fields, the header has %d", len(fields), len(columns))
	}
	r.fields = fields
	r.body = appendObject(make([]byte, 0, 2*len(r.data)), columns, fields)
	return nil
}

// appendObject adds columns as a JSON object, in their order.
func appendObject(b []byte, columns, fields []string) []byte {
	b = append(b, '{')
	for i, name := range columns {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, name), ':')
		b = appendString(b, fields[i])
	}
	return append(b, '}')
}

// appendString adds a JSON string. Most need no escapes.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return appendEscaped(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendEscaped(b []byte, s string) []byte {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil { // a string has no way to fail
		return append(b, `""`...)
	}
	return append(b, bytes.TrimSuffix(text.Bytes(), []byte("\n"))...)
}

// csvParser is a csv.Reader that is used for one record after the other.
type csvParser struct {
	in  bytes.Reader
	csv *csv.Reader
}

// parsers are those that are free: one costs 4 KiB.
var parsers sync.Pool //nolint:gochecknoglobals // a cache

func newCSVParser() *csvParser {
	p := &csvParser{}
	p.csv = csv.NewReader(&p.in)
	p.csv.FieldsPerRecord = -1
	return p
}

// parseFields reads one record of CSV.
func parseFields(data []byte, comma rune) ([]string, *bus.Error) {
	if !utf8.Valid(data) {
		return nil, bus.Errorf(bus.InvalidArgument, "the record is not UTF-8")
	}
	p, ok := parsers.Get().(*csvParser)
	if !ok {
		p = newCSVParser()
	}
	p.csv.Comma = comma
	p.in.Reset(data)
	fields, err := p.csv.Read()
	if err == nil {
		if _, more := p.csv.Read(); !errors.Is(more, io.EOF) {
			return nil, bus.Errorf(bus.InvalidArgument, "not a record of CSV")
		}
		parsers.Put(p)
		return fields, nil
	}
	// Its state is unknown now, so it does not go back.
	text := err.Error()
	if parse, ok := errors.AsType[*csv.ParseError](err); ok {
		text = parse.Err.Error() + " at byte " + strconv.Itoa(parse.Column)
	}
	return nil, bus.Wrap(bus.InvalidArgument, "not CSV: "+text, err)
}

// request is the record as the target is given it.
func (r *record) request() initiators.Request {
	return initiators.Request{Key: r.key(), ContentType: r.of.contentType, Body: r.body, Values: r.value}
}

// key is the same whenever this record is sent.
func (r *record) key() string { return r.of.id + "-" + strconv.FormatInt(r.offset, 10) }

// value is what a placeholder of a mapping stands for.
func (r *record) value(name string) (string, bool) {
	switch name {
	case "file":
		return r.of.name, true
	case "offset":
		return strconv.FormatInt(r.offset, 10), true
	case "number":
		return strconv.FormatInt(r.number, 10), true
	case "line":
		return string(r.data), r.of.n.s.cfg.Format != Whole
	}
	const prefix = "record."
	if len(name) <= len(prefix) || name[:len(prefix)] != prefix {
		return "", false
	}
	return r.member(name[len(prefix):])
}

// member is a column of CSV, or a member of a line that is a JSON object: text as it is, anything else as JSON.
func (r *record) member(name string) (string, bool) {
	switch r.of.n.s.cfg.Format {
	case CSV:
		for i, column := range r.of.columns {
			if column == name {
				return r.fields[i], true
			}
		}
	case NDJSON:
		if r.members == nil {
			if json.Unmarshal(r.data, &r.members) != nil {
				r.members = map[string]json.RawMessage{}
			}
		}
		raw, ok := r.members[name]
		if !ok {
			return "", false
		}
		var text string
		if json.Unmarshal(raw, &text) == nil && string(raw) != "null" {
			return text, true
		}
		return string(raw), true
	case Lines, Whole:
	}
	return "", false
}
