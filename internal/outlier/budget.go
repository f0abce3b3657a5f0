package outlier

import (
	"math"
	"sync"
	"time"
)

// Defaults of a [BudgetConfig], which are those of Linkerd and Finagle.
const (
	DefaultRetryPercent = 20
	DefaultRetryWindow  = 10 * time.Second
	DefaultMinRetries   = 10
)

// slots are the parts of a window; what is older than it is forgotten by the part.
const slots = 10

// BudgetConfig says how much may be tried again.
type BudgetConfig struct {
	// Percent of the requests of the window may be tried again. 0 means 20, negative means none.
	Percent int
	// Window is how long a request counts. 0 means 10 s.
	Window time.Duration
	// MinPerSecond retries are allowed whatever the requests, for clients that make few. 0 means 10, negative means none.
	MinPerSecond int
}

// Budget bounds the retries of a client by its requests, so that a service in trouble gets at most a fixed share of load on top
// of what made the trouble. Retries not used are kept for the length of the window. It is safe for concurrent use.
type Budget struct {
	percent, least int64 // least: retries of a window without requests
	slot           time.Duration
	begin          time.Time

	mu       sync.Mutex
	at       int64 // number of the slot in use since begin
	requests [slots]int64
	retries  [slots]int64
	sum      BudgetStatus // of the slots
}

// BudgetStatus is the account of the window.
type BudgetStatus struct {
	Requests int64
	Retries  int64
	Left     int64 // retries that would be granted now
}

// NewBudget is a budget with nothing spent.
func NewBudget(cfg BudgetConfig) *Budget {
	if cfg.Percent == 0 {
		cfg.Percent = DefaultRetryPercent
	}
	if cfg.Window <= 0 {
		cfg.Window = DefaultRetryWindow
	}
	if cfg.MinPerSecond == 0 {
		cfg.MinPerSecond = DefaultMinRetries
	}
	return &Budget{
		percent: int64(max(0, cfg.Percent)),
		least:   int64(math.Ceil(float64(max(0, cfg.MinPerSecond)) * cfg.Window.Seconds())),
		slot:    max(1, cfg.Window/slots),
		begin:   time.Now(),
	}
}

// Request counts a request, not its retries.
func (b *Budget) Request() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turnLocked()
	b.requests[b.at%slots]++
	b.sum.Requests++
}

// Retry tells whether a request may be tried again now, and counts it if so. Without leave the caller gives up with the
// error it has.
func (b *Budget) Retry() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turnLocked()
	if b.leftLocked() <= 0 {
		return false
	}
	b.retries[b.at%slots]++
	b.sum.Retries++
	return true
}

// Status is the account now, for display.
func (b *Budget) Status() BudgetStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turnLocked()
	s := b.sum
	s.Left = max(0, b.leftLocked())
	return s
}

func (b *Budget) leftLocked() int64 {
	return b.sum.Requests*b.percent/100 + b.least - b.sum.Retries
}

// turnLocked forgets the slots that the window has left behind.
func (b *Budget) turnLocked() {
	now := int64(time.Since(b.begin) / b.slot)
	for range min(now-b.at, slots) {
		b.at++
		b.sum.Requests -= b.requests[b.at%slots]
		b.sum.Retries -= b.retries[b.at%slots]
		b.requests[b.at%slots], b.retries[b.at%slots] = 0, 0
	}
	b.at = max(b.at, now)
}
