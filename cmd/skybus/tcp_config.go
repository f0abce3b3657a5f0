package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
	"github.com/skybus-io/skybus/initiators/http/limit"
	"github.com/skybus-io/skybus/initiators/tcp"
	"github.com/skybus-io/skybus/internal/tlsfiles"
	"github.com/skybus-io/skybus/micro/route"
)

const (
	maxTCPFile   = 1 << 20
	maxListeners = 256
)

// tcpSetup is what a file says of listeners for TCP: the whole of tcp.yaml, or the section tcp of the file of a platform.
type tcpSetup struct {
	Listeners []tcpListener
	// PublishPrefixes are what subjects may begin with that targets publish to. None means APP.ENV.pub. alone.
	PublishPrefixes []string
}

// tcpListener is one of them.
type tcpListener struct {
	tcp.Config

	Listen    string
	Target    initiators.Spec
	Files     tlsfiles.Files // of TLS; without a certificate it is plain
	ErrorText string         // json, a template, or nothing for the default
}

// readTCPFile reads a file with listeners.
func readTCPFile(name string) (*tcpSetup, error) {
	data, err := readSettings(name, maxTCPFile)
	if err != nil {
		return nil, usagef("%v", err)
	}
	s, err := parseTCP(name, data)
	if err != nil {
		return nil, withHint(usagef("%s", message(err)), "docs/tcp.md has all fields; `skybus tcp --test -f %s` checks it", name)
	}
	s.relativeTo(filepath.Dir(name))
	return s, nil
}

// parseTCP reads listeners from YAML. All mistakes are told, each with its line and field.
func parseTCP(file string, data []byte) (*tcpSetup, error) {
	f := &yamlFile{what: "list of listeners"}
	s := &tcpSetup{}
	if body := f.read(data); body != nil {
		f.fields("", body, s.fields(f))
		if len(f.mistakes) == 0 && len(s.Listeners) == 0 {
			f.mistake(0, "listeners", "there is none")
		}
	}
	if len(f.mistakes) == 0 {
		s.validate(f, "")
	}
	return s, f.err(file)
}

// relativeTo takes files for those of a directory, where they do not say.
func (s *tcpSetup) relativeTo(dir string) {
	for i := range s.Listeners {
		files := &s.Listeners[i].Files
		for _, path := range []*string{&files.Cert, &files.Key, &files.ClientCA} {
			if *path != "" && !filepath.IsAbs(*path) {
				*path = filepath.Join(dir, *path)
			}
		}
	}
}

// fields are those of a section with listeners.
func (s *tcpSetup) fields(f *yamlFile) map[string]field {
	return map[string]field{
		"publish_prefixes": func(path string, n ast.Node) {
			for _, p := range f.texts(path, n, "prefixes") {
				s.PublishPrefixes = append(s.PublishPrefixes, subjectPrefix(p))
			}
		},
		"listeners": func(path string, n ast.Node) {
			f.list(path, n, "listeners", func(path string, n ast.Node) {
				var l tcpListener
				f.fields(path, n, l.fields(f))
				s.Listeners = append(s.Listeners, l)
			})
		},
	}
}

