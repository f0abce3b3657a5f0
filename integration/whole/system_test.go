//go:build unix

package whole_test

import (
	"strings"
	"time"
)

// system is where clients find what they need. Addresses do not change when processes are started again.
type system struct {
	servers    []string // NATS URLs
	gateways   []string // base URLs
	schedulers []string // base URLs of /timer and /v1/timers
	mirrors    []string // base URLs of the mirror's data
	admins     []string // base URLs of the mirror's admin API
	backends   []string // base URLs of the copies behind the mirror
	receiver   string   // base URL of who is called by timers
	drop       string   // directory that `skybus files` watches: NDJSON, complete by rename
	dir        string   // where children record
	program    string   // path of the skybus binary
}

// server is what an SDK client connects to, and what --server is given.
func (s *system) server() string { return strings.Join(s.servers, ",") }

// The services, and how they are told to be alive.
const (
	orderService = "order"
	stockService = "stock"
	noteService  = "note"

	fileTarget = noteService + ".take" // what each record of a file is sent to, one call each

	serviceHeartbeat = 500 * time.Millisecond
	serviceTTL       = 2 * time.Second
)

func services() []string { return []string{orderService, stockService, noteService} }

// What a child can be, besides a service.
const (
	backendRole  = "backend"
	receiverRole = "receiver"
)

// child is an end of the system: this program, started again with childVariable set to its JSON.
type child struct {
	Role       string   // a service, backendRole or receiverRole
	Name       string   // its own, as in order-1; a service has it as its instance, heartbeat serviceHeartbeat and TTL serviceTTL
	Listen     string   // host:port of a backend or of the receiver, with port 0 at its first start
	Server     string   // for a service
	Mirrors    []string // for the receiver
	Schedulers []string // for services
	Dir        string   // where it records, in files that begin with Name
}

// witness keeps what happened.
type witness interface {
	// fault tells of a fault that has been done: what became of whom, and when it was over.
	fault(kind, target string, begin, end time.Time)
	// idle are the kinds of operation none of which, asked after since, has succeeded.
	idle(since time.Time) []string
}
