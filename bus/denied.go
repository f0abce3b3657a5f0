package bus

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// settleTimeout bounds [Conn.Flush] for a ctx without a deadline.
const settleTimeout = 10 * time.Second

// Access is what somebody is about to do on the connection, subject by subject.
type Access struct {
	Publish   []string
	Subscribe []string
}

func (a Access) has(op, subject string) bool {
	switch op {
	case opPublish:
		return slices.Contains(a.Publish, subject)
	case opSubscribe:
		return slices.Contains(a.Subscribe, subject)
	}
	return false
}

const (
	opPublish   = "Publish"
	opSubscribe = "Subscription"
)

// Permitted calls f with a context that ends as soon as the server refuses the connection's user one of a, or refuses it the
// inboxes where answers to what f publishes come; a failing Permitted then returns that refusal, an [Error] with the code
// permission_denied whose detail "subject" says what was refused. Otherwise it returns what f does.
//
// NATS tells of a refusal beside the call and names the subject only. So all who publish to a subject, or subscribe to it,
// at that time over the same connection are told.
func (c *Conn) Permitted(ctx context.Context, a Access, f func(ctx context.Context) error) error {
	if e := c.denials.deaf.Load(); e != nil && len(a.Publish) > 0 {
		return c.deafError(*e)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := c.denials.watch(a, func(e *Error) { cancel(e) })
	defer stop()
	err := f(ctx)
	if e, ok := errors.AsType[*Error](context.Cause(ctx)); ok && err != nil && e.Code == PermissionDenied {
		return e
	}
	return err
}

// NotifyDenied makes c send to ch, without blocking, whenever the server refuses the connection's user one of a: an [Error]
// with the code permission_denied. stop ends it. A refusal is told again after each reconnect.
func (c *Conn) NotifyDenied(ch chan<- *Error, a Access) (stop func()) {
	return c.denials.watch(a, func(e *Error) {
		select {
		case ch <- e:
		default:
		}
	})
}

// Flush returns when the server has handled everything that c sent before, and c has heard what was refused of it: within
// [Conn.Permitted] that makes the refusal of a subscription an error. It waits at most 10 s where ctx has no deadline.
func (c *Conn) Flush(ctx context.Context) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, settleTimeout)
		defer cancel()
	}
	if err := c.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("bus: flush: %w", err)
	}
	for {
		// The client knows the last refusal before it tells of it, in another goroutine.
		last := c.nc.LastError()
		told, seen := c.denials.latest()
		if seen == last || !errors.Is(last, nats.ErrPermissionViolation) { //nolint:errorlint // the very value, not its kind
			return ctx.Err()
		}
		select {
		case <-told:
		case <-ctx.Done():
			return fmt.Errorf("bus: flush: %w", context.Cause(ctx))
		}
	}
}

// denials leads what the server refuses to those who wait for it. Requests to subjects that were answered before are not
// entered: the common case costs them a look into a table.
type denials struct {
	proven atomic.Pointer[proofs] // on the connection that stands, or is being made
	deaf   atomic.Pointer[string] // the subject of the inboxes that were refused

	mu      sync.Mutex
	waiting map[*waiter]struct{}
	seen    error         // the last refusal that was told of
	told    chan struct{} // closed at the next
}

type waiter struct {
	access Access
	tell   func(*Error)
}

func newDenials() *denials {
	d := &denials{waiting: map[*waiter]struct{}{}, told: make(chan struct{})}
	d.reset()
	return d
}

// reset forgets what held for a connection that is lost.
func (d *denials) reset() {
	d.deaf.Store(nil)
	d.proven.Store(&proofs{seed: maphash.MakeSeed()})
}

// proofs are subjects to which requests got through on one connection, by their hash; a later one replaces an earlier.
type proofs struct {
	seed     maphash.Seed
	subjects [512]atomic.Pointer[string]
}

func (p *proofs) slot(subject string) *atomic.Pointer[string] {
	return &p.subjects[maphash.String(p.seed, subject)%uint64(len(p.subjects))]
}

func (p *proofs) has(subject string) bool {
	s := p.slot(subject).Load()
	return s != nil && *s == subject
}

func (p *proofs) add(subject string) {
	p.slot(subject).Store(&subject)
}

func (p *proofs) drop(subject string) {
	p.slot(subject).Store(nil)
}

