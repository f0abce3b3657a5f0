package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"github.com/skybus-io/skybus/micro"
)

// nameGatewayCall is the measurement of a typed service behind the gateway.
const nameGatewayCall = "gateway-call"

const (
	gatewayCallCallers = 64
	endpointThing      = "thing"
	thingRoute         = "/thing"  // without any configuration of the gateway
	thingEntry         = "/things" // by an entry
	thingCall          = "/v1/call/" + serviceName + "/" + endpointThing
	thingPoll          = 10 * time.Millisecond
)

// thing is what goes there and back as JSON, of about 100 bytes.
type thing struct {
	ID    int64    `json:"id"`
	Name  string   `json:"name"`
	Price float64  `json:"price"`
	Stock int      `json:"stock"`
	Tags  []string `json:"tags"`
}

func newThing() thing {
	return thing{ID: firstID, Name: "widget, extra large, sky blue", Price: 129.95, Stock: 42, Tags: []string{"new", "blue"}}
}

// answerThing is what the service and the backend do.
func answerThing(t thing) thing {
	t.ID++
	return t
}

// startThingService is the service behind the gateway.
func startThingService(ctx context.Context, url string) (stop func() error, err error) {
	return serveSkybus(ctx, url, func(svc *micro.Service) error {
		return micro.Handle(svc, endpointThing, func(_ context.Context, t thing) (thing, error) { return answerThing(t), nil })
	})
}

// startThingBackend is the same by net/http, behind proxies.
func startThingBackend(ctx context.Context) (url string, stop func() error, err error) {
	addr, stop, err := serveHTTP(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var t thing
		if err := json.NewDecoder(r.Body).Decode(&t); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		data, err := json.Marshal(answerThing(t))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(data) // the client compares
	}))
	return "http://" + addr, stop, err
}

// newThingCaller posts things at o.URL, each over a connection of its own where o.Variant is variantFresh. It returns when the first is
// answered: what was stored for the gateway is live then.
func newThingCaller(ctx context.Context, o order) (caller, func() error, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, nil, err
	}
	body, err := json.Marshal(newThing())
	if err != nil {
		return nil, nil, err
	}
	c := &leanClient{status: http.StatusOK, fresh: o.Variant == variantFresh, idle: make(chan *leanConn, maxCallers)}
	if c.body, err = json.Marshal(answerThing(newThing())); err != nil {
		return nil, nil, err
	}
	header := ""
	if c.fresh {
		header = "Connection: close\r\n"
	}
	c.requests = []leanRequest{leanPost(u.Host, u.Path, header, string(body))}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := c.call(ctx, 0)
		if err == nil {
			return c.call, c.close, nil
		}
		if late := pause(ctx, thingPoll); late != nil {
			return nil, nil, errors.Join(fmt.Errorf("%s: %w: %w", o.URL, late, err), c.close())
		}
	}
}

// variantFresh are callers with a connection for each request.
const variantFresh = "a connection each"

// thingGateway is a gateway in front of the service.
type thingGateway struct {
	gateway *platform
	all     []int // the processes whose CPU time counts: gateway, server, service
}

// startThingGateway starts the service, in c, and stores the route and the entry for it. Apart, the NATS server is a process beside the
// gateway; otherwise both are one `skybus up`.
func (t *troupe) startThingGateway(ctx context.Context, c *crew, apart bool) (g thingGateway, err error) {
	server := ""
	if apart {
		servers, err := t.servers(ctx, 1, "2m")
		if err != nil {
			return g, err
		}
		server = servers[0]
		if g.gateway, err = t.program(ctx, "gateway", "--http", freePort, "--admin", freePort, "--server", server); err != nil {
			return g, err
		}
		g.all = pidsOf(t.programs[len(t.programs)-2:])
	} else {
		if g.gateway, err = t.program(ctx, "up", upArgs("--memory")...); err != nil {
			return g, err
		}
		server, g.all = g.gateway.urls["nats"], []int{g.gateway.cmd.Process.Pid}
	}
	service, _, err := c.start(ctx, roleService, order{Part: nameGatewayCall, Side: sideSkybus, URL: server})
	if err != nil {
		return g, err
	}
	g.all = append(g.all, service.cmd.Process.Pid)
	route := fmt.Sprintf("steps: [{service: %s, endpoint: %s}]", serviceName, endpointThing)
	if err := t.b.command(ctx, server, route, "routes", "put", strings.Trim(thingRoute, "/"), "-f", "-"); err != nil {
		return g, err
	}
	entry := fmt.Sprintf("{method: POST, path: %s, call: %s.%s}", thingEntry, serviceName, endpointThing)
	return g, t.b.command(ctx, server, entry, "http", "put", "things", "-f", "-", "--wait")
}

