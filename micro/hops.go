package micro

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skybus-io/skybus/bus"
)

// Hop is what one instance did for a request, as its reply tells where the caller asked.
type Hop struct {
	// Address is the instance's, Endpoint what it was asked for.
	Address  string
	Endpoint string
	// Took is how long the instance had the request: waiting for its turn, decoding and handling, with the calls made
	// meanwhile, and without the way there and back.
	Took time.Duration
	// Code is empty for an answer.
	Code bus.Code
	// Depth is 0 for who was called, 1 for those who were called by that one, and so on. Each follows who called it.
	Depth int
}

// What one reply tells of. What is more is left out, the hops that ended last first.
const (
	MaxHops       = 64
	maxHopsHeader = 4 << 10
	maxHopCode    = 32
)

const addressScheme = "skybus://"

// encodeHops writes hops as a header value, as many as fit: "app.env.service/instance endpoint nanoseconds code depth" each,
// with commas between them. Those that do not read back are left out.
func encodeHops(hops []Hop) string {
	var b strings.Builder
	n := 0
	for _, h := range hops {
		code := string(h.Code)
		if code == "" {
			code = "-"
		}
		text := strings.TrimPrefix(h.Address, addressScheme) + " " + h.Endpoint + " " + strconv.FormatInt(int64(h.Took), 10) + " " +
			code + " " + strconv.Itoa(h.Depth)
		if _, err := decodeHop(text); err != nil {
			continue
		}
		if n == MaxHops || b.Len()+1+len(text) > maxHopsHeader {
			break
		}
		if n > 0 {
			b.WriteByte(',')
		}
		b.WriteString(text)
		n++
	}
	return b.String()
}

// decodeHops reads what encodeHops wrote. Anything else is invalid_argument.
func decodeHops(value string) ([]Hop, error) {
	if len(value) > maxHopsHeader {
		return nil, bus.Errorf(bus.InvalidArgument, "header %s has %d bytes: want at most %d", bus.HeaderHops, len(value), maxHopsHeader)
	}
	if value == "" {
		return nil, nil
	}
	if n := strings.Count(value, ",") + 1; n > MaxHops {
		return nil, bus.Errorf(bus.InvalidArgument, "header %s has %d hops: want at most %d", bus.HeaderHops, n, MaxHops)
	}
	var hops []Hop
	for text := range strings.SplitSeq(value, ",") {
		h, err := decodeHop(text)
		if err != nil {
			return nil, err
		}
		hops = append(hops, h)
	}
	return hops, nil
}

func decodeHop(text string) (Hop, error) {
	bad := func() (Hop, error) {
		return Hop{}, bus.Errorf(bus.InvalidArgument, "header %s: %.80q: want address, endpoint, nanoseconds, code and depth", bus.HeaderHops, text)
	}
	f := strings.Split(text, " ")
	if len(f) != 5 {
		return bad()
	}
	address, err := bus.ParseAddress(addressScheme + f[0])
	took, terr := strconv.ParseInt(f[2], 10, 64)
	depth, derr := strconv.Atoi(f[4])
	canonical := strconv.FormatInt(took, 10) == f[2] && strconv.Itoa(depth) == f[4]
	if err != nil || terr != nil || derr != nil || !canonical || took < 0 || depth < 0 || depth >= MaxHops ||
		bus.CheckToken("endpoint", f[1]) != nil || !hopCode(f[3]) {
		return bad()
	}
	return Hop{Address: address.String(), Endpoint: f[1], Took: time.Duration(took), Code: bus.Code(strings.TrimPrefix(f[3], "-")), Depth: depth}, nil
}

func hopCode(s string) bool {
	return s == "-" || s != "" && len(s) <= maxHopCode && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == ""
}

// hopCollector is where the calls made under a ctx leave what their replies told of hops.
type hopCollector struct {
	mu   sync.Mutex
	hops []Hop
}

type hopsKey struct{}

// withHops makes calls under the ctx ask for hops, which hopsOf then has.
func withHops(ctx context.Context) context.Context {
	return context.WithValue(ctx, hopsKey{}, &hopCollector{})
}

// wantsHops tells whether calls under ctx ask for hops.
func wantsHops(ctx context.Context) bool {
	_, ok := ctx.Value(hopsKey{}).(*hopCollector)
	return ok
}

// recordHops keeps what a reply told, for who made ctx with withHops or for the reply to the request it belongs to.
func recordHops(ctx context.Context, hops []Hop) {
	if c, ok := ctx.Value(hopsKey{}).(*hopCollector); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.hops = append(c.hops, hops[:min(len(hops), max(0, MaxHops-len(c.hops)))]...)
	}
}

// hopsOf is what was recorded under ctx.
func hopsOf(ctx context.Context) []Hop {
	if c, ok := ctx.Value(hopsKey{}).(*hopCollector); ok {
		return c.all()
	}
	return nil
}

func (c *hopCollector) all() []Hop {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Hop(nil), c.hops...)
}

// addHops tells what this hop took, and those of the calls made for it.
func (s *Service) addHops(in *inbound, reply *nats.Msg, err error) {
	own := Hop{Address: s.from[0], Endpoint: in.ep.name, Code: bus.CodeOf(err)}
	if !in.start.IsZero() {
		own.Took = time.Since(in.start)
	}
	hops := []Hop{own}
	if in.hops != nil {
		for _, h := range in.hops.all() {
			h.Depth++
			hops = append(hops, h)
		}
	}
	reply.Header[bus.HeaderHops] = []string{encodeHops(hops)}
}
