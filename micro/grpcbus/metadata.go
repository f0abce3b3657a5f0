package grpcbus

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Metadata travels in headers of its own names, or some would mean something to NATS or skybus.
const (
	headerPrefix  = "md."
	trailerPrefix = "mt."
	binarySuffix  = "-bin"
)

// addMetadata adds md to h under prefix: binary values in base64, as in gRPC over HTTP/2.
func addMetadata(h nats.Header, prefix string, md metadata.MD) error {
	for _, key := range slices.Sorted(maps.Keys(md)) {
		name := prefix + strings.ToLower(key)
		if strings.HasPrefix(name, prefix+"grpc-") {
			continue // gRPC's own: it has other places here
		}
		for _, v := range md[key] {
			if strings.HasSuffix(name, binarySuffix) {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			} else if !printable(v) {
				return status.Errorf(codes.Internal, "grpcbus: metadata %q has a value that is not printable ASCII: a key that ends in -bin may have it", key)
			}
			h[name] = append(h[name], v)
		}
	}
	return nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// readMetadata is the metadata in h under prefix, never nil. Values that are not what they should be are left out.
func readMetadata(h nats.Header, prefix string) metadata.MD {
	md := metadata.MD{}
	for name, values := range h {
		key, ok := strings.CutPrefix(name, prefix)
		if !ok || key == "" || key == statusKey {
			continue
		}
		key = strings.ToLower(key)
		for _, v := range values {
			if strings.HasSuffix(key, binarySuffix) {
				b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
				if err != nil {
					continue
				}
				v = string(b)
			}
			md[key] = append(md[key], v)
		}
	}
	return md
}
