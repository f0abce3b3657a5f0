package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/mirror"
)

// Where a mirror listens, unless it is told.
const (
	defaultMirror      = loopbackHost + ":7117"
	defaultMirrorAdmin = loopbackHost + ":7118"
)

const maxMirrorFile = 1 << 20

// mirrorSetup is what a file, and flags over it, say about a mirror and the process that runs it.
type mirrorSetup struct {
	mirror.Config

	HTTP, Admin     string
	TLSCert, TLSKey string
	TokenFile       string
	Hosts           []string // that clients may ask for where only this machine is listened to
	Backends        []mirrorSeed
	Exact           bool     // the backends of the file are all there are to be
	Test            bool     // check and stop
	Notes           []string // what is not as it was for Spawn
}

// mirrorSeed is a backend of the file. Of one that is there already, what is nil is left as it is.
type mirrorSeed struct {
	Name, URL           string
	Priority            *int
	Active, Maintenance *bool

	idle bool // where the file does not say: a new one of Spawn's is not active, of ours it is
}

// apply is the backend as the file has it, where it was old, or nothing.
func (s *mirrorSeed) apply(old mirror.Backend) mirror.Backend {
	b := old
	if b.Name == "" {
		b.Active = !s.idle
	}
	b.Name, b.URL = s.Name, s.URL
	b.Priority, b.Active, b.Maintenance = orElse(s.Priority, b.Priority), orElse(s.Active, b.Active), orElse(s.Maintenance, b.Maintenance)
	return b
}

func orElse[T any](v *T, other T) T {
	if v == nil {
		return other
	}
	return *v
}

