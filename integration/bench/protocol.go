package main

import "time"

// side is one of the two that are compared.
type side string

const (
	sideSkybus side = "skybus"
	sideNATS   side = "nats.go"
	sideGRPC   side = "grpc-go"
	// sideGateway is the load for a gateway, which is compared with nothing, and sideTimers that for the timers' HTTP API.
	sideGateway side = "gateway"
	sideTimers  side = "timers"
	sideMirror  side = "mirror" // the load for a mirror and its peers
	sidePlain   side = "net/http"
)

// roleVariable tells a process that the measurement started what it is to be.
const roleVariable = "SKYBUS_BENCH_ROLE"

type role string

const (
	roleServer    role = "server"
	roleService   role = "service"
	roleClient    role = "client"
	roleCandidate role = "candidate"
	roleWatchers  role = "watchers"
	roleTimers    role = "timers"   // a program that uses the scheduler
	roleSink      role = "sink"     // receives webhooks
	roleBackends  role = "backends" // applications behind a mirror
	roleProxy     role = "proxy"    // httputil.ReverseProxy
	roleSlowloris role = "slowloris"
)

// op is what a process is asked to do.
type op string

const (
	opStart   op = "start"   // be ready for the rest
	opUse     op = "use"     // tell what was used so far
	opLoad    op = "load"    // make calls for a time
	opLookup  op = "lookup"  // look the service up
	opAct     op = "act"     // do what is particular to the measurement
	opProfile op = "profile" // write a CPU profile from now on
	opWritten op = "written" // end it, and write one of all allocations
)

// order is one line to a process. It answers each with one line, and ends when its input does.
type order struct {
	Op       op            `json:"op"`
	Side     side          `json:"side,omitempty"`
	Workload workload      `json:"workload,omitempty"`
	URL      string        `json:"url,omitempty"`
	Dir      string        `json:"dir,omitempty"`
	Callers  int           `json:"callers,omitempty"`
	For      time.Duration `json:"for,omitempty"`
	Rate     int           `json:"rate,omitempty"` // of calls of all callers in a second, as far as they are answered in time; 0 is no limit
	File     string        `json:"file,omitempty"` // of a profile, without its extension

	// Of the measurements that have processes of their own kind.
	Part     string        `json:"part,omitempty"`    // the measurement's name
	Variant  string        `json:"variant,omitempty"` // what of it
	Count    int           `json:"count,omitempty"`
	Size     int           `json:"size,omitempty"`     // bytes
	TTL      time.Duration `json:"ttl,omitempty"`      // of a leadership
	Delay    time.Duration `json:"delay,omitempty"`    // of a handler
	Fail     bool          `json:"fail,omitempty"`     // a handler that cannot do its work
	Tolerate bool          `json:"tolerate,omitempty"` // count calls that fail instead of ending

	// Of timers.
	URLs  []string      `json:"urls,omitempty"`  // their targets, or the APIs to create them at
	Lead  time.Duration `json:"lead,omitempty"`  // before the first is due
	Over  time.Duration `json:"over,omitempty"`  // from the first time due to the last
	Grace time.Duration `json:"grace,omitempty"` // of the scheduler
}

type answer struct {
	Error  string `json:"error,omitempty"`
	URL    string `json:"url,omitempty"`
	Use    use    `json:"use,omitzero"`
	Load   load   `json:"load,omitzero"`
	Lookup lookup `json:"lookup,omitzero"`

	Took     time.Duration `json:"took,omitzero"`
	Transfer transfer      `json:"transfer,omitzero"`
	Spread   spread        `json:"spread,omitzero"`
	Made     made          `json:"made,omitzero"`
	Hooks    hooks         `json:"hooks,omitzero"`
	URLs     []string      `json:"urls,omitempty"`   // of a sink, of backends
	Counts   []int64       `json:"counts,omitempty"` // of what each backend has applied, of what attackers count
}
