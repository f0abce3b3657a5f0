package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/micro"
)

// nameFiles is what records of files cost.
const nameFiles = "files"

const (
	filesBytes     = 1 << 30 // of NDJSON
	filesBytesFew  = 1 << 27 // for the rows beside
	filesBytesTest = 1 << 22
	filesLine      = 1 << 10
	filesPoll      = 100 * time.Millisecond
	endpointTake   = "take"
	actTaken       = "taken" // say how many records came since the last time
)

// newIntake is a service that counts what it is sent.
func newIntake(ctx context.Context, o order) (act func(context.Context, order) (answer, error), stop func() error, err error) {
	var taken atomic.Int64
	stop, err = serveSkybus(ctx, o.URL, func(svc *micro.Service) error {
		return micro.Handle(svc, endpointTake, func(context.Context, []byte) ([]byte, error) {
			taken.Add(1)
			return nil, nil
		})
	})
	return func(context.Context, order) (answer, error) {
		return answer{Counts: []int64{taken.Swap(0)}}, nil
	}, stop, err
}

// files is how fast a file becomes requests, and how much memory that takes.
func (b *bench) files(ctx context.Context) (_ []section, err error) {
	t := &troupe{b: b, crew: crew{dir: b.dir}}
	defer func() { err = errors.Join(err, t.stop()) }()
	servers, err := t.servers(ctx, 1, "2m")
	if err != nil {
		return nil, err
	}
	in, _, err := t.crew.start(ctx, roleService, order{Part: nameFiles, URL: servers[0]})
	if err != nil {
		return nil, err
	}
	t.ends = append(t.ends, in.close) // before its server
	large, few := int64(filesBytes), int64(filesBytesFew)
	if b.set.quick {
		large, few = filesBytesTest, filesBytesTest
	}
	s := section{Name: nameFiles, Columns: []string{"lines/s", "MB/s", "CPU us per line", "MB at 10 %", "MB at 90 %", "most MB"}, Notes: []string{fmt.Sprintf(
		"files: a file of NDJSON, lines of %d bytes, sent by `skybus files` to an endpoint in another process, or published; %d MB for the first row, %d MB for the others."+
			" CPU and memory are those of skybus files alone. One run each.", filesLine, large>>20, few>>20)}}
	for i, v := range []struct {
		what, target string
		parallel     int
		bytes        int64
	}{
		{"call, 64 at once", "{call: " + serviceName + "." + endpointTake + "}", 64, large},
		{"call, in order", "{call: " + serviceName + "." + endpointTake + "}", 1, few},
		{"publish, 64 at once", "{publish: default.dev.pub.lines}", 64, few},
	} {
		dir, err := os.MkdirTemp(b.dir, "files-")
		if err != nil {
			return nil, err
		}
		r := filesRun{t: t, in: in, dir: dir, server: servers[0], name: fmt.Sprint("run", i), what: v.what, target: v.target, parallel: v.parallel}
		values, err := r.measure(ctx, v.bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.what, err)
		}
		s.Rows = append(s.Rows, newRow(v.what, [][]float64{values}))
	}
	return []section{s}, nil
}

// filesRun is one file on its way.
type filesRun struct {
	t            *troupe
	in           *child
	dir          string
	server       string
	name, what   string
	target       string
	parallel     int
	lines, bytes int64
}

// fill writes the file.
func (r *filesRun) fill(bytes int64) error {
	f, err := os.Create(filepath.Join(r.dir, "in.ndjson"))
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	fill := strings.Repeat("x", filesLine-len(`{"n":000000000,"text":""}`)-1)
	for ; r.bytes < bytes; r.lines++ {
		n, err := fmt.Fprintf(w, "{\"n\":%9d,\"text\":\"%s\"}\n", r.lines, fill)
		if err != nil {
			return errors.Join(err, f.Close())
		}
		r.bytes += int64(n)
	}
	return errors.Join(w.Flush(), f.Close())
}

func (r *filesRun) measure(ctx context.Context, bytes int64) ([]float64, error) {
	if err := r.fill(bytes); err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(r.dir) }() // the whole folder goes at the end
	config := filepath.Join(r.dir, "files.yaml")
	text := fmt.Sprintf("sources:\n  - {name: %s, dir: ., include: ['*.ndjson'], format: ndjson, quiet: 10ms, parallel: %d, after: delete, target: %s}\n", r.name, r.parallel, r.target)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p, err := r.t.program(ctx, "files run", "-f", config, "--server", r.server, "--admin", freePort)
	if err != nil {
		return nil, err
	}
	pid := p.cmd.Process.Pid
	begin := time.Now()
	cpu, err := cpuOf(pid)
	if err != nil {
		return nil, err
	}
	var early, late, most int64
	for {
		sent, err := sentBy(ctx, p, r.name)
		if err != nil {
			return nil, err
		}
		memory, err := memoryOf(pid)
		if err != nil {
			return nil, err
		}
		most = max(most, memory)
		if early == 0 && sent >= r.lines/10 {
			early = memory
		}
		if late == 0 && sent >= r.lines*9/10 {
			late = memory
		}
		if sent >= r.lines {
			break
		}
		r.t.b.progress.step(nameFiles, fmt.Sprintf("%s, %d of %d lines", r.what, sent, r.lines))
		if err := pause(ctx, filesPoll); err != nil {
			return nil, err
		}
	}
	took := time.Since(begin)
	if err := r.arrived(); err != nil {
		return nil, err
	}
	after, err := cpuOf(pid)
	if err != nil {
		return nil, err
	}
	const mb = 1e6
	return []float64{
		float64(r.lines) / took.Seconds(), float64(r.bytes) / mb / took.Seconds(), micros(after-cpu) / float64(r.lines),
		float64(early) / mb, float64(late) / mb, float64(most) / mb,
	}, p.stop()
}

// arrived tells whether the service got all lines that it was to get.
func (r *filesRun) arrived() error {
	if !strings.Contains(r.target, "call") {
		return nil
	}
	ans, err := r.in.do(order{Op: opAct, Variant: actTaken})
	if err == nil && ans.Counts[0] != r.lines {
		err = fmt.Errorf("%d lines came, %d were in the file", ans.Counts[0], r.lines)
	}
	return err
}

// sentBy is how many records of a source a program has sent.
func sentBy(ctx context.Context, p *platform, source string) (sent int64, err error) {
	var v struct {
		Skybus struct {
			Files map[string]struct {
				Sent int64 `json:"sent"`
			} `json:"files"`
		} `json:"skybus"`
	}
	err = p.page(ctx, "/debug/vars", func(r io.Reader) error { return json.NewDecoder(r).Decode(&v) })
	return v.Skybus.Files[source].Sent, err
}
