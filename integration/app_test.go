//go:build unix

package integration_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/skybus-io/skybus/examples/getwidgets"
	"github.com/skybus-io/skybus/micro/registry"
)

// application is the demo as separate programs: two of each service, each in a process of its own, and an initiator.
type application struct {
	t       *testing.T
	server  string
	reg     *registry.Registry
	records string // directory of the files the log service writes

	services  map[string]*process // by instance
	initiator *process
	gateway   string // URL
}

func startApplication(t *testing.T, server string) *application {
	t.Helper()
	reg, err := registry.Open(t.Context(), connect(t, server), registry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	a := &application{t: t, server: server, reg: reg, records: t.TempDir(), services: map[string]*process{}}
	for _, name := range getwidgets.Names() {
		a.serve(name, name+"-1")
		a.serve(name, name+"-2")
	}
	for _, name := range getwidgets.Names() {
		awaitState(t, reg, name, registry.Online, 2)
	}
	a.initiate("127.0.0.1:0")
	return a
}

// serve starts an instance and does not wait for it.
func (a *application) serve(name, instance string) {
	a.t.Helper()
	args := []string{"--name", name, "--instance", instance, "--server", a.server}
	if name == "log" {
		args = append(args, "--record", filepath.Join(a.records, instance))
	}
	a.services[instance] = start(a.t, "service", args...)
}

// replace starts an instance in the place of a killed one and returns when others can see it.
func (a *application) replace(name, instance string) {
	a.t.Helper()
	a.serve(name, instance)
	eventually(a.t, patience, instance+" is online", func() bool {
		return slices.Contains(inState(a.reg, name, registry.Online), instance)
	})
}

// initiate starts the initiator and returns when it listens.
func (a *application) initiate(listen string) {
	a.t.Helper()
	a.initiator = start(a.t, "initiator", "--listen", listen, "--server", a.server)
	a.gateway = a.initiator.Await(`msg=serving http=(\S+)`)[1]
}
