package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/internal/backoff"
)

// Defaults of a [Health].
const (
	DefaultHealthPath     = "/"
	DefaultHealthEvery    = 10 * time.Second
	DefaultHealthTimeout  = 5 * time.Second
	DefaultHealthStatus   = "200-399"
	anyHealthStatus       = "200-499" // of a path that nobody has chosen
	DefaultHealthyAfter   = 1
	DefaultUnhealthyAfter = 3

	maxHealthBody  = 64 << 10
	drainedPerTime = 4 << 10
)

// Health says how backends are checked. Each process checks by itself. A backend that is not healthy serves no reads; writes are sent to it as
// long as it takes them, and when it is healthy again the sender begins at once to send those that wait.
type Health struct {
	// Path is asked for, by GET; a query may follow. Empty means "/", where any answer below 500 will do.
	Path string
	// Every is how often, give or take a tenth. 0 means 10 s; negative: never, all are taken for healthy.
	Every time.Duration
	// Timeout of one check. 0 means 5 s.
	Timeout time.Duration
	// Status is what a healthy backend answers: numbers and ranges, joined by commas. Empty means "200-399" for a Path that is given.
	Status string
	// Body is a regular expression that the first 64 KiB of the answer must match. Empty means that any will do.
	Body string
	// Healthy checks in a row that succeed make a backend healthy, and Unhealthy ones that fail make it unhealthy. 0 means 1 and 3. Until
	// then a backend that is new to the process is taken for healthy.
	Healthy   int
	Unhealthy int
}

func (h Health) withDefaults() Health {
	if h.Path == "" {
		h.Path, h.Status = DefaultHealthPath, orDefault(h.Status, anyHealthStatus)
	}
	h.Status = orDefault(h.Status, DefaultHealthStatus)
	h.Every, h.Timeout = orDefault(h.Every, DefaultHealthEvery), orDefault(h.Timeout, DefaultHealthTimeout)
	h.Healthy, h.Unhealthy = orDefault(h.Healthy, DefaultHealthyAfter), orDefault(h.Unhealthy, DefaultUnhealthyAfter)
	return h
}

// checks are a Health that was read.
type checks struct {
	Health
	url    *url.URL // path and query
	status [][2]int
	body   *regexp.Regexp // nil for any
}

func newChecks(h Health) (*checks, error) {
	refuse := func(field, format string, args ...any) error {
		return bus.Errorf(bus.InvalidArgument, "mirror: Config.Health."+field+": "+format, args...).With("field", "Health."+field)
	}
	c := &checks{Health: h}
	var err error
	if c.url, err = url.ParseRequestURI(h.Path); err != nil || c.url.Host != "" || h.Path[0] != '/' {
		return nil, refuse("Path", "%.80q is no path", h.Path)
	}
	for part := range strings.SplitSeq(h.Status, ",") {
		from, to, _ := strings.Cut(strings.TrimSpace(part), "-")
		least, err1 := strconv.Atoi(from)
		most, err2 := strconv.Atoi(orDefault(to, from))
		if err1 != nil || err2 != nil || least < 100 || most > 599 || least > most {
			return nil, refuse("Status", "%.40q: want numbers from 100 to 599 and ranges of them, such as 200-299,304", h.Status)
		}
		c.status = append(c.status, [2]int{least, most})
	}
	if h.Body != "" {
		if c.body, err = regexp.Compile(h.Body); err != nil {
			return nil, refuse("Body", "%w", err)
		}
	}
	if h.Timeout < 0 || h.Healthy < 0 || h.Unhealthy < 0 {
		return nil, refuse("Timeout", "neither it nor Healthy nor Unhealthy may be negative")
	}
	return c, nil
}

// nodeHealth is what this process has found out about a backend.
type nodeHealth struct {
	down    atomic.Bool
	applier atomic.Pointer[applier] // of this process, while it sends to the backend
}

// checkHealth checks all active backends until ctx ends.
func (m *Mirror) checkHealth(ctx context.Context) {
	if m.check.Every < 0 {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	type checked struct {
		url  string
		stop context.CancelFunc
	}
	running := map[string]checked{}
	for {
		edited := m.edited.wait()
		seen := map[string]bool{}
		for _, n := range *m.nodes.Load() {
			if !n.Active || n.Maintenance {
				continue
			}
			seen[n.Name] = true
			if c, ok := running[n.Name]; ok {
				if c.url == n.URL {
					continue
				}
				c.stop()
			}
			each, stop := context.WithCancel(ctx)
			running[n.Name] = checked{n.URL, stop}
			n.health.down.Store(false)
			wg.Go(func() { m.checkNode(each, n) })
		}
		for name, c := range running {
			if !seen[name] {
				c.stop()
				delete(running, name)
			}
		}
		select {
		case <-ctx.Done():
			for _, c := range running {
				c.stop()
			}
			return
		case <-edited:
		}
	}
}

// checkNode checks one backend until ctx ends.
func (m *Mirror) checkNode(ctx context.Context, n *node) {
	down, streak := false, 0
	for {
		err := m.checkOnce(ctx, n)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			n.health.recovered()
		}
		if (err != nil) == down {
			streak = 0
		} else if streak++; err == nil && streak >= m.check.Healthy || err != nil && streak >= m.check.Unhealthy {
			down, streak = !down, 0
			n.health.down.Store(down)
			if down {
				m.log.InfoContext(ctx, "backend unhealthy, it serves no reads", "backend", n.Name, "error", err)
			} else {
				m.log.InfoContext(ctx, "backend healthy, it serves reads once it is level", "backend", n.Name)
			}
			m.changed.notify()
		}
		every := m.check.Every
		if !backoff.Sleep(ctx, every-every/10+rand.N(every/5+1)) {
			return
		}
	}
}

// recovered lets the sender try at once, if it waits because the backend did not answer.
func (h *nodeHealth) recovered() {
	if a := h.applier.Load(); a != nil && a.breaker.open() {
		a.breaker.retry()
		a.ready.notify()
	}
}

// checkOnce makes one check.
func (m *Mirror) checkOnce(ctx context.Context, n *node) error {
	ctx, cancel := context.WithTimeout(ctx, m.check.Timeout)
	defer cancel()
	u := *m.check.url
	u.Scheme, u.Host = n.base.Scheme, n.base.Host
	req := (&http.Request{Method: http.MethodGet, URL: &u, Host: u.Host, Header: http.Header{"User-Agent": {"skybus-mirror"}}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
	resp, err := m.cfg.Transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if !m.check.expects(resp.StatusCode) {
		return fmt.Errorf("mirror: status %d, want %s", resp.StatusCode, m.check.Status)
	}
	if m.check.body == nil {
		_, _ = io.CopyN(io.Discard, resp.Body, drainedPerTime) // so that the connection can be used again
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHealthBody))
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	if !m.check.body.Match(body) {
		return errBodyDiffers
	}
	return nil
}

var errBodyDiffers = errors.New("mirror: the body does not match")

func (c *checks) expects(status int) bool {
	for _, r := range c.status {
		if status >= r[0] && status <= r[1] {
			return true
		}
	}
	return false
}
