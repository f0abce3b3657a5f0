package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"syscall"

	"github.com/skybus-io/skybus/bus/embed"
	"github.com/skybus-io/skybus/micro"
)

// actor is a process that the measurement started: it does what it reads and answers, until its input ends, which it
// does too when the measurement is killed.
type actor struct {
	role   role
	stderr io.Writer
	call   caller
	client *micro.Client                                      // of skybus, for the lookup
	act    func(ctx context.Context, o order) (answer, error) // what else it can do, for opAct
	close  []func() error

	profile *os.File
	file    string
}

// act is the whole life of an actor. It returns the exit code.
func act(r role, stdin io.Reader, stdout, stderr io.Writer) int {
	// Ctrl-C reaches every process of the terminal; the measurement decides when this one ends.
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	a := &actor{role: r, stderr: stderr}
	err := a.serve(ctx, json.NewDecoder(stdin), json.NewEncoder(stdout))
	for _, f := range slices.Backward(a.close) {
		err = errors.Join(err, f())
	}
	if err != nil {
		fmt.Fprintf(stderr, "bench: %s: %v\n", r, err)
		return exitFailed
	}
	return exitOK
}

func (a *actor) serve(ctx context.Context, in *json.Decoder, out *json.Encoder) error {
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		ans, err := a.do(ctx, o)
		if err != nil {
			ans = answer{Error: fmt.Sprintf("%s: %v", o.Op, err)}
		}
		if err := out.Encode(ans); err != nil {
			return err
		}
	}
}

func (a *actor) do(ctx context.Context, o order) (ans answer, err error) {
	switch o.Op {
	case opStart:
		return a.start(ctx, o)
	case opUse:
		ans.Use, err = ownUse()
	case opLoad:
		ans.Load, err = generate(ctx, a.call, o)
	case opLookup:
		ans.Lookup, err = measureLookup(ctx, a.client, o.For)
	case opAct:
		return a.act(ctx, o)
	case opProfile:
		err = a.startProfile(o.File)
	case opWritten:
		err = a.writeProfiles()
	default:
		err = errors.New("no such operation")
	}
	return ans, err
}

func (a *actor) start(ctx context.Context, o order) (ans answer, err error) {
	var stop func() error
	switch {
	case o.Part != "":
		ans, stop, err = a.startPart(ctx, o)
	case a.role == roleServer:
		var s *embed.Server
		if s, err = embed.Start(ctx, embed.Config{Listen: "127.0.0.1:0", Dir: o.Dir}); err == nil {
			ans.URL, stop = s.URL(), s.Close
		}
	case a.role == roleService && o.Side == sideSkybus:
		stop, err = startSkybusService(ctx, o.URL)
	case a.role == roleService && o.Side == sideNATS:
		stop, err = startNATSService(o.URL, a.stderr)
	case a.role == roleClient && o.Side == sideSkybus:
		if a.client, stop, err = newSkybusClient(ctx, o.URL); err == nil {
			a.call = newSkybusCaller(a.client, o.Workload)
		}
	case a.role == roleClient && o.Side == sideNATS:
		a.call, stop, err = newNATSCaller(o.URL, o.Workload)
	case a.role == roleClient && o.Side == sideGateway:
		a.call, stop = newGatewayCaller(o.URL)
	case a.role == roleClient && o.Side == sideTimers:
		a.call, stop = newLeanCaller(ctx, o.URLs)
	case a.role == roleClient && o.Side == sideMirror:
		a.call, stop, err = newMirrorCaller(o)
	case a.role == roleBackends:
		a.act, ans.URLs, stop, err = newBackends(ctx, o)
	case a.role == roleProxy:
		ans.URL, stop, err = newProxy(ctx, o)
	case a.role == roleTimers:
		a.act, ans.URL, stop, err = newTimers(ctx, o)
	case a.role == roleSlowloris:
		a.act, stop, err = newSlowloris(o)
	case a.role == roleSink:
		a.act, ans.URLs, stop, err = newSink(ctx, o)
	default:
		err = fmt.Errorf("a %s of %s is nothing to be", a.role, o.Side)
	}
	if err == nil {
		a.close = append(a.close, stop)
	}
	return ans, err
}

// startPart makes a process what a measurement of its own kind needs.
func (a *actor) startPart(ctx context.Context, o order) (ans answer, stop func() error, err error) {
	switch {
	case a.role == roleService && o.Part == partWork:
		if o.Side == sideNATS {
			stop, err = startNATSWorker(o)
		} else {
			stop, err = startWorker(ctx, o)
		}
	case a.role == roleClient && o.Part == partWork:
		if o.Side == sideNATS {
			a.call, stop, err = newNATSWorkCaller(o)
		} else {
			a.call, stop, err = newWorkCaller(ctx, o)
		}
	case a.role == roleCandidate:
		a.act, stop, err = newCandidate(ctx, o)
	case a.role == roleWatchers && o.Side == sideSkybus:
		a.act, stop, err = newWatchers(openTables(ctx, o.URL))
	case a.role == roleWatchers && o.Side == sideNATS:
		a.act, stop, err = newWatchers(openBuckets(ctx, o.URL))
	case a.role == roleService && o.Part == nameStream && o.Side == sideSkybus:
		stop, err = startStreamService(ctx, o.URL)
	case a.role == roleClient && o.Part == nameStream && o.Side == sideSkybus:
		a.act, a.call, stop, err = newStreamClient(ctx, o.URL)
	case a.role == roleService && o.Part == nameStream:
		ans.URL, stop, err = startGRPC(ctx)
	case a.role == roleClient && o.Part == nameStream:
		a.act, a.call, stop, err = newGRPCClient(o.URL)
	case a.role == roleService && o.Part == nameRoute:
		stop, err = startSteps(ctx, o.URL)
	case a.role == roleClient && o.Part == nameRoute:
		a.call, stop, err = newRouteCaller(ctx, o)
	case a.role == roleService && o.Part == nameFiles:
		a.act, stop, err = newIntake(ctx, o)
	case a.role == roleClient && o.Part == nameSSE:
		a.act, stop, err = newSubscribers(o)
	case a.role == roleService && o.Part == nameClient:
		ans.URL, stop, err = startBackend(ctx)
	case a.role == roleClient && o.Part == nameClient:
		a.call, stop, err = newHTTPCaller(o)
	case a.role == roleService && o.Part == nameGatewayCall && o.Side == sideSkybus:
		stop, err = startThingService(ctx, o.URL)
	case a.role == roleService && o.Part == nameGatewayCall:
		ans.URL, stop, err = startThingBackend(ctx)
	case a.role == roleClient && o.Part == nameGatewayCall:
		a.call, stop, err = newThingCaller(ctx, o)
	case a.role == roleClient && o.Part == nameTCP:
		a.call, stop, err = newLineCaller(ctx, o)
	default:
		err = fmt.Errorf("a %s of %s is nothing to be for %s", a.role, o.Side, o.Part)
	}
	return ans, stop, err
}

func (a *actor) startProfile(file string) error {
	f, err := os.Create(file + ".cpu.prof")
	if err != nil {
		return err
	}
	a.profile, a.file = f, file
	return pprof.StartCPUProfile(f)
}

func (a *actor) writeProfiles() error {
	pprof.StopCPUProfile()
	if err := a.profile.Close(); err != nil {
		return err
	}
	f, err := os.Create(a.file + ".allocs.prof")
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
}
