package main

import (
	"encoding"
	"encoding/json"
	"reflect"
	"time"

	"github.com/alecthomas/kong"

	"github.com/skybus-io/skybus/initiators"
	gateway "github.com/skybus-io/skybus/initiators/http"
	"github.com/skybus-io/skybus/micro/route"
)

// schema is a JSON Schema, of draft 2020-12.
type schema map[string]any

func asType(kind, description string) schema { return schema{"type": kind, "description": description} }

func asWord(description string, values ...string) schema {
	s := asType("string", description)
	if len(values) > 0 {
		s["enum"] = values
	}
	return s
}

// text may be written as a number, too: a port, or a date.
func asText(description string) schema {
	return schema{"type": []string{"string", "number"}, "description": description}
}

func asSpan(description string) schema  { return asType("string", description+", as in 500ms or 10s") }
func asSize(description string) schema  { return asText(description + ", in bytes or as in 64KiB") }
func asCount(description string) schema { return asType("integer", description) }
func asTruth(description string) schema { return asType("boolean", description) }

func asList(of schema, description string) schema {
	return schema{"type": "array", "items": of, "description": description}
}

func asObject(description string, fields map[string]schema, required ...string) schema {
	s := schema{"type": []string{"object", "null"}, "properties": fields, "additionalProperties": false, "description": description}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

func asNamed(of schema, description string) schema {
	return schema{"type": []string{"object", "null"}, "additionalProperties": of, "propertyNames": schema{"pattern": "^[A-Za-z0-9_-]{1,64}$"}, "description": description}
}

// platformSchema describes the files of up, whose flags those are.
func platformSchema(flags map[string]*kong.Flag) ([]byte, error) {
	fields := map[string]schema{
		"routes": asNamed(routeSchema(), "Routes by their names. They take the place of those of the same names; others stay."),
		"gateway": asObject("The gateway", map[string]schema{
			"access":  structSchema(reflect.TypeFor[gatewayAccess]()),
			"entries": asNamed(structSchema(reflect.TypeFor[gateway.Entry]()), "Entries by their names. They take the place of those of the same names; others stay."),
		}),
		"config": configSchema(),
		"mirror": mirrorSchema(),
		"tcp":    tcpSchema(),
		"files":  filesSchema(),
	}
	for name, flag := range flags {
		fields[name] = flagSchema(flag)
	}
	s := asObject("A platform, for skybus up -f", fields)
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "skybus.yaml"
	return json.MarshalIndent(s, "", "  ")
}

func flagSchema(flag *kong.Flag) schema {
	switch {
	case flag.IsBool():
		return asTruth(flag.Help)
	case flag.IsSlice() && !isText(flag):
		return asList(asText(""), flag.Help)
	case flag.IsMap():
		return schema{"oneOf": []schema{asNamed(asText(""), flag.Help), asList(asWord("NAME=VALUE"), ""), asWord("NAME=VALUE")}}
	case flag.Enum != "":
		return asWord(flag.Help, flag.EnumSlice()...)
	}
	return asText(flag.Help)
}

func configSchema() schema {
	values := schema{"type": []string{"object", "null"}, "description": "Values by their keys"}
	return schema{
		"type": []string{"object", "null"}, "description": "Live configuration, below what the bucket has",
		"properties": map[string]schema{"all": values, "services": {"type": []string{"object", "null"}, "additionalProperties": values}},
	}
}

func routeSchema() schema {
	return asObject("A route", map[string]schema{
		"description": asWord("What it is for"),
		"steps": asList(asObject("A step", map[string]schema{
			"service":  asWord("Which service is called"),
			"endpoint": asWord("Which endpoint of it"),
			"route":    asWord("A route that is run in place of an endpoint"),
			"version":  asText("Which version of the service; any without it"),
			"async":    asTruth("Store the step and go on"),
			"retry":    asTruth("It may be called again after a time-out"),
			"required": asTruth("The route ends where this step fails; true unless it is said"),
			"timeout":  asSpan("How long it may take"),
		}), "What is called, in this order"),
	}, "steps")
}

func targetSchema() schema { return structSchema(reflect.TypeFor[initiators.Spec]()) }

func mirrorSchema() schema {
	return asObject("A mirror, as in mirror.yaml: docs/mirror.md", map[string]schema{
		"name": asWord("Its name"), "http": asText("Where clients come in"), "admin": asText("Where its admin API listens, or off"),
		"tls":        asObject("TLS of both listeners", map[string]schema{"cert": asWord("PEM file"), "key": asWord("PEM file")}),
		"token_file": asWord("File with the bearer tokens of the admin API"), "hosts": asList(asWord(""), "Hosts that clients may ask for"),
		"lanes": asCount("How many lanes"), "key": asWord("What decides the lane"), "methods": asList(asWord(""), "Methods that write"),
		"ack": asWord("When clients are answered", "first", "primary", "quorum", "all", "queued"),
		"ack_rules": asList(asObject("", map[string]schema{"method": asWord("Of requests with this method"), "path": asWord("And paths that begin so"), "ack": asWord("")}),
			"Other answers for some requests"),
		"primary": asWord("Which backend answers with ack: primary"), "answer_timeout": asSpan("How long a client waits for backends"),
		"status_path": asWord("Where clients ask what became of a write"), "divergence": asWord("What is done where backends differ", "park", "stop"),
		"reads": asObject("Reads", map[string]schema{
			"order": asWord("Which backend is read from"), "wait": asSpan("How long a read waits for its write"), "timeout": asSpan("How long a backend may take"),
			"cookie": asWord("Cookie that carries Skybus-Min-Seq"), "max_lag": asText("How far behind a backend may be that is read from, or any"),
		}),
		"health": asObject("Health checks", map[string]schema{
			"path": asWord("What is asked for"), "every": asSpan("How often"), "timeout": asSpan("How long an answer may take"), "status": asText("Which status is healthy"),
			"body": asWord("Regular expression of a healthy body"), "healthy": asCount("So many make it healthy"), "unhealthy": asCount("So many make it unhealthy"),
		}),
		"ejection": asObject("Outlier detection as Envoy's", map[string]schema{
			"consecutive_failures": asCount(""), "base_time": asSpan("How long for the first time"), "max_time": asSpan("How long at most"), "max_percent": asCount(""), "interval": asSpan("How often"),
		}),
		"store_timeout": asSpan("How long a write may take to be stored"),
		"retry":         asObject("Writes that fail", map[string]schema{"timeout": asSpan("How long a try may take"), "tries": asCount("How many 5xx are too many"), "max_age": asSpan("When a write is given up")}),
		"limits": asObject("Limits", map[string]schema{
			"max_body": asSize("Largest body"), "max_write_bytes": asSize("Bodies that are read at once"), "max_answer": asSize("Largest answer that is passed on"), "max_writes": asCount("Writes that are not stored yet"),
			"max_header": asSize("Largest header"), "max_fields": asCount("Header fields"), "max_target": asSize("Longest path and query"), "window": asCount("Writes in memory for a backend"),
			"window_bytes": asSize("And their size"), "drain_requests": asCount("Requests at once to a backend that is behind"), "history": asCount("Writes that are kept for diff"),
		}),
		"sender":          asObject("The process that sends", map[string]schema{"commit": asSpan("How often progress is stored"), "lease": asSpan("When another takes over"), "drain": asSpan("How long it may take to stop")}),
		"trust_forwarded": asTruth("Believe X-Forwarded-*"), "encoded_slash": asTruth("Take %2F in paths"),
		"backends": asList(asObject("", map[string]schema{
			"name": asWord("Its name"), "url": asWord("Where it is"), "priority": asCount("Order of reads"), "active": asTruth("It is used"), "maintenance": asTruth("Nothing is sent to it, all is kept"),
		}, "url"), "The copies of the application"),
	})
}

func tcpSchema() schema {
	return asObject("Listeners for TCP, as in tcp.yaml: docs/tcp.md", map[string]schema{
		"publish_prefixes": asList(asWord(""), "What subjects begin with that frames may be published to"),
		"listeners": asList(asObject("", map[string]schema{
			"name": asWord("Its name"), "listen": asWord("HOST:PORT"), "target": targetSchema(), "one_way": asTruth("Answer nothing"), "content_type": asWord("Of frames"), "errors": asWord("json, or a template"),
			"framing": {"oneOf": []schema{
				asWord("line, crlf, prefix1, prefix2, prefix4, prefix2-little, prefix4-little or fixed:BYTES"),
				asObject("", map[string]schema{
					"type": asWord("", "line", "prefix", "fixed"), "crlf": asTruth("Answers end with CRLF"), "keep_cr": asTruth("CR belongs to the frame"), "empty": asTruth("Empty lines are frames"),
					"bytes": asCount("Of the length: 1, 2 or 4"), "order": asWord("", "big", "little"), "size": asSize("Of each frame"), "binary": asTruth("Frames are bytes"),
				}, "type"),
			}},
			"limits": asObject("", map[string]schema{
				"max_frame": asSize("Longest frame"), "pipeline": asCount("Frames of a connection without an answer"), "in_flight": asCount("Of all connections"), "connections": asCount("At a time"),
				"connections_per_ip": asText("At a time, or any"),
			}),
			"timeouts": asObject("", map[string]schema{
				"request": asSpan("For an answer"), "frame": asSpan("For a frame that has begun"), "idle": asSpan("Between frames"), "write": asSpan("For an answer to be taken"), "drain": asSpan("To stop"),
			}),
			"keep_alive": asWord("Between probes of TCP, or off"),
			"rates": asObject("Frames", map[string]schema{
				"ip": rateSchema("From each address"), "certificate": rateSchema("By the name in a client's certificate"), "all": rateSchema("From all together"),
			}),
			"proxy_protocol": asList(asWord(""), "Addresses and networks of balancers that say whose connection it is"),
			"tls":            asObject("", map[string]schema{"cert": asWord("PEM file"), "key": asWord("PEM file"), "client_ca": asWord("PEM file; clients need a certificate then")}),
		}, "name", "listen", "target"), ""),
	}, "listeners")
}

func rateSchema(description string) schema {
	return asObject(description, map[string]schema{"requests": asCount("So many"), "per": asSpan("In this time; 1s unless it is said"), "burst": asCount("At once after a rest")}, "requests")
}

func filesSchema() schema {
	words := func(description string) schema { return asList(asWord(""), description) }
	return asObject("Sources of files, as in files.yaml: docs/files.md", map[string]schema{
		"publish_prefixes": words("What subjects begin with that records may be published to"),
		"sources": asList(asObject("", map[string]schema{
			"name": asWord("Its name, the same in all processes"), "per_host": asTruth("Each host has files of its own"), "dir": asWord("Directory to watch"), "follow": asWord("File to follow through rotation"),
			"from_end": asTruth("Begin at the end of it"), "rotated": words("Patterns of its older parts"), "include": words("Patterns of files"), "exclude": words("Patterns of files that are left alone"),
			"recursive": asTruth("Directories within too"), "order": asWord("Which file comes first"), "parallel": asCount("Records at a time"), "window": asCount("Records without an answer"),
			"checkpoint": asSpan("How often progress is stored"), "rescan": asSpan("How often the directory is read"), "after": asWord("What is done with finished files"),
			"done": asWord("Where they go"), "failed": asWord("Where refused records go"), "forget": asSpan("When progress of lost files is forgotten"), "timeout": asSpan("For an answer"),
			"once": asTruth("End when all is read"), "lease": asSpan("When another process takes over"), "drain": asSpan("To stop"), "target": targetSchema(), "quiet": asSpan("How long a file has to be still"),
			"retry":  asObject("", map[string]schema{"tries": asCount("0 for ever"), "first": asSpan("First pause"), "last": asSpan("Longest pause"), "codes": words("Codes of errors that are tried again")}),
			"format": asWord("What a record is"), "columns": words("Names of the columns of CSV without a header"), "content_type": asWord("Of records"), "max_record": asSize("Largest record"), "comma": asWord("Separator of CSV"),
		}, "name", "target"), ""),
	}, "sources")
}

// structSchema describes what JSON a type is read from.
func structSchema(t reflect.Type) schema {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[route.Duration](), t == reflect.TypeFor[time.Duration]():
		return asSpan("A duration")
	case t == reflect.TypeFor[initiators.Fields]():
		return schema{"type": []string{"object", "null"}, "additionalProperties": schema{"description": "A text with placeholders, or a constant of another type"}}
	case reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()):
		return schema{}
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return asText("")
	}
	switch t.Kind() {
	case reflect.Struct:
		fields := map[string]schema{}
		for _, f := range jsonFields(t) {
			fields[f.name] = structSchema(f.typ)
		}
		return asObject("", fields)
	case reflect.Map:
		return schema{"type": []string{"object", "null"}, "additionalProperties": structSchema(t.Elem())}
	case reflect.Slice:
		return asList(structSchema(t.Elem()), "")
	case reflect.Bool:
		return asTruth("")
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint64:
		return asCount("")
	case reflect.String:
		return asText("")
	default:
		return schema{}
	}
}
