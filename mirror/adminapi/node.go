package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/mirror"
)

// node is a backend as Spawn's clients see it, with more beside.
type node struct {
	Host        string       `json:"host"`
	Port        int          `json:"port"`
	Priority    int          `json:"priority"`
	Active      bool         `json:"active"`
	Maintenance bool         `json:"maintenance"`
	Name        string       `json:"name"`
	URL         string       `json:"url"`
	State       mirror.State `json:"state"`
	Waiting     uint64       `json:"waiting"`
	LagMS       int64        `json:"lag_ms"`
}

func nodeOf(c *mirror.Condition) node {
	host, port := c.HostPort()
	return node{host, port, c.Priority, c.Active, c.Maintenance, c.Name, c.URL, stateOf(c), c.Waiting, c.Lag.Milliseconds()}
}

func stateOf(c *mirror.Condition) mirror.State {
	if c.State == "" {
		return "unknown"
	}
	return c.State
}

// address is what Spawn names a node by. The port is 0 where only the host is meant, and the host is empty where all are.
type address struct {
	host string
	port int
}

func (ad address) matches(b *mirror.Backend) bool {
	host, port := b.HostPort()
	return (ad.host == "" || ad.host == host) && (ad.port == 0 || ad.port == port)
}

const maxHostName = 255

// hostName does not count: a bounded repetition takes milliseconds to compile, at each start of a program.
var hostName = regexp.MustCompile(`^[0-9A-Za-z_.-]+$`)

// pathAddress is the address in the path.
func pathAddress(r *http.Request) (address, error) {
	ad := address{host: r.PathValue("host")}
	if ad.host != "" && !isHost(ad.host) {
		return ad, spawnInvalid("Could not recognize host parameter")
	}
	text := r.PathValue("port")
	if text == "" {
		return ad, nil
	}
	var err error
	if ad.port, err = strconv.Atoi(text); err != nil || ad.port < 0 || ad.port > 65535 {
		return ad, spawnInvalid("Could not recognize port parameter")
	}
	if ad.port == 0 {
		return ad, spawnInvalid("The parameter 'port' could not be zero value")
	}
	return ad, nil
}

