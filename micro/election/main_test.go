package election_test

import (
	"os"
	"testing"

	"github.com/skybus-io/skybus/bus/bustest"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(candidateVariable); url != "" {
		os.Exit(candidateMain(url))
	}
	bustest.Main(m, "github.com/skybus-io/skybus/")
}
