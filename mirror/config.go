package mirror

import (
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// Defaults and bounds of a [Config].
const (
	DefaultName          = "default"
	DefaultLanes         = 64
	MaxLanes             = 1024
	DefaultKey           = "path"
	DefaultMaxBody       = 64 << 20
	mostBody             = 1 << 30
	DefaultMaxAnswer     = 768 << 10
	DefaultAnswerTimeout = 10 * time.Second
	DefaultTryTimeout    = 10 * time.Second
	DefaultTries         = 5
	DefaultCommit        = 5 * time.Millisecond
	DefaultLease         = 2 * time.Second
	DefaultDrain         = 10 * time.Second
	DefaultWindow        = 8000
	DefaultWindowBytes   = 32 << 20
	DefaultDrainRequests = 4
	DefaultHistory       = 100_000
	DefaultMaxLag        = 5 * time.Second
	DefaultReadWait      = 2 * time.Second
	DefaultReadTimeout   = 30 * time.Second
	DefaultStatusPath    = "/.well-known/skybus/writes/"
	DefaultStoreTimeout  = 10 * time.Second
	MaxStoreTimeout      = duplicateWindow / 2
	DefaultMaxWrites     = 8192
	DefaultMaxWriteBytes = 256 << 20
	DefaultMaxHeader     = 16 << 10
	DefaultMaxFields     = 100
	DefaultMaxTarget     = 8 << 10
)

// Divergence says what becomes of a lane when a backend has answered a write otherwise than the others.
type Divergence string

// Policies for divergent writes.
const (
	Park Divergence = "park" // keep the write among the dead letters and go on; the default
	Stop Divergence = "stop" // the lane of that backend waits until somebody retries or drops the write
)

// ReadOrder says which of the backends that may serve a read gets it.
type ReadOrder string

// Orders of reads.
const (
	RoundRobin   ReadOrder = "round-robin"   // one after the other; the default
	ByPriority   ReadOrder = "priority"      // the first in the order of Spawn: 1, 2, 3, ..., 0, ..., -1, -2
	LeastLatency ReadOrder = "least-latency" // the one whose answers came fastest lately
)

// Config adjusts a mirror. The zero value works.
type Config struct {
	// Name tells mirrors of a namespace apart: a token. Empty means "default".
	Name string
	// Lanes is how many writes to one backend may be on their way at once; each lane is in order. 1 is total order. It is for the life of the
	// mirror: 0 means what it has, and 64 for a new one.
	Lanes int
	// Key chooses what decides about the lane of a write: "path" (the default), "path:N" for its first N segments, "query:NAME", "header:NAME", or
	// several of them joined by "+". Writes of the same key stay in order. It is for the life of the mirror: empty means what it has.
	Key string

	// Transport makes the requests to backends. Nil means one of the mirror's own.
	Transport http.RoundTripper
	// Authorize refuses a request by an error, whose text is the answer: 403, or the HTTP status of a [bus.Error]. Nil lets all pass.
	Authorize func(*http.Request) error
	// WriteMethods go to all backends. Empty means POST, PUT, PATCH and DELETE. GET, HEAD and OPTIONS never do.
	WriteMethods []string

	// Ack says whose answer a client gets. Empty means First.
	Ack Ack
	// AckRules are exceptions, the first that matches counts.
	AckRules []AckRule
	// Primary is the backend whose answer counts for the policy Primary. Empty means the first in priority order.
	Primary string
	// AnswerTimeout is how long a client waits for it, before it is told that its write is queued. 0 means 10 s.
	AnswerTimeout time.Duration
	// MaxBody of a write, in bytes. 0 means 64 MiB.
	MaxBody int64
	// StoreTimeout is how long it is tried to store a write. 0 means 10 s; at most 15 s.
	StoreTimeout time.Duration
	// MaxWrites of clients may be worked on by this process at once; more are 503. 0 means 8,192.
	MaxWrites int
	// MaxWriteBytes is how much room the bodies may take that are not stored yet; more are 503. 0 means 256 MiB, or twice MaxBody where that
	// is more.
	MaxWriteBytes int64
	// MaxHeader is how many bytes, and MaxFields how many fields the header of a request may have; more is 431. 0 means 16 KiB and 100.
	MaxHeader int
	MaxFields int
	// MaxTarget is how many bytes the path and the query may have together; more is 414. 0 means 8 KiB.
	MaxTarget int
	// EncodedSlash lets paths with %2F, %5C and percent signs encoded twice through, for backends whose names contain slashes.
	EncodedSlash bool
	// MaxAnswer is the largest body of an answer to a write that is given to the client, in bytes. 0 means 768 KiB, which is also the most.
	MaxAnswer int
	// StatusPath is where clients ask for the state of a write, followed by its number. Empty means /.well-known/skybus/writes/.
	StatusPath string

	// TryTimeout is how long one attempt at one backend may take, and a second more for each MiB of the body. 0 means 10 s.
	TryTimeout time.Duration
	// Tries is how often a write is sent to a backend that answers 5xx, but 502, 503 and 504, which are tried again as connection errors are. 0 means 5.
	Tries int
	// MaxAge is how long a write waits for a backend that does not answer, before it is parked. 0 means for ever. It counts from when the write was stored, or
	// where that is later, since when the backend is sent writes by the process that does: the time in maintenance, or without such a process, is not part of it.
	MaxAge time.Duration
	// Divergence says what becomes of a write that a backend has answered otherwise than the others. Empty means Park.
	Divergence Divergence
	// Commit is how often it is stored what the backends have applied, less often while that takes long. 0 means 5 ms; at most 50 ms.
	Commit time.Duration
	// Lease is how long others wait for a sender that died. 0 means 2 s, which is also the least.
	Lease time.Duration
	// Drain is how long a sender that is stopped lets requests finish. 0 means 10 s.
	Drain time.Duration
	// Window is how many writes, and WindowBytes how many bytes, wait in memory for one backend; more are left in the stream. 0 means 8,000 and 32 MiB.
	Window      int
	WindowBytes int
	// DrainRequests is how many requests are sent at once to a backend that is behind; more, up to one for each lane, while that does not
	// bring it level at twice the rate of writes. 0 means 4.
	DrainRequests int
	// History is how many writes are kept after all backends have applied them, for [Mirror.Repair] and new backends. 0 means 100,000, negative none.
	History int

	// Reads says which backend a read goes to. Empty means RoundRobin.
	Reads ReadOrder
	// MaxLag is how far a backend that serves reads may be behind. 0 means 5 s, negative any.
	MaxLag time.Duration
	// ReadWait is how long a read with Skybus-Min-Seq waits for a backend that has applied it. 0 means 2 s.
	ReadWait time.Duration
	// ReadTimeout is how long a backend may take until its answer to a read begins. 0 means 30 s.
	ReadTimeout time.Duration
	// Cookie makes the answers to writes set a cookie by this name, and reads obey it as they obey Skybus-Min-Seq. Empty means none.
	Cookie string
	// TrustForwarded keeps the X-Forwarded headers of requests and adds to them: only behind a proxy that sets them.
	TrustForwarded bool
	// Health says how backends are checked.
	Health Health
	// Ejection says when backends that fail are not asked for a while.
	Ejection Ejection

	// Observe makes a process that only looks, and changes backends: it asks nothing of them by itself.
	Observe bool
	// Owner is a name of this process for people. Empty means the host and the process id.
	Owner string
	// Logger hears of faults. Nil means discard.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	c.Name = orDefault(c.Name, DefaultName)
	if err := bus.CheckToken("name", c.Name); err != nil {
		return c, bus.AsError(err).With("field", "name")
	}
	c.Key, c.Ack, c.Divergence, c.Reads = orDefault(c.Key, DefaultKey), orDefault(c.Ack, First), orDefault(c.Divergence, Park), orDefault(c.Reads, RoundRobin)
	c.StatusPath = orDefault(c.StatusPath, DefaultStatusPath)
	for _, v := range []struct {
		value *int
		def   int
	}{{&c.Lanes, DefaultLanes}, {&c.MaxAnswer, DefaultMaxAnswer}, {&c.Tries, DefaultTries}, {&c.Window, DefaultWindow}, {&c.WindowBytes, DefaultWindowBytes}, {&c.DrainRequests, DefaultDrainRequests}, {&c.History, DefaultHistory}, {&c.MaxWrites, DefaultMaxWrites}, {&c.MaxHeader, DefaultMaxHeader}, {&c.MaxFields, DefaultMaxFields}, {&c.MaxTarget, DefaultMaxTarget}} {
		*v.value = orDefault(*v.value, v.def)
	}
	for _, v := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&c.AnswerTimeout, DefaultAnswerTimeout},
		{&c.TryTimeout, DefaultTryTimeout},
		{&c.Commit, DefaultCommit},
		{&c.Lease, DefaultLease},
		{&c.Drain, DefaultDrain},
		{&c.MaxLag, DefaultMaxLag},
		{&c.ReadWait, DefaultReadWait},
		{&c.ReadTimeout, DefaultReadTimeout},
		{&c.StoreTimeout, DefaultStoreTimeout},
	} {
		*v.value = orDefault(*v.value, v.def)
	}
	c.MaxBody, c.MaxWriteBytes = orDefault(c.MaxBody, DefaultMaxBody), orDefault(c.MaxWriteBytes, max(DefaultMaxWriteBytes, 2*c.MaxBody))
	if len(c.WriteMethods) == 0 {
		c.WriteMethods = []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
	}
	if c.Owner == "" {
		host, _ := os.Hostname() // a name for people
		c.Owner = host + "-" + strconv.Itoa(os.Getpid())
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, c.check()
}

