package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"
)

// The measurements by name.
const (
	nameUp      = "up"
	nameGateway = "gateway"
	nameLookup  = "lookup"
)

func measurements() []string {
	names := []string{string(typed), string(raw), nameUp, nameGateway, nameLookup}
	for _, p := range parts() {
		if p.group != "" && !slices.Contains(names, p.group) {
			names = append(names, p.group)
		}
		names = append(names, p.name)
	}
	return names
}

// warmUp is how long a side works before its windows, so that connections, pools and the heap have their size.
func (s settings) warmUp() time.Duration { return min(s.window, 500*time.Millisecond) }

// needsProgram tells whether a measurement of the settings starts the skybus program.
func (s settings) needsProgram() bool {
	return s.wants(nameUp, nameGateway) || slices.ContainsFunc(parts(), func(p part) bool { return p.program && p.wanted(s) })
}

// bench is one run. Whatever it starts lives in dir and ends with the run.
type bench struct {
	set      settings
	progress *progress
	dir      string
	program  string // skybus, once it was built
}

// measure makes all measurements that the settings want, one after another.
func measure(ctx context.Context, set settings, p *progress) (rep *report, err error) {
	defer p.end()
	dir, err := os.MkdirTemp("", "skybus-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{set: set, progress: p, dir: dir}
	rep = newReport(set)
	if set.needsProgram() { // first: a source that does not build is known before anything is measured
		if _, err := b.skybus(ctx); err != nil {
			return nil, err
		}
	}
	for _, w := range []workload{typed, raw} {
		if !set.wants(string(w)) {
			continue
		}
		calls, err := b.compare(ctx, w)
		if err != nil {
			return nil, err
		}
		rep.Calls = append(rep.Calls, calls...)
	}
	if set.wants(nameLookup) {
		if rep.Lookup, err = b.lookup(ctx); err != nil {
			return nil, err
		}
	}
	if set.wants(nameUp) {
		if rep.Up, err = b.up(ctx); err != nil {
			return nil, err
		}
	}
	if set.wants(nameGateway) {
		if rep.Gateway, err = b.gateway(ctx); err != nil {
			return nil, err
		}
	}
	for _, p := range parts() {
		if !p.wanted(set) {
			continue
		}
		sections, err := b.part(ctx, p)
		if err != nil {
			return nil, err
		}
		rep.Sections = append(rep.Sections, sections...)
	}
	rep.Notes = rep.notes()
	return rep, nil
}
