package main

import (
	"cmp"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/skybus-io/skybus/mirror"
)

// spawnFields are those of a file of Spawn's. None of them is one of ours.
func (f *mirrorFile) spawnFields() map[string]field {
	s := f.s
	health := func(v *time.Duration) field {
		return func(path string, n ast.Node) {
			seconds, ok := f.integer(path, n)
			switch {
			case ok && seconds < 0:
				f.mistake(lineOf(n), path, "%d: want 0 seconds or more", seconds)
			case ok:
				*v = time.Duration(seconds) * time.Second
			}
		}
	}
	return map[string]field{
		"host":         func(path string, n ast.Node) { s.HTTP = withPart(s.HTTP, f.text(path, n), "") },
		"port":         f.spawnPort(&s.HTTP),
		"api":          f.section(map[string]field{"host": func(path string, n ast.Node) { s.Admin = withPart(s.Admin, f.text(path, n), "") }, "port": f.spawnPort(&s.Admin)}),
		"query-mode":   f.spawnQueryMode,
		"health-check": f.section(map[string]field{"seconds": health(&s.Health.Every), "url": into(f, &s.Health.Path), "regexp": into(f, &s.Health.Body)}),
		"nodes":        f.spawnNodes,
		"auth":         f.spawnAuth,
		"testMode":     func(path string, n ast.Node) { s.Test, _ = f.boolean(path, n) },
	}
}

// spawnQueryMode says which node gets a read: each in turn, in the order of their priorities, or always the first that is healthy. Without
// by-priority Spawn's order was that of a map, which is none.
func (f *mirrorFile) spawnQueryMode(path string, n ast.Node) {
	ring := false
	f.section(map[string]field{
		"round-robin": func(path string, n ast.Node) { ring, _ = f.boolean(path, n) },
		"by-priority": func(path string, n ast.Node) { _, _ = f.boolean(path, n) },
	})(path, n)
	if ring {
		f.s.Reads = mirror.RoundRobin
	}
}

func (f *mirrorFile) spawnPort(addr *string) field {
	return func(path string, n ast.Node) {
		port, ok := f.integer(path, n)
		if !ok {
			return
		}
		if port < 0 || port > 65535 {
			f.mistake(lineOf(n), path, "%d is no port", port)
			return
		}
		*addr = withPart(*addr, "", strconv.Itoa(port))
	}
}

// withPart is an address with another host or another port. Either may be missing until both are known.
func withPart(addr, host, port string) string {
	oldHost, oldPort, _ := net.SplitHostPort(addr) // the empty address is none
	return net.JoinHostPort(cmp.Or(host, oldHost), cmp.Or(port, oldPort))
}

func (f *mirrorFile) spawnNodes(path string, n ast.Node) {
	f.list(path, n, "nodes", func(path string, n ast.Node) {
		s := mirrorSeed{idle: true}
		var host string
		var port int
		f.fields(path, n, map[string]field{
			"host":        into(f, &host),
			"port":        f.numberInto(&port),
			"priority":    f.optionalNumber(&s.Priority),
			"active":      f.optionalBoolean(&s.Active),
			"maintenance": f.optionalBoolean(&s.Maintenance),
		})
		if host == "" || port < 1 || port > 65535 {
			f.mistake(lineOf(n), path, "want a host and a port of 1 to 65535")
			return
		}
		s.Name, s.URL = mirror.NameFor(host, port), "http://"+net.JoinHostPort(host, strconv.Itoa(port))
		f.seed(s)
	})
}

// spawnAuth is read past: it never kept anybody out.
func (f *mirrorFile) spawnAuth(_ string, n ast.Node) {
	if _, null := f.value(n).(*ast.NullNode); null {
		return
	}
	f.s.Notes = append(f.s.Notes, fmt.Sprintf("line %d: auth is not used: %s", lineOf(n), noAuth))
}

// noAuth says what there is in place of Spawn's.
const noAuth = "/login gave out tokens that nothing asked for; --token-file names tokens that every request to the admin API needs"

// fromSpawn fills in what a file of Spawn's does not say.
func (s *mirrorSetup) fromSpawn() {
	s.Reads = cmp.Or(s.Reads, mirror.ByPriority)
	switch h := &s.Health; {
	case h.Path == "/" && h.Body == "": // Spawn's own default, which any answer satisfied
		h.Path = ""
	case h.Path != "" || h.Body != "":
		s.Notes = append(s.Notes, "health-check: a check also wants a status of 200 to 399, where Spawn looked at the body alone")
	}
	for _, l := range []struct {
		addr  *string
		value string
	}{{&s.HTTP, defaultMirror}, {&s.Admin, defaultMirrorAdmin}} {
		if *l.addr == "" {
			continue
		}
		host, port, _ := net.SplitHostPort(*l.addr) // withPart joined them
		defHost, defPort, _ := net.SplitHostPort(l.value)
		*l.addr = net.JoinHostPort(cmp.Or(host, defHost), cmp.Or(port, defPort))
	}
}