func (d *denials) watch(a Access, tell func(*Error)) (stop func()) {
	w := &waiter{a, tell}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting[w] = struct{}{}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.waiting, w)
	}
}

func (d *denials) latest() (told <-chan struct{}, seen error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.told, d.seen
}

// settle notes that everybody was told of a refusal.
func (d *denials) settle(refusal error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen = refusal
	close(d.told)
	d.told = make(chan struct{})
}

// concerned are those who wait for what pick says.
func (d *denials) concerned(pick func(Access) bool) []*waiter {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []*waiter
	for w := range d.waiting {
		if pick(w.access) {
			found = append(found, w)
		}
	}
	return found
}

// onDenied tells those concerned of a permission violation, and whether there were any.
func (c *Conn) onDenied(violation error) bool {
	defer c.denials.settle(violation)
	op, subject, ok := parseViolation(violation.Error())
	if op == opPublish {
		c.denials.proven.Load().drop(subject)
	}
	deaf := op == opSubscribe && c.ownInbox(subject)
	if deaf && strings.HasSuffix(subject, ".*") { // where all answers come, subscribed once per connection
		c.denials.deaf.Store(&subject)
	}
	found := c.denials.concerned(func(a Access) bool {
		return ok && (a.has(op, subject) || deaf && len(a.Publish) > 0)
	})
	for _, w := range found {
		if deaf {
			w.tell(c.deafError(subject))
			continue
		}
		verb := "publish to"
		if op == opSubscribe {
			verb = "subscribe to"
		}
		w.tell(Errorf(PermissionDenied, "%s may not %s %q: it needs a role, or a service in its role, that may",
			c.user(), verb, subject).With("subject", subject))
	}
	return len(found) > 0
}

// deafError says that no answer can be heard.
func (c *Conn) deafError(subject string) *Error {
	return Errorf(PermissionDenied, "%s may not subscribe to its inbox %q, where answers come: the connection needs the inbox prefix that its role allows",
		c.user(), subject).With("subject", subject)
}

// ownInbox tells whether subject is one that nats.go makes for answers on this connection.
func (c *Conn) ownInbox(subject string) bool {
	rest, ok := strings.CutPrefix(subject, cmp.Or(c.nc.Opts.InboxPrefix, "_INBOX")+".")
	return ok && !strings.ContainsAny(strings.TrimSuffix(rest, ".*"), ".*>")
}

// user is who the connection logged in as, for people.
func (c *Conn) user() string {
	if u := readUser(c.nc.Opts); u.Name != "" {
		role := ""
		for _, tag := range u.NATS.Tags {
			if r, ok := strings.CutPrefix(tag, "role:"); ok {
				role = fmt.Sprintf(" (role %.40s)", r)
			}
		}
		return fmt.Sprintf("user %.100q%s", u.Name, role)
	}
	if c.nc.Opts.User != "" {
		return fmt.Sprintf("user %.100q", c.nc.Opts.User)
	}
	return "this user"
}

// userToken is what we read of the token that a user logs in with. The server is who verifies it.
type userToken struct {
	Subject string `json:"sub"`
	Name    string `json:"name"`
	NATS    struct {
		Tags []string `json:"tags"`
	} `json:"nats"`
}

// readUser reads the token of the login, zero where there is none.
func readUser(o nats.Options) userToken {
	var u userToken
	if o.UserJWT == nil {
		return u
	}
	token, err := o.UserJWT()
	if err != nil {
		return u
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return u
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(claims, &u) != nil {
		return userToken{}
	}
	return u
}

// useOwnInbox is a nats.Option: who logs in with a token has inboxes under its own name, _INBOX.<public key>, unless it chose
// others. Roles allow those and no more, so that nobody hears the answers to others.
func useOwnInbox(o *nats.Options) error {
	if o.InboxPrefix != "" {
		return nil
	}
	if key := readUser(*o).Subject; CheckToken("user", key) == nil {
		o.InboxPrefix = "_INBOX." + key
	}
	return nil
}

// parseViolation finds in the server's words what was refused.
func parseViolation(text string) (op, subject string, ok bool) {
	for _, op := range [...]string{opPublish, opSubscribe} {
		_, rest, found := strings.Cut(text, "Violation for "+op+" to ")
		if !found {
			continue
		}
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return "", "", false
		}
		if subject, err = strconv.Unquote(quoted); err != nil {
			return "", "", false
		}
		return op, subject, true
	}
	return "", "", false
}
