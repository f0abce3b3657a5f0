package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/skybus-io/skybus/bus"
)

// Limits of a record. Together with all else it has to fit into MaxRecord.
const (
	MaxRecord        = 64 << 10 // bytes of JSON
	MaxEndpoints     = 1024
	MaxAttributes    = 64
	MaxAttribute     = 4 << 10 // bytes of JSON
	MaxMetadata      = 64
	MaxMetadataKey   = 128  // bytes
	MaxMetadataValue = 1024 // bytes
	MaxDescription   = 1024 // bytes of that of an endpoint
)

// Record is what an instance tells of itself.
type Record struct {
	Service     string    `json:"service"`
	Instance    string    `json:"instance"`
	Version     string    `json:"version"`
	Description string    `json:"description,omitempty"`
	Region      string    `json:"region,omitempty"`
	Host        string    `json:"host,omitempty"`
	PID         int       `json:"pid,omitempty"`
	Build       string    `json:"build,omitempty"`
	Started     time.Time `json:"started"`
	Registered  bool      `json:"registered"`
	// Session tells two lives of one id apart. The announcer makes it.
	Session   string     `json:"session,omitempty"`
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	// Attributes are JSON values that may change as the instance runs: at most 64, under tokens, of 4 KiB each.
	Attributes map[string]json.RawMessage `json:"attributes,omitempty"`
	// Metadata are facts about the instance as ADR-32 discovery shows them: at most 64.
	Metadata map[string]string `json:"metadata,omitempty"`
}

// Endpoint is one thing a service does.
type Endpoint struct {
	Name string `json:"name"`
	// Description is for people: at most 1 KiB.
	Description string `json:"description,omitempty"`
	// Idempotent: handling a request twice does no harm, so callers may send it again after a time-out.
	Idempotent bool `json:"idempotent,omitempty"`
	// OneWay: takes messages nobody waits for.
	OneWay bool `json:"one_way,omitempty"`
	// Amends: as a step of a route it is given the response of the steps before it.
	Amends bool `json:"amends,omitempty"`
	// Streams: takes or gives more than one message per call.
	Streams bool `json:"streams,omitempty"`
	// Internal: not for callers from outside the bus, who come through a gateway.
	Internal bool `json:"internal,omitempty"`
	// Request and Response are JSON schemas; nil where none is told.
	Request  json.RawMessage `json:"request,omitempty"`
	Response json.RawMessage `json:"response,omitempty"`
}

// Join is what two instances say of an endpoint together: it is idempotent, one-way, amending or streaming where both say so, and internal
// where one does. The description and the schemas are those of e.
func (e Endpoint) Join(other Endpoint) Endpoint {
	e.Idempotent, e.OneWay = e.Idempotent && other.Idempotent, e.OneWay && other.OneWay
	e.Amends, e.Streams = e.Amends && other.Amends, e.Streams && other.Streams
	e.Internal = e.Internal || other.Internal
	return e
}

// Endpoint is the endpoint of that name, and whether there is one.
func (r *Record) Endpoint(name string) (Endpoint, bool) {
	for _, e := range r.Endpoints {
		if e.Name == name {
			return e, true
		}
	}
	return Endpoint{}, false
}

// clone shares nothing with r but the bytes of JSON values, which nobody changes in place.
func (r *Record) clone() Record {
	c := *r
	c.Endpoints = slices.Clone(r.Endpoints)
	c.Attributes = maps.Clone(r.Attributes)
	c.Metadata = maps.Clone(r.Metadata)
	return c
}

// encodeRecord checks r and returns its JSON.
func encodeRecord(r *Record) ([]byte, error) {
	if err := bus.CheckToken("service", r.Service); err != nil {
		return nil, err
	}
	if err := bus.CheckToken("instance", r.Instance); err != nil {
		return nil, err
	}
	if err := bus.CheckVersion(r.Version); err != nil {
		return nil, err
	}
	if err := checkEndpoints(r.Endpoints); err != nil {
		return nil, err
	}
	if err := checkAttributes(r.Attributes); err != nil {
		return nil, err
	}
	if err := checkMetadata(r.Metadata); err != nil {
		return nil, err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return nil, bus.Errorf(bus.InvalidArgument, "record of %s/%s: %w", r.Service, r.Instance, err)
	}
	if len(data) > MaxRecord {
		return nil, bus.Errorf(bus.InvalidArgument, "record of %s/%s: %d bytes with its endpoints, attributes and metadata; want at most %d",
			r.Service, r.Instance, len(data), MaxRecord)
	}
	return data, nil
}

func checkEndpoints(endpoints []Endpoint) error {
	if n := len(endpoints); n > MaxEndpoints {
		return bus.Errorf(bus.InvalidArgument, "%d endpoints: want at most %d", n, MaxEndpoints)
	}
	names := make(map[string]struct{}, len(endpoints))
	for _, e := range endpoints {
		if err := bus.CheckToken("endpoint", e.Name); err != nil {
			return err
		}
		if _, twice := names[e.Name]; twice {
			return bus.Errorf(bus.InvalidArgument, "endpoint %q is there twice", e.Name)
		}
		names[e.Name] = struct{}{}
		if n := len(e.Description); n > MaxDescription {
			return bus.Errorf(bus.InvalidArgument, "endpoint %q: its description has %d bytes, want at most %d", e.Name, n, MaxDescription)
		}
		for _, schema := range [...]json.RawMessage{e.Request, e.Response} {
			if len(schema) > 0 && !json.Valid(schema) {
				return bus.Errorf(bus.InvalidArgument, "endpoint %q: its schema is not JSON", e.Name)
			}
		}
	}
	return nil
}

func checkAttributes(attributes map[string]json.RawMessage) error {
	if n := len(attributes); n > MaxAttributes {
		return bus.Errorf(bus.InvalidArgument, "%d attributes: want at most %d", n, MaxAttributes)
	}
	for key, value := range attributes {
		if err := bus.CheckToken("attribute", key); err != nil {
			return err
		}
		if len(value) > MaxAttribute {
			return bus.Errorf(bus.InvalidArgument, "attribute %q: %d bytes, want at most %d", key, len(value), MaxAttribute)
		}
		if !json.Valid(value) {
			return bus.Errorf(bus.InvalidArgument, "attribute %q: its value is not JSON", key)
		}
	}
	return nil
}

func checkMetadata(metadata map[string]string) error {
	if n := len(metadata); n > MaxMetadata {
		return bus.Errorf(bus.InvalidArgument, "%d metadata keys: want at most %d", n, MaxMetadata)
	}
	for key, value := range metadata {
		var bad string
		switch {
		case key == "" || len(key) > MaxMetadataKey:
			bad = fmt.Sprintf("its key has %d bytes, want 1 to %d", len(key), MaxMetadataKey)
		case len(value) > MaxMetadataValue:
			bad = fmt.Sprintf("%d bytes, want at most %d", len(value), MaxMetadataValue)
		case !utf8.ValidString(key) || !utf8.ValidString(value):
			bad = "not UTF-8"
		default:
			continue
		}
		return bus.Errorf(bus.InvalidArgument, "metadata %.40q: %s", key, bad)
	}
	return nil
}
