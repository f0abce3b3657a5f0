//go:build unix

package integration_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/skybus-io/skybus/bus/bustest"
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
	dir, err := buildPrograms()
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := bustest.Leaks(module); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func buildPrograms() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "skybus-integration-"); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", dir+string(filepath.Separator), //nolint:noctx // there is no test yet that could end it
		module+"cmd/skybus", module+"examples/getwidgets/service", module+"examples/getwidgets/initiator")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s%w", err, out, os.RemoveAll(dir))
	}
	return dir, os.Setenv(programsVariable, dir)
}

// needPrograms leaves out a test that starts processes when only the quick ones are wanted.
func needPrograms(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes")
	}
}
