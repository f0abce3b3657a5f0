//go:build unix

package integration_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/internal/proctest"
)

// Variables that TestMain sets for the tests and their children.
const (
	programsVariable = "SKYBUS_INTEGRATION_PROGRAMS" // directory with the programs under test
	serviceVariable  = "SKYBUS_INTEGRATION_SERVICE"  // makes this program a service, see service_test.go
	copyVariable     = "SKYBUS_INTEGRATION_COPY"     // makes this program an application behind a mirror, see mirror_copy_test.go
)

// TestMain builds the programs under test, once and as users get them, or is a service or an application for them.
func TestMain(m *testing.M) {
	if config := os.Getenv(serviceVariable); config != "" {
		os.Exit(serviceMain(config))
	}
	if config := os.Getenv(copyVariable); config != "" {
		os.Exit(copyMain(config))
	}
	flag.Parse()
	if testing.Short() {
		bustest.Main(m, module)
	}
	built, err := proctest.Build(module+"cmd/skybus", module+"examples/getwidgets/service", module+"examples/getwidgets/initiator")
	if err == nil {
		err = os.Setenv(programsVariable, string(built))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := bustest.Leaks(module); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := built.Remove(); err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// needPrograms leaves out a test that starts processes when only the quick ones are wanted.
func needPrograms(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes")
	}
}