func (l *tcpListener) fields(f *yamlFile) map[string]field {
	return map[string]field{
		"name":         textInto(f, &l.Name),
		"listen":       textInto(f, &l.Listen),
		"framing":      l.framing(f),
		"target":       f.target(&l.Target),
		"one_way":      flagInto(f, &l.OneWay),
		"content_type": textInto(f, &l.ContentType),
		"errors":       textInto(f, &l.ErrorText),
		"limits": f.section(map[string]field{
			"max_frame":   sizeInto(f, &l.MaxFrame),
			"pipeline":    countInto(f, &l.Pipeline),
			"in_flight":   countInto(f, &l.MaxInFlight),
			"connections": countInto(f, &l.MaxConns),
			"connections_per_ip": func(path string, n ast.Node) {
				if f.text(path, n) == "any" {
					l.MaxConnsPerIP = -1
					return
				}
				countInto(f, &l.MaxConnsPerIP)(path, n)
			},
		}),
		"timeouts": f.section(map[string]field{
			"request": timeInto(f, &l.Timeout),
			"frame":   timeInto(f, &l.FrameTimeout),
			"idle":    timeInto(f, &l.IdleTimeout),
			"write":   timeInto(f, &l.WriteTimeout),
			"drain":   timeInto(f, &l.Drain),
		}),
		"keep_alive": func(path string, n ast.Node) {
			if f.text(path, n) == "off" {
				l.KeepAlive = -1
				return
			}
			timeInto(f, &l.KeepAlive)(path, n)
		},
		"rates": f.section(map[string]field{
			"ip": rateInto(f, &l.Rates.IP), "certificate": rateInto(f, &l.Rates.Key), "all": rateInto(f, &l.Rates.All),
		}),
		"proxy_protocol": func(path string, n ast.Node) { l.ProxyProtocol = f.texts(path, n, "addresses and networks") },
		"tls":            f.section(map[string]field{"cert": textInto(f, &l.Files.Cert), "key": textInto(f, &l.Files.Key), "client_ca": textInto(f, &l.Files.ClientCA)}),
	}
}

// framing is a word, or fields.
func (l *tcpListener) framing(f *yamlFile) field {
	return func(path string, n ast.Node) {
		var err error
		if _, fields := f.value(n).(ast.MapNode); !fields {
			if text := f.text(path, n); text != "" {
				if l.Framing, err = parseFraming(text); err != nil {
					f.mistake(lineOf(n), path, "%v", err)
				}
			}
			return
		}
		var kind, order string
		var line tcp.Line
		var prefix tcp.Prefix
		var fixed tcp.Fixed
		given := map[string]string{} // the type whose field it is
		of := func(name, kind string, read field) field {
			return func(path string, n ast.Node) {
				given[name] = kind
				read(path, n)
			}
		}
		f.fields(path, n, map[string]field{
			"type":    textInto(f, &kind),
			"crlf":    of("crlf", "line", flagInto(f, &line.CRLF)),
			"keep_cr": of("keep_cr", "line", flagInto(f, &line.KeepCR)),
			"empty":   of("empty", "line", flagInto(f, &line.Empty)),
			"bytes":   of("bytes", "prefix", countInto(f, &prefix.Bytes)),
			"order":   of("order", "prefix", textInto(f, &order)),
			"size":    of("size", "fixed", sizeInto(f, &fixed.Size)),
			"binary":  of("binary", "fixed", flagInto(f, &fixed.Binary)),
		})
		switch order {
		case "", "big":
		case "little":
			prefix.LittleEndian = true
		default:
			f.mistake(f.lineOf(path+".order"), path+".order", "%.40q: want big or little", order)
		}
		for name, of := range given {
			if of != kind {
				f.mistake(f.lineOf(path+"."+name), path+"."+name, "is for the type %s", of)
			}
		}
		switch kind {
		case "line":
			l.Framing = line
		case "prefix":
			l.Framing = prefix
		case "fixed":
			l.Framing = fixed
		default:
			f.mistake(f.lineOf(path), path+".type", "%.40q: want line, prefix or fixed", kind)
		}
	}
}

// parseFraming reads a framing that is one word, as flags and files have it.
func parseFraming(text string) (tcp.Framing, error) {
	word, little := strings.CutSuffix(text, "-little")
	switch {
	case text == "line":
		return tcp.Line{}, nil
	case text == "crlf":
		return tcp.Line{CRLF: true}, nil
	case word == "prefix1" && !little, word == "prefix2", word == "prefix4":
		return tcp.Prefix{Bytes: int(word[len(word)-1] - '0'), LittleEndian: little}, nil
	}
	if size, ok := strings.CutPrefix(text, "fixed:"); ok {
		if n, err := strconv.Atoi(size); err == nil && n > 0 {
			return tcp.Fixed{Size: n}, nil
		}
	}
	return nil, fmt.Errorf("%.40q: want line, crlf, prefix1, prefix2, prefix4, prefix2-little, prefix4-little or fixed:BYTES", text)
}

