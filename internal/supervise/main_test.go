package supervise_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/internal/supervise"
)

// helperVariable makes this program a supervisor of the shell script that it holds.
const helperVariable = "SUPERVISE_TEST_SCRIPT"

func TestMain(m *testing.M) {
	if script := os.Getenv(helperVariable); script != "" {
		s, err := supervise.New(supervise.Config{Command: []string{"sh", "-c", script}, Count: 2, Stdout: os.Stdout})
		if err == nil {
			err = s.Run(context.Background())
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	bustest.Main(m, "github.com/skybus-io/skybus/")
}
