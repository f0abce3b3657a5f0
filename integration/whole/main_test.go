//go:build unix

// Package whole_test is one test of all of skybus at once: a cluster of three servers and two or three processes of everything else, under
// load, while processes are killed, frozen, restarted and taken away. It asks what clients were told and what the ends recorded.
//
//	go test ./integration/whole -run Whole           # about a minute
//	go test ./integration/whole -run Whole -long -timeout 40m     # 20 minutes
//	go test ./integration/whole -run Whole -for 5m -seed 7
//	go test ./integration/whole -run Whole -for 5m -broken no-cas-on-fire    # must fail
package whole_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/skybus-io/skybus/bus/bustest"
)

const (
	module = "github.com/skybus-io/skybus/"

	programsVariable = "SKYBUS_WHOLE_PROGRAMS" // directory with the programs under test
	childVariable    = "SKYBUS_WHOLE_CHILD"    // makes this program a child, see children_test.go
)

// The flags of the test.
const (
	seedFlag = "seed"
	longFlag = "long"
	forFlag  = "for"
)

// TestMain builds skybus, once and as users get it, or is an end of the system.
func TestMain(m *testing.M) {
	if config := os.Getenv(childVariable); config != "" {
		os.Exit(childMain(config))
	}
	flag.Uint64(seedFlag, 0, "of all that is done by chance; 0 means the time")
	flag.Bool(longFlag, false, "faults for 20 minutes, and each kind of fault for each kind of process")
	flag.Duration(forFlag, 0, "faults for about so long, each kind of fault for each kind of process")
	broken := flag.String(brokenFlag, "", "the name of a broken build, of which the test must find out what is wrong")
	flag.Parse()
	if testing.Short() {
		bustest.Main(m, module)
	}
	programs, err := buildPrograms(*broken)
	if err == nil {
		err = os.Setenv(programsVariable, string(programs))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "whole:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := errors.Join(bustest.Leaks(module), programs.Remove()); err != nil {
		fmt.Fprintln(os.Stderr, "whole:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// childMain is an end of the system. It ends with 0 when it is asked to end.
func childMain(config string) (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c child
	err := json.Unmarshal([]byte(config), &c)
	if err == nil {
		err = c.run(ctx, func(url string) { fmt.Println("ready", url) })
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", c.Name, err)
		return 1
	}
	return 0
}
