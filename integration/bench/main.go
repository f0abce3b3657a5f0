// Command bench measures skybus: its calls against the same done by hand with nats.go, and what `skybus up` takes.
//
// All figures of a comparison come from one run in which the two sides take turns, since a machine that others use too
// drifts more between two runs than the sides differ. README.md beside this file says what each figure means.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

const (
	defaultWindows = 5
	defaultWindow  = 2 * time.Second
	maxCallers     = 4096
)

func main() {
	os.Exit(start(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// start is the whole program: the measurement, or one of the processes it starts.
func start(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if r := role(os.Getenv(roleVariable)); r != "" {
		return act(r, stdin, stdout, stderr)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal kills
	return run(ctx, args, stdout, stderr)
}

// run measures what args say, prints it, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	set, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage // told already
	}
	rep, err := measure(ctx, set, newProgress(stderr))
	if err == nil {
		err = rep.print(stdout, set.output)
	}
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "bench: stopped:", context.Cause(ctx))
		return exitFailed
	case err != nil:
		fmt.Fprintln(stderr, "bench:", err)
		return exitFailed
	}
	return exitOK
}

// settings is what the flags say.
type settings struct {
	windows int
	window  time.Duration
	callers []int
	only    []string
	output  string
	profile string
	quick   bool
}

func defaults() settings {
	return settings{windows: defaultWindows, window: defaultWindow, callers: []int{1, 64}, output: outputTable}
}

// wants tells whether the measurement of that name is to be made.
func (s settings) wants(names ...string) bool {
	return len(s.only) == 0 || slices.ContainsFunc(names, func(name string) bool { return slices.Contains(s.only, name) })
}

const usageText = `Usage: go run . [flags]

Measures calls of skybus against the same by hand with nats.go, and what 'skybus up --demo' takes.
It starts all it needs, on free ports of this machine, and takes about ten minutes.

Measurements, for -only:
  typed    call with a struct of 128 B as MessagePack: skybus against nats.go + msgpack v5
  raw      call with 128 bytes as they are: skybus against nats.go
  up       'skybus up --demo --memory': time until ready, memory, size of the program
  gateway  POST /getwidgets at that platform, 1 and 32 at a time; and all that begin with its name
  gateway-call       JSON to a typed service and back by the gateway, against proxies before net/http
  gateway-slowloris  200 requests a second at a gateway, beside 10,000 connections that dribble headers
  lookup   finding a service in the local registry and a value in the local configuration, against reading from the bucket
  slow     one slow instance of three: queue group, round robin, best quality, hedged calls
  outlier  one instance of three that fails: calls with and without ejection
  hash     keys that move when an instance comes or goes: consistent hash against modulo
  takeover a leader, and an instance under callers, is killed: how long until others do its work
  watch    a value reaches 100 watchers: package kv against nats.go
  stream   streams of 128 B and 64 KiB messages, and a body of 64 MiB: skybus against grpc-go
  route    a route of three steps, against its calls one after the other
  client   HTTP clients for a backend near by: leanhttp against fasthttp and net/http
  tcp      lines over TCP into a service by 'skybus tcp', and its memory
  sse      10,000 idle subscribers to events of the gateway: memory of each, and how long one event takes to reach all
  timers   all that follow but the last two
  timers-create      creating timers, against publishing as many plain messages
  timers-http        creating them by POST /timer at 'skybus up --memory', 32 at a time
  timers-cluster     the same at three 'skybus scheduler' on three 'skybus server'
  timers-late        how late they fire and reach their targets, at 1,000 and 10,000 a second
  timers-hooks       10,000 webhooks due in one second, and a backlog of them
  timers-alone       how late they fire when no scheduler runs
  mirror   all that follow but the last
  mirror-write       writes of 1 KB through a mirror to three backends, against a proxy to one
  mirror-cluster     the same with three servers that hold each write
  mirror-read        reads through a mirror, against proxies
  mirror-drain       a backend comes back to 100,000 writes that wait for it, beside others
  mirror-million     memory of a mirror while a million writes wait; only if named
  timers-million     memory and disk of a million timers, and their recovery; only if named
  timers-tenmillion  the same with ten million: takes a quarter of an hour, 5 GB and 10 GB of memory; only if named

Flags:
`

// parse reads the flags. What is wrong with them has been written to stderr.
func parse(args []string, stderr io.Writer) (settings, error) {
	s := defaults()
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprint(stderr, usageText)
		f.PrintDefaults()
	}
	f.IntVar(&s.windows, "windows", s.windows, "measure each side `N` times, by turns")
	f.DurationVar(&s.window, "window", s.window, "how long each time")
	f.BoolFunc("quick", "measure twice, for 100ms: looks whether all works, and the figures mean little", func(v string) error {
		quick, err := strconv.ParseBool(v)
		if s.quick = quick; quick {
			s.windows, s.window = 2, 100*time.Millisecond
		}
		return err
	})
	f.Func("c", "`LIST` of how many calls are in flight at a time, for typed, raw and route (default 1,64)", func(v string) error {
		s.callers = nil
		return each(v, func(item string) error {
			n, err := strconv.Atoi(item)
			if err != nil || n < 1 || n > maxCallers {
				return fmt.Errorf("%q: want numbers from 1 to %d separated by commas", item, maxCallers)
			}
			s.callers = append(s.callers, n)
			return nil
		})
	})
	f.Func("only", "`NAMES` of the measurements to make, separated by commas (default all but the large ones)", func(v string) error {
		return each(v, func(item string) error {
			if !slices.Contains(measurements(), item) {
				return fmt.Errorf("%q: want some of %s", item, strings.Join(measurements(), ", "))
			}
			s.only = append(s.only, item)
			return nil
		})
	})
	f.StringVar(&s.output, "o", s.output, "`FORMAT` of the output: table, or json with each single window")
	f.StringVar(&s.profile, "profile", "", "write CPU and allocation profiles of typed, raw and stream to `DIR`, taken in windows of their own")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if err := s.check(f.Args()); err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return s, err
	}
	return s, nil
}

func each(list string, f func(item string) error) error {
	for item := range strings.SplitSeq(list, ",") {
		if err := f(strings.TrimSpace(item)); err != nil {
			return err
		}
	}
	return nil
}

func (s settings) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("argument %q: only flags are known (-help lists them)", rest[0])
	case s.windows < 1:
		return fmt.Errorf("-windows %d: want 1 or more", s.windows)
	case s.window < time.Millisecond:
		return fmt.Errorf("-window %v: want 1ms or more", s.window)
	case s.output != outputTable && s.output != outputJSON:
		return fmt.Errorf("-o %q: want %s or %s", s.output, outputTable, outputJSON)
	}
	return nil
}