// rateInto is for a rate, such as {requests: 100, per: 1m, burst: 20}.
func rateInto(f *yamlFile, v **limit.Rate) field {
	return func(path string, n ast.Node) {
		r := &limit.Rate{}
		var per time.Duration
		f.section(map[string]field{"requests": countInto(f, &r.Requests), "per": timeInto(f, &per), "burst": countInto(f, &r.Burst)})(path, n)
		r.Per = route.Duration(per)
		*v = r
	}
}

// validate finds what is wrong with listeners that could be read, in a file where their section is at path. It makes what their configurations need.
func (s *tcpSetup) validate(f *yamlFile, path string) {
	list := strings.TrimPrefix(path+".listeners", ".")
	if len(s.Listeners) > maxListeners {
		f.mistake(f.lineOf(list), list, "%d of them, at most %d are taken", len(s.Listeners), maxListeners)
	}
	for i := range s.Listeners {
		l := &s.Listeners[i]
		at := fmt.Sprintf("%s[%d]", list, i)
		l.validate(f, at)
		for j, other := range s.Listeners[:i] {
			if other.Name == l.Name {
				f.mistake(f.lineOf(at+".name"), at+".name", "%q is there already, as %s[%d]", l.Name, list, j)
			}
			if sameAddress(other.Listen, l.Listen) {
				f.mistake(f.lineOf(at+".listen"), at+".listen", "%s is that of %s[%d] already", l.Listen, list, j)
			}
		}
	}
}

func (l *tcpListener) validate(f *yamlFile, at string) {
	wrong := func(name, text string) {
		path := at + "." + name
		f.mistake(f.lineOf(path), path, "%s", text)
	}
	if err := bus.CheckToken("name", l.Name); err != nil {
		wrong("name", strings.TrimPrefix(message(err), "name "))
	}
	if l.Listen == "" {
		wrong("listen", "is missing: want HOST:PORT")
	} else if err := checkAddr("listen", l.Listen); err != nil {
		wrong("listen", strings.TrimPrefix(err.Error(), "listen "))
	}
	f.checkTarget(at+".target", l.Target, l.hasValue, "{line}, {frame}, {body.NAME}, {number}, {connection}, {remote}, {tls.cn} (with tls.client_ca) or {id}")
	if (l.Files.Cert == "") != (l.Files.Key == "") || l.Files.Cert == "" && l.Files.ClientCA != "" {
		wrong("tls", "cert and key go together, and client_ca with them")
	}
	if err := l.complete(); err != nil {
		name := l.path(bus.AsError(err).Details["field"])
		wrong(name, tcpFieldText.ReplaceAllString(message(err), ""))
	}
}

// hasValue tells whether a placeholder may stand for something of a frame.
func (l *tcpListener) hasValue(name string) bool {
	return name == "tls.cn" && l.Files.ClientCA != "" || slices.Contains([]string{"line", "frame", "number", "connection", "remote"}, name)
}

// complete makes the form of errors, and checks all of the configuration.
func (l *tcpListener) complete() (err error) {
	l.Errors = tcp.JSONErrors
	if l.ErrorText != "" && l.ErrorText != "json" {
		if l.Errors, err = tcp.TextErrors(l.ErrorText); err != nil {
			return bus.AsError(err).With("field", "Errors")
		}
	}
	return l.Validate()
}

// tcpFieldText is how tcp.Config speaks of its own fields.
var tcpFieldText = regexp.MustCompile(`^((Config\.\w+ is|error template) |Rates\.|ProxyProtocol)`)

// path is where a file has a field of tcp.Config.
func (*tcpListener) path(name string) string {
	paths := map[string]string{
		"Framing": "framing", "Errors": "errors", "MaxFrame": "limits.max_frame", "Pipeline": "limits.pipeline", "MaxInFlight": "limits.in_flight",
		"MaxConns": "limits.connections", "Timeout": "timeouts.request", "FrameTimeout": "timeouts.frame", "IdleTimeout": "timeouts.idle",
		"WriteTimeout": "timeouts.write", "Drain": "timeouts.drain", "Rates": "rates", "ProxyProtocol": "proxy_protocol",
	}
	return cmp.Or(paths[name], name)
}