func (c Config) check() error {
	outside := func(field string, value, least, most any) error {
		return bus.Errorf(bus.InvalidArgument, "mirror: Config.%s is %v, it must be %v to %v", field, value, least, most).With("field", field)
	}
	switch {
	case c.Lanes < 1 || c.Lanes > MaxLanes:
		return outside("Lanes", c.Lanes, 1, MaxLanes)
	case c.MaxAnswer < 0 || c.MaxAnswer > DefaultMaxAnswer:
		return outside("MaxAnswer", c.MaxAnswer, 0, DefaultMaxAnswer)
	case c.MaxBody < 0 || c.MaxBody > mostBody:
		return outside("MaxBody", c.MaxBody, 0, mostBody)
	case c.Commit < time.Millisecond || c.Commit > 50*time.Millisecond:
		return outside("Commit", c.Commit, time.Millisecond, 50*time.Millisecond)
	case c.Lease < DefaultLease || c.Lease > time.Hour:
		return outside("Lease", c.Lease, DefaultLease, time.Hour)
	case c.Tries < 1 || c.Tries > 1000:
		return outside("Tries", c.Tries, 1, 1000)
	case c.Window < 1 || c.Window > 1<<20:
		return outside("Window", c.Window, 1, 1<<20)
	case c.WindowBytes < 1<<20:
		return outside("WindowBytes", c.WindowBytes, 1<<20, "any")
	case c.DrainRequests < 1 || c.DrainRequests > MaxLanes:
		return outside("DrainRequests", c.DrainRequests, 1, MaxLanes)
	case c.StoreTimeout < 0 || c.StoreTimeout > MaxStoreTimeout:
		return outside("StoreTimeout", c.StoreTimeout, 0, MaxStoreTimeout)
	case c.MaxWrites < 1:
		return outside("MaxWrites", c.MaxWrites, 1, "any")
	case c.MaxWriteBytes < c.MaxBody+1:
		return outside("MaxWriteBytes", c.MaxWriteBytes, "more than MaxBody", "any")
	case c.MaxHeader < 1<<10 || c.MaxHeader > 64<<10:
		return outside("MaxHeader", c.MaxHeader, 1<<10, 64<<10)
	case c.MaxFields < 10 || c.MaxFields > 1000:
		return outside("MaxFields", c.MaxFields, 10, 1000)
	case c.MaxTarget < 256 || c.MaxTarget > 64<<10:
		return outside("MaxTarget", c.MaxTarget, 256, 64<<10)
	case c.TryTimeout < 0 || c.AnswerTimeout < 0 || c.MaxAge < 0 || c.Drain < 0 || c.ReadWait < 0 || c.ReadTimeout < 0:
		return bus.Errorf(bus.InvalidArgument, "mirror: no duration of Config but MaxLag may be negative")
	case c.Divergence != Park && c.Divergence != Stop:
		return outside("Divergence", c.Divergence, Park, Stop)
	case !slices.Contains([]ReadOrder{RoundRobin, ByPriority, LeastLatency}, c.Reads):
		return bus.Errorf(bus.InvalidArgument, "mirror: Config.Reads is %q, it must be %q, %q or %q", c.Reads, RoundRobin, ByPriority, LeastLatency).With("field", "Reads")
	case c.StatusPath[0] != '/' || c.StatusPath[len(c.StatusPath)-1] != '/':
		return bus.Errorf(bus.InvalidArgument, "mirror: Config.StatusPath is %q, it must begin and end with a slash", c.StatusPath).With("field", "StatusPath")
	}
	for _, method := range c.WriteMethods {
		if slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodConnect, http.MethodTrace}, method) || !isToken(method) {
			return bus.Errorf(bus.InvalidArgument, "mirror: Config.WriteMethods has %q, which cannot be a write", method).With("field", "WriteMethods")
		}
	}
	for _, rule := range c.AckRules {
		if err := rule.Ack.check(); err != nil {
			return err
		}
	}
	return c.Ack.check()
}

func orDefault[T comparable](v, value T) T {
	var zero T
	if v == zero {
		return value
	}
	return v
}