// command runs a command of skybus that ends by itself.
func (b *bench) command(ctx context.Context, server, stdin string, args ...string) error {
	program, err := b.skybus(ctx)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, append(args, "--server", server)...)
	cmd.Env = platformEnv()
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("skybus %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// posting is a variant that posts things at an address.
func (c *crew) posting(ctx context.Context, b *bench, what, url string, all []int) (variant, error) {
	client, _, err := c.start(ctx, roleClient, order{Part: nameGatewayCall, URL: url})
	if err == nil {
		_, err = client.do(order{Op: opLoad, Callers: gatewayCallCallers, For: b.set.warmUp()})
	}
	if err != nil {
		return variant{}, fmt.Errorf("%s: %w", what, err)
	}
	return b.requesting(what, client, gatewayCallCallers, all), nil
}

// gatewayCall is JSON by HTTP to a typed service on the bus and back, beside proxies with the same service by net/http behind them.
func (b *bench) gatewayCall(ctx context.Context) (_ []section, err error) {
	t := &troupe{b: b, crew: crew{dir: b.dir}}
	defer func() { err = errors.Join(err, t.stop()) }()
	c := &crew{dir: b.dir} // ends before the servers, without which a service cannot say goodbye
	defer func() { err = errors.Join(c.close(), err) }()
	var variants []variant
	add := func(what, url string, all []int) error {
		v, err := c.posting(ctx, b, what, url, all)
		variants = append(variants, v)
		return err
	}
	up, err := t.startThingGateway(ctx, c, false)
	if err != nil {
		return nil, err
	}
	apart, err := t.startThingGateway(ctx, c, true)
	if err != nil {
		return nil, err
	}
	backend, ans, err := c.start(ctx, roleService, order{Part: nameGatewayCall, Side: sidePlain})
	if err != nil {
		return nil, err
	}
	t.targets = []string{ans.URL}
	proxy, ans, err := c.start(ctx, roleProxy, order{URLs: t.targets})
	if err != nil {
		return nil, err
	}
	const entry, peer = 0, 4 // in the list of variants
	err = cmp.Or(
		add("skybus up, entry", up.gateway.urls["http"]+thingEntry, up.all),
		add("skybus up, route", up.gateway.urls["http"]+thingRoute, up.all),
		add("skybus up, /v1/call", up.gateway.urls["http"]+thingCall, up.all),
		add("gateway and server apart, entry", apart.gateway.urls["http"]+thingEntry, apart.all),
		add("httputil.ReverseProxy", ans.URL+thingEntry, []int{proxy.cmd.Process.Pid, backend.cmd.Process.Pid}),
	)
	if err != nil {
		return nil, err
	}
	n, err := t.nginx(ctx, false)
	if err == nil && n != nil {
		err = add("nginx", n.url+thingEntry, append(n.pids, backend.cmd.Process.Pid))
	}
	if err != nil {
		return nil, err
	}
	s := section{Name: nameGatewayCall, Columns: requestColumns(), Notes: []string{gatewayCallNote()}}
	if s.Rows, err = b.turns(ctx, s.Name, b.set.windows, variants); err != nil {
		return nil, err
	}
	for _, p := range s.Rows[peer:len(variants)] {
		for _, r := range s.Rows[entry:peer] {
			again := ratio(r, p)
			again.What = r.What + " / " + p.What
			s.Rows = append(s.Rows, again)
		}
	}
	return []section{s}, b.profiledPrograms(ctx, nameGatewayCall, []*platform{up.gateway}, variants[entry])
}

func gatewayCallNote() string {
	body, _ := json.Marshal(newThing()) // it always can be
	return fmt.Sprintf("gateway-call: POST of a JSON object of %d B, answered with such a one by a service that decodes and encodes it; %d requests at a time over connections"+
		" that stay open, each answer compared. skybus up, as the proxy, is one process (gateway and NATS server) before one with the service, so that these are what the ratios"+
		" are best taken of; apart, gateway and server are two. CPU is that of the gateway or proxy, the server, and the service or backend, without the client, with"+
		" whom they share the machine.", len(body), gatewayCallCallers)
}
