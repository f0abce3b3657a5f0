package file_test

import (
	"testing"

	"github.com/skybus-io/skybus/bus/bustest"
)

func TestMain(m *testing.M) { bustest.Main(m, "github.com/skybus-io/skybus/") }
