package registry_test

import (
	"os"
	"testing"

	"github.com/skybus-io/skybus/bus/bustest"
)

func TestMain(m *testing.M) {
	if server := os.Getenv(childVariable); server != "" {
		os.Exit(child(server))
	}
	bustest.Main(m, "github.com/skybus-io/skybus/")
}
