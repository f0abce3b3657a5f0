package grpcbus

import (
	"cmp"
	"context"
	"encoding/json"
	"net"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/resolver"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/micro"
	"github.com/skybus-io/skybus/micro/registry"
)

// AddressAttribute is the attribute of an instance that holds the address of its gRPC server.
const AddressAttribute = "grpc-address"

// Scheme is that of the targets a resolver of [NewResolver] takes.
const Scheme = "skybus"

// Advertise says in the instance's record that a native gRPC server listens at address, "host:port". It is for servers whose
// callers come by [NewResolver]: they find it while the instance is registered and alive. host is told instead of one that
// is empty or unspecified, as in ":50051", and may be empty otherwise. Call it before [micro.Service.Run], once the server listens.
func Advertise(ctx context.Context, s *micro.Service, address, host string) error {
	h, port, err := net.SplitHostPort(address)
	if err != nil || port == "" || port == "0" {
		return bus.Errorf(bus.InvalidArgument, "grpcbus: advertise %.80q: want host:port", address)
	}
	if ip := net.ParseIP(h); h == "" || ip != nil && ip.IsUnspecified() {
		if h = host; h == "" {
			return bus.Errorf(bus.InvalidArgument, "grpcbus: advertise %.80q: it listens everywhere, and no host is told to reach it by", address)
		}
	}
	return s.SetAttribute(ctx, AddressAttribute, net.JoinHostPort(h, port))
}

// NewResolver resolves targets skybus:///app.env.service to the instances of the service that are registered, alive and have
// an address, by what c knows. It is for one grpc.NewClient, or several:
//
//	grpc.NewClient("skybus:///shop.prod.orders", grpc.WithResolvers(grpcbus.NewResolver(client)), ...)
//
// The namespace must be that of c. Connections follow the instances as they come and go; gRPC's own policies choose among
// them. c must outlive them.
func NewResolver(c *micro.Client) resolver.Builder { return &builder{client: c} }

type builder struct{ client *micro.Client }

var _ resolver.Builder = (*builder)(nil)

func (b *builder) Scheme() string { return Scheme }

// Build begins to follow the service that target names.
func (b *builder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	address, err := bus.ParseAddress(cmp.Or(strings.TrimPrefix(target.URL.Path, "/"), target.URL.Host))
	if err != nil {
		return nil, err
	}
	if ns := b.client.Conn().Namespace(); address.Namespace != ns {
		return nil, bus.Errorf(bus.InvalidArgument, "grpcbus: target %s: the client is in the namespace %s", address, ns)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &follower{registry: b.client.Registry(), address: address, cc: cc, cancel: cancel}
	r.running.Go(func() { r.follow(ctx) })
	return r, nil
}

// follower tells a connection which instances there are.
type follower struct {
	registry *registry.Registry
	address  bus.Address
	cc       resolver.ClientConn
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

var _ resolver.Resolver = (*follower)(nil)

func (f *follower) follow(ctx context.Context) {
	var told []string
	for first := true; ; first = false {
		changed := f.registry.Changed()
		if now := f.addresses(); first || !slices.Equal(now, told) {
			f.tell(now)
			told = now
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// addresses are those of the instances, in order.
func (f *follower) addresses() []string {
	service := f.registry.Service(f.address.Service)
	if service == nil {
		return nil
	}
	var all []string
	for _, i := range service.Online {
		var addr string
		if f.address.Instance != "" && i.Instance != f.address.Instance {
			continue
		}
		if json.Unmarshal(i.Attributes[AddressAttribute], &addr) == nil && addr != "" && !slices.Contains(all, addr) {
			all = append(all, addr)
		}
	}
	slices.Sort(all)
	return all
}

func (f *follower) tell(addresses []string) {
	if len(addresses) == 0 {
		f.cc.ReportError(bus.Errorf(bus.Unavailable, "no instance of %s with a gRPC address is online", f.address))
		return
	}
	state := resolver.State{}
	for _, addr := range addresses {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: addr})
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: addr}}})
	}
	_ = f.cc.UpdateState(state) // a policy that does not take it asks again, and is told of the next change
}

// ResolveNow does nothing: changes are told as they come.
func (f *follower) ResolveNow(resolver.ResolveNowOptions) {}

func (f *follower) Close() {
	f.cancel()
	f.running.Wait()
}
