package main

import (
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/skybus-io/skybus/bus"
)

type versionCmd struct{}

// Help is shown below the usage.
func (versionCmd) Help() string {
	return `Examples:

    skybus version
    skybus version -o json`
}

// versionInfo is what `skybus version` prints.
type versionInfo struct {
	Version    string `json:"version"`
	Commit     string `json:"commit,omitempty"`
	Modified   bool   `json:"modified,omitempty"`
	Go         string `json:"go"`
	NATSServer string `json:"nats_server"`
	OS         string `json:"os"`
	Arch       string `json:"arch"`

	committed string // when the commit was made
}

// Run prints the versions.
func (versionCmd) Run(app *App) error {
	v := buildVersion()
	rows := [][]any{{"skybus", v.Version}}
	if v.Commit != "" {
		commit := v.Commit
		if v.Modified {
			commit += " with changes"
		}
		rows = append(rows, []any{"commit", commit})
	}
	return printOne(app, v, append(rows,
		[]any{"go", v.Go}, []any{"nats-server", v.NATSServer}, []any{"platform", v.OS + "/" + v.Arch}))
}

// buildVersion is what the Go tool recorded: the tag a build was made at, or the version that was installed.
func buildVersion() versionInfo {
	v := versionInfo{
		Version:    "devel",
		Go:         runtime.Version(),
		NATSServer: server.VERSION,
		OS:         runtime.GOOS,
		Arch:       runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if m := info.Main.Version; m != "" && m != "(devel)" {
		v.Version = m
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.committed = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

// semanticVersion is the version for the registry, empty for a build that has none.
func semanticVersion() string {
	v := strings.TrimPrefix(buildVersion().Version, "v")
	if bus.CheckVersion(v) != nil {
		return ""
	}
	return v
}