// readMirrorFile reads a file of ours or of Spawn's. The empty name is no file.
func readMirrorFile(name string) (*mirrorSetup, error) {
	if name == "" {
		return &mirrorSetup{}, nil
	}
	info, err := os.Stat(name)
	if err == nil && info.Size() > maxMirrorFile {
		return nil, usagef("%s has more than %d bytes", name, maxMirrorFile)
	}
	if err != nil {
		return nil, usagef("%v", err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, usagef("%v", err)
	}
	s, err := parseMirror(name, data)
	if err != nil {
		return nil, withHint(usagef("%s", message(err)), "docs/mirror.md has all fields; `skybus mirror run --test -f %s` checks it", name)
	}
	s.relativeTo(filepath.Dir(name))
	return s, nil
}

// relativeTo takes files for those of a directory, where they do not say.
func (s *mirrorSetup) relativeTo(dir string) {
	for _, path := range []*string{&s.TLSCert, &s.TLSKey, &s.TokenFile} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
}

// parseMirror reads a mirror from YAML, of which JSON is a part. All mistakes are told, each with its line and field.
func parseMirror(file string, data []byte) (*mirrorSetup, error) {
	f := mirrorFile{yamlFile: yamlFile{what: "mirror"}, s: &mirrorSetup{}}
	if json.Valid(data) {
		data = bytes.ReplaceAll(data, []byte("\t"), []byte("  ")) // outside of strings, where JSON has none; YAML has none at all
	}
	if body := f.read(data); body != nil {
		f.mirror(body)
	}
	if len(f.mistakes) == 0 {
		f.validate()
	}
	return f.s, f.err(file)
}

// mirrorFile is a file with a mirror.
type mirrorFile struct {
	yamlFile

	s     *mirrorSetup
	spawn bool
}

// field reads one field of a file.
type field = func(path string, n ast.Node)

func (f *mirrorFile) mirror(body ast.Node) {
	own, spawn := f.ownFields(), f.spawnFields()
	ours := false
	if object, ok := f.value(body).(ast.MapNode); ok {
		for fields := object.MapRange(); fields.Next(); {
			name := fields.Key().GetToken().Value
			ours, f.spawn = ours || own[name] != nil, f.spawn || spawn[name] != nil
		}
	}
	if f.spawn = f.spawn && !ours; f.spawn {
		f.fields("", body, spawn)
		f.s.fromSpawn()
		return
	}
	f.elsewhere = map[string]string{}
	for name, instead := range map[string]string{
		"host": "http: HOST:PORT", "port": "http: HOST:PORT", "api": "admin: HOST:PORT", "query-mode": "reads", "health-check": "health", "nodes": "backends",
		"auth": "token_file", "testMode": "the flag --test",
	} {
		f.elsewhere[name] = "that is a field of Spawn's files; here it is " + instead
	}
	f.fields("", body, own)
}

// into returns a field that is text.
func into[T ~string](f *mirrorFile, v *T) field {
	return func(path string, n ast.Node) { *v = T(f.text(path, n)) }
}

func (f *mirrorFile) duringInto(v *time.Duration) field {
	return func(path string, n ast.Node) { *v = f.duration(path, n) }
}

func (f *mirrorFile) numberInto(v *int) field {
	return func(path string, n ast.Node) { *v, _ = f.integer(path, n) }
}

func (f *mirrorFile) section(known map[string]field) field {
	return func(path string, n ast.Node) {
		if _, null := f.value(n).(*ast.NullNode); !null {
			f.fields(path, n, known)
		}
	}
}

func (f *mirrorFile) ownFields() map[string]field {
	s := f.s
	return map[string]field{
		"name":           into(f, &s.Name),
		"http":           into(f, &s.HTTP),
		"admin":          into(f, &s.Admin),
		"tls":            f.section(map[string]field{"cert": into(f, &s.TLSCert), "key": into(f, &s.TLSKey)}),
		"token_file":     into(f, &s.TokenFile),
		"hosts":          func(path string, n ast.Node) { s.Hosts = f.texts(path, n, "hosts") },
		"lanes":          f.numberInto(&s.Lanes),
		"key":            into(f, &s.Key),
		"methods":        func(path string, n ast.Node) { s.WriteMethods = f.texts(path, n, "methods") },
		"ack":            into(f, &s.Ack),
		"ack_rules":      f.ackRules,
		"primary":        into(f, &s.Primary),
		"answer_timeout": f.duringInto(&s.AnswerTimeout),
		"status_path":    into(f, &s.StatusPath),
		"divergence":     into(f, &s.Divergence),
		"reads":          f.section(f.readFields()),
		"health":         f.section(f.healthFields()),
		"ejection":       f.section(f.ejectionFields()),
		"store_timeout":  f.duringInto(&s.StoreTimeout),
		"retry": f.section(map[string]field{
			"timeout": f.duringInto(&s.TryTimeout),
			"tries":   f.numberInto(&s.Tries),
			"max_age": f.duringInto(&s.MaxAge),
		}),
		"limits":   f.section(f.limitFields()),
		"sender":   f.section(map[string]field{"commit": f.duringInto(&s.Commit), "lease": f.duringInto(&s.Lease), "drain": f.duringInto(&s.Drain)}),
		"backends": f.backends,
		"trust_forwarded": func(path string, n ast.Node) {
			s.TrustForwarded, _ = f.boolean(path, n)
		},
		"encoded_slash": func(path string, n ast.Node) {
			s.EncodedSlash, _ = f.boolean(path, n)
		},
	}
}

func (f *mirrorFile) readFields() map[string]field {
	s := f.s
	return map[string]field{
		"order":   into(f, &s.Reads),
		"wait":    f.duringInto(&s.ReadWait),
		"timeout": f.duringInto(&s.ReadTimeout),
		"cookie":  into(f, &s.Cookie),
		"max_lag": func(path string, n ast.Node) {
			if f.text(path, n) == "any" {
				s.MaxLag = -1
				return
			}
			s.MaxLag = f.duration(path, n)
		},
	}
}

func (f *mirrorFile) healthFields() map[string]field {
	h := &f.s.Health
	return map[string]field{
		"path":      into(f, &h.Path),
		"every":     f.duringInto(&h.Every),
		"timeout":   f.duringInto(&h.Timeout),
		"status":    into(f, &h.Status),
		"body":      into(f, &h.Body),
		"healthy":   f.numberInto(&h.Healthy),
		"unhealthy": f.numberInto(&h.Unhealthy),
	}
}

func (f *mirrorFile) ejectionFields() map[string]field {
	e := &f.s.Ejection
	return map[string]field{
		"consecutive_failures": f.numberInto(&e.ConsecutiveFailures),
		"base_time":            f.duringInto(&e.BaseEjectionTime),
		"max_time":             f.duringInto(&e.MaxEjectionTime),
		"max_percent":          f.numberInto(&e.MaxEjectionPercent),
		"interval":             f.duringInto(&e.Interval),
	}
}

func (f *mirrorFile) limitFields() map[string]field {
	s := f.s
	bytes := func(set func(int64)) field {
		return func(path string, n ast.Node) { set(f.size(path, n)) }
	}
	return map[string]field{
		"max_body":        bytes(func(v int64) { s.MaxBody = v }),
		"max_write_bytes": bytes(func(v int64) { s.MaxWriteBytes = v }),
		"max_answer":      bytes(func(v int64) { s.MaxAnswer = int(v) }),
		"max_writes":      f.numberInto(&s.MaxWrites),
		"max_header":      bytes(func(v int64) { s.MaxHeader = int(v) }),
		"max_fields":      f.numberInto(&s.MaxFields),
		"max_target":      bytes(func(v int64) { s.MaxTarget = int(v) }),
		"window":          f.numberInto(&s.Window),
		"window_bytes":    bytes(func(v int64) { s.WindowBytes = int(v) }),
		"drain_requests":  f.numberInto(&s.DrainRequests),
		"history": func(path string, n ast.Node) {
			v, ok := f.integer(path, n)
			if s.History = v; ok && v == 0 {
				s.History = -1
			}
		},
	}
}

func (f *mirrorFile) ackRules(path string, n ast.Node) {
	f.list(path, n, "rules", func(path string, n ast.Node) {
		var r mirror.AckRule
		f.fields(path, n, map[string]field{"method": into(f, &r.Method), "path": into(f, &r.Path), "ack": into(f, &r.Ack)})
		f.s.AckRules = append(f.s.AckRules, r)
	})
}

func (f *mirrorFile) backends(path string, n ast.Node) {
	f.list(path, n, "backends", func(path string, n ast.Node) {
		var s mirrorSeed
		f.fields(path, n, map[string]field{
			"name":        into(f, &s.Name),
			"url":         into(f, &s.URL),
			"priority":    f.optionalNumber(&s.Priority),
			"active":      f.optionalBoolean(&s.Active),
			"maintenance": f.optionalBoolean(&s.Maintenance),
		})
		f.seed(s)
	})
}

func (f *mirrorFile) optionalNumber(v **int) field {
	return func(path string, n ast.Node) {
		if number, ok := f.integer(path, n); ok {
			*v = &number
		}
	}
}

func (f *mirrorFile) optionalBoolean(v **bool) field {
	return func(path string, n ast.Node) {
		if b, ok := f.boolean(path, n); ok {
			*v = &b
		}
	}
}

// seed adds a backend, with the name that its host and port give it where it has none.
func (f *mirrorFile) seed(s mirrorSeed) {
	s.URL = strings.TrimSuffix(s.URL, "/")
	if s.Name == "" {
		if host, port := (mirror.Backend{URL: s.URL}).HostPort(); host != "" {
			s.Name = mirror.NameFor(host, port)
		}
	}
	f.s.Backends = append(f.s.Backends, s)
}

// validate finds what is wrong with a mirror that can be read.
func (f *mirrorFile) validate() {
	if err := f.s.Validate(); err != nil {
		path := f.configPath(bus.AsError(err).Details["field"])
		f.mistake(f.lineOf(path), path, "%s", strings.TrimPrefix(configText.ReplaceAllString(message(err), ""), path+": "))
	}
	for path, addr := range map[string]string{"http": f.s.HTTP, "admin": f.s.Admin} {
		if addr == "" || addr == noListener && path == "admin" {
			continue
		}
		if err := checkAddr(path, addr); err != nil {
			f.mistake(f.lineOf(path), "", "%v", err)
		}
	}
	if (f.s.TLSCert == "") != (f.s.TLSKey == "") {
		f.mistake(f.lineOf("tls"), "tls", "cert and key go together")
	}
	list := "backends"
	if f.spawn {
		list = "nodes"
	}
	if n := len(f.s.Backends); n > mirror.MaxBackends {
		f.mistake(f.lineOf(list), list, "%d of them, at most %d are taken", n, mirror.MaxBackends)
	}
	for i, s := range f.s.Backends {
		path := fmt.Sprintf("%s[%d]", list, i)
		if err := s.apply(mirror.Backend{}).Validate(); err != nil {
			at := path + "." + bus.AsError(err).Details["field"]
			f.mistake(f.lineOf(at), path, "%s", strings.TrimPrefix(message(err), "backend: "))
		}
		if first := slices.IndexFunc(f.s.Backends[:i], func(other mirrorSeed) bool { return other.Name == s.Name }); first >= 0 {
			f.mistake(f.lineOf(path), path, "%q is there already, as %s[%d]", s.Name, list, first)
		}
	}
}

// configText is how mirror.Config speaks of its own fields.
var configText = regexp.MustCompile(`^Config\.[\w.]+:? (is |has )?`)

// configPath is where the file has a field of mirror.Config.
func (f *mirrorFile) configPath(name string) string {
	paths := map[string]string{
		"Commit": "sender.commit", "Divergence": "divergence", "DrainRequests": "limits.drain_requests", "Lanes": "lanes", "Lease": "sender.lease",
		"MaxAnswer": "limits.max_answer", "MaxBody": "limits.max_body", "MaxFields": "limits.max_fields", "MaxHeader": "limits.max_header",
		"MaxTarget": "limits.max_target", "MaxWriteBytes": "limits.max_write_bytes", "MaxWrites": "limits.max_writes", "Reads": "reads.order",
		"StatusPath": "status_path", "StoreTimeout": "store_timeout", "Tries": "retry.tries", "Window": "limits.window",
		"WindowBytes": "limits.window_bytes", "WriteMethods": "methods",
	}
	if part, ok := strings.CutPrefix(name, "Health."); ok {
		if f.spawn {
			return "health-check." + map[string]string{"Path": "url", "Body": "regexp"}[part]
		}
		return "health." + strings.ToLower(part)
	}
	return cmp.Or(paths[name], name)
}
