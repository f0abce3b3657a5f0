package limit

import (
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// Kind is what a limit counts by.
type Kind uint8

// What limits count by.
const (
	ByKey Kind = iota + 1
	ByIP
	ByEntry
	ByGateway
)

// String is the name of the limit as it stands in headers.
func (k Kind) String() string {
	switch k {
	case ByKey:
		return "key"
	case ByIP:
		return "ip"
	case ByEntry:
		return "entry"
	case ByGateway:
		return "gateway"
	}
	return "none"
}

// Decision is what became of a request, and where its client stands. The zero Kind means that there is no limit.
type Decision struct {
	OK        bool
	Kind      Kind
	Quota     int           // requests in each Window
	Window    time.Duration // of the rate
	Remaining int           // requests that could come at once now
	Reset     time.Duration // until the bucket is full again
	Retry     time.Duration // until another request may come; 0 where it may now
}

func decide(kind Kind, ok bool, r *Rate, tokens float64) Decision {
	limit := float64(r.limit())
	d := Decision{
		OK: ok, Kind: kind, Quota: r.Requests, Window: r.per(), Remaining: int(max(0, tokens)), Reset: seconds((float64(r.burst()) - tokens) / limit),
	}
	if !ok {
		d.Retry = seconds((1 - tokens) / limit)
	}
	return d
}

func seconds(s float64) time.Duration {
	return time.Duration(min(max(s, 0)*float64(time.Second), math.MaxInt64/2))
}

// Tighter is the decision that says more to a client: a refusal, else the one with less left.
func (d Decision) Tighter(other Decision) Decision {
	switch {
	case d.Kind == 0:
		return other
	case other.Kind == 0 || !d.OK:
		return d
	case !other.OK || other.Remaining < d.Remaining:
		return other
	}
	return d
}

// SetHeader tells the client where it stands, in the fields RateLimit-Policy and RateLimit of the Internet-Draft "RateLimit header fields for
// HTTP" (draft-ietf-httpapi-ratelimit-headers-10), and, of a refusal, when to come again in Retry-After (RFC 9110, section 10.2.3). Without a limit it
// sets nothing.
//
//	RateLimit-Policy: "key";q=100;w=60
//	RateLimit: "key";r=0;t=1
//	Retry-After: 1
func (d Decision) SetHeader(h http.Header) {
	if d.Kind == 0 {
		return
	}
	buf := make([]byte, 0, 64)
	name := d.Kind.String()
	buf = append(append(append(buf, '"'), name...), `";q=`...)
	buf = strconv.AppendInt(buf, int64(d.Quota), 10)
	buf = append(buf, ";w="...)
	buf = strconv.AppendInt(buf, ceil(d.Window), 10)
	h["Ratelimit-Policy"] = []string{string(buf)}
	buf = append(append(append(buf[:0], '"'), name...), `";r=`...)
	buf = strconv.AppendInt(buf, int64(d.Remaining), 10)
	buf = append(buf, ";t="...)
	buf = strconv.AppendInt(buf, ceil(d.Reset), 10)
	h["Ratelimit"] = []string{string(buf)}
	if !d.OK {
		h["Retry-After"] = []string{strconv.FormatInt(max(1, ceil(d.Retry)), 10)}
	}
}

// ceil is d in whole seconds, upwards: who comes a little late is not refused again.
func ceil(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// Err is the answer to a request that is refused: resource_exhausted (429). Of one that is not, it is nil.
func (d Decision) Err() error {
	if d.OK {
		return nil
	}
	whose := map[Kind]string{ByKey: "this credential", ByIP: "this address", ByEntry: "all clients together", ByGateway: "all clients of this gateway"}[d.Kind]
	return bus.Errorf(bus.ResourceExhausted, "too many requests: %s may make %d in %s here", whose, d.Quota, d.Window).
		With("limit", d.Kind.String()).With("retry_after", d.Retry.Round(time.Millisecond).String())
}