func isHost(host string) bool {
	if len(host) <= maxHostName && hostName.MatchString(host) {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

func spawnInvalid(text string) error {
	e := bus.Errorf(bus.InvalidArgument, "%s", text)
	e.Status = http.StatusBadRequest
	return e
}

// getNodes shows all nodes, those of a host, or one.
func (a spawnAPI) getNodes(w http.ResponseWriter, r *http.Request) error {
	ad, err := pathAddress(r)
	if err != nil {
		return err
	}
	var found []node
	for _, c := range a.mirror.Conditions() {
		if ad.matches(&c.Backend) {
			found = append(found, nodeOf(&c))
		}
	}
	if len(found) == 0 {
		return noRecords()
	}
	a.answerNodes(w, r, http.StatusOK, found)
	return nil
}

func (a spawnAPI) answerNodes(w http.ResponseWriter, r *http.Request, status int, nodes []node) {
	a.answer(w, r, status, a.envelope(r, results{true, len(nodes), nodes}))
}

// deleteNodes deletes all nodes, those of a host, or one.
func (a spawnAPI) deleteNodes(w http.ResponseWriter, r *http.Request) error {
	ad, err := pathAddress(r)
	if err != nil {
		return err
	}
	all, err := a.mirror.Backends(r.Context())
	if err != nil {
		return err
	}
	deleted := false
	for _, b := range all {
		if !ad.matches(&b) {
			continue
		}
		if err := a.mirror.Delete(r.Context(), b.Name); err != nil && bus.CodeOf(err) != bus.NotFound { // somebody else was faster
			return err
		}
		deleted = true
	}
	if !deleted && ad.host != "" {
		return noRecords()
	}
	a.answer(w, r, http.StatusOK, a.envelope(r, struct {
		Success bool `json:"success"`
	}{true}))
	return nil
}

// change is what a client says about a node. What is nil stays as it is.
type change struct {
	address

	Priority            *int
	Active, Maintenance *bool
}

// readChange reads an object. What is shown of a node beside Spawn's own fields is left alone.
func readChange(raw []byte) (change, error) {
	var c change
	in := &input{}
	if json.Unmarshal(raw, &in.members) != nil || in.members == nil {
		return c, spawnInvalid("Could not recognize parameters")
	}
	take(in, "host", "a string", &c.host)
	take(in, "port", "a number", &c.port)
	optional(in, "priority", "a number", &c.Priority)
	optional(in, "active", "true or false", &c.Active)
	optional(in, "maintenance", "true or false", &c.Maintenance)
	in.skip("name", "url", "state", "waiting", "lag_ms")
	if err := in.end(); err != nil {
		return c, spawnInvalid("Could not recognize " + in.Fields[0].Field + " parameter")
	}
	switch {
	case c.host != "" && !isHost(c.host):
		return c, spawnInvalid("Could not recognize host parameter")
	case c.port < 0 || c.port > 65535:
		return c, spawnInvalid("Could not recognize port parameter")
	}
	return c, nil
}

func optional[T any](in *input, name, want string, v **T) {
	var value T
	if take(in, name, want, &value) {
		*v = &value
	}
}

// apply makes of b what the client wants, but for its address.
func (c *change) apply(b mirror.Backend) mirror.Backend {
	if c.Priority != nil {
		b.Priority = *c.Priority
	}
	if c.Active != nil {
		b.Active = *c.Active
	}
	if c.Maintenance != nil {
		b.Maintenance = *c.Maintenance
	}
	return b
}

// putNode adds a node, or changes it. One whose host or port is changed keeps what waits for it: it is the same application at another place.
func (a spawnAPI) putNode(w http.ResponseWriter, r *http.Request) error {
	ad, err := pathAddress(r)
	if err != nil {
		return err
	}
	body, err := a.readBody(w, r)
	if err != nil {
		return err
	}
	c, err := readChange(body)
	if err != nil {
		return err
	}
	all, err := a.mirror.Backends(r.Context())
	if err != nil {
		return err
	}
	known, status := find(all, ad), http.StatusAccepted
	if known == nil {
		status = http.StatusCreated
		c.address = ad // it is what the path says
	}
	b, err := move(all, known, ad, &c)
	if err != nil {
		return err
	}
	if _, err := a.mirror.Set(r.Context(), b); err != nil {
		return err
	}
	a.answerNodes(w, r, status, a.named(b.Name))
	return nil
}

// putHost changes all nodes of a host.
func (a spawnAPI) putHost(w http.ResponseWriter, r *http.Request) error {
	ad, err := pathAddress(r)
	if err != nil {
		return err
	}
	body, err := a.readBody(w, r)
	if err != nil {
		return err
	}
	c, err := readChange(body)
	if err != nil {
		return err
	}
	if c.port != 0 {
		return spawnInvalid("Could not recognize port parameter")
	}
	all, err := a.mirror.Backends(r.Context())
	if err != nil {
		return err
	}
	var names []string
	for _, b := range all {
		if !ad.matches(&b) {
			continue
		}
		changed, err := move(all, &b, ad, &c)
		if err == nil {
			_, err = a.mirror.Set(r.Context(), changed)
		}
		if err != nil {
			return err
		}
		names = append(names, b.Name)
	}
	if len(names) == 0 {
		return noRecords()
	}
	a.answerNodes(w, r, http.StatusAccepted, a.named(names...))
	return nil
}

// putNodes adds and changes many. Each is known by its host and port; the first mistake is found before anything is changed.
func (a spawnAPI) putNodes(w http.ResponseWriter, r *http.Request) error {
	body, err := a.readBody(w, r)
	if err != nil {
		return err
	}
	var raw []json.RawMessage
	if json.Unmarshal(body, &raw) != nil || len(bytes.TrimSpace(body)) == 0 || len(raw) > mirror.MaxBackends {
		return spawnInvalid("Could not recognize parameters")
	}
	all, err := a.mirror.Backends(r.Context())
	if err != nil {
		return err
	}
	var set []mirror.Backend
	for _, raw := range raw {
		c, err := readChange(raw)
		switch {
		case err != nil:
			return err
		case c.host == "":
			return spawnInvalid("The parameter 'host' could not be empty value")
		case c.port == 0:
			return spawnInvalid("The parameter 'port' could not be zero value")
		}
		known := find(all, c.address)
		b, err := move(all, known, c.address, &c)
		if err != nil {
			return err
		}
		if known == nil {
			all = append(all, b)
		} else {
			*known = b
		}
		set = append(set, b)
	}
	if err := a.setAll(r.Context(), set); err != nil {
		return err
	}
	names := make([]string, 0, len(set))
	for _, b := range set {
		names = append(names, b.Name)
	}
	a.answerNodes(w, r, http.StatusAccepted, a.named(names...))
	return nil
}

func (a spawnAPI) setAll(ctx context.Context, set []mirror.Backend) error {
	for _, b := range set {
		if err := b.Validate(); err != nil {
			return err
		}
	}
	for _, b := range set {
		if _, err := a.mirror.Set(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// named are the nodes of these backends, without repeats.
func (a spawnAPI) named(names ...string) []node {
	want := map[string]bool{}
	for _, name := range names {
		want[name] = true
	}
	nodes := []node{}
	for _, c := range a.mirror.Conditions() {
		if want[c.Name] {
			nodes = append(nodes, nodeOf(&c))
		}
	}
	return nodes
}

// find is the backend at an address, nil for none.
func find(all []mirror.Backend, ad address) *mirror.Backend {
	for i := range all {
		if ad.matches(&all[i]) {
			return &all[i]
		}
	}
	return nil
}

// move is the backend that a change makes of the one known at ad, or of nothing.
func move(all []mirror.Backend, known *mirror.Backend, ad address, c *change) (mirror.Backend, error) {
	if known == nil {
		b := mirror.Backend{Name: freeName(all, ad), URL: "http://" + net.JoinHostPort(ad.host, strconv.Itoa(ad.port))}
		return c.apply(b), nil
	}
	b := c.apply(*known)
	host, port := known.HostPort()
	to := address{host, port}
	if c.host != "" {
		to.host = c.host
	}
	if c.port != 0 {
		to.port = c.port
	}
	if to == (address{host, port}) {
		return b, nil
	}
	if find(all, to) != nil {
		return b, bus.Errorf(bus.AlreadyExists, "There is a node at this host and port already")
	}
	scheme := "http://"
	if len(known.URL) > 8 && known.URL[:8] == "https://" {
		scheme = "https://"
	}
	b.URL = scheme + net.JoinHostPort(to.host, strconv.Itoa(to.port))
	return b, nil
}

// freeName is a name for a backend at an address. Two hosts may be written alike in names: a.b and a-b.
func freeName(all []mirror.Backend, ad address) string {
	name := mirror.NameFor(ad.host, ad.port)
	for n := 2; ; n++ {
		taken := false
		for _, b := range all {
			taken = taken || b.Name == name
		}
		if !taken {
			return name
		}
		name = mirror.NameFor(ad.host, ad.port) + "-" + strconv.Itoa(n)
	}
}
