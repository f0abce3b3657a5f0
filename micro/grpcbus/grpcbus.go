// Package grpcbus runs gRPC over the bus, and finds native gRPC servers by the registry.
//
// # Over the bus
//
// A [ClientConn] is what generated stubs call by and a [Server] what they are registered with, so they run unchanged: unary calls
// and all kinds of streams, metadata, headers and trailers, status codes with details, deadlines and cancellation. A gRPC service is
// a number of endpoints of a skybus service, one for each method, which [Endpoint] names; calls are chosen, tried again and
// limited as all calls of package micro. A unary call is one request and one reply whose bodies are the bare messages.
//
// What belongs to gRPC's own transport is missing: compression, credentials of a call (NATS has its own), channelz.
//
// # Native gRPC
//
// [Advertise] puts the address of a listening gRPC server into its record, and [NewResolver] makes grpc.NewClient find it under
// skybus:///app.env.service. Nothing of that goes over the bus but the records.
package grpcbus

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/skybus-io/skybus/bus"
)

const (
	maxMethod  = 512
	hashLength = 16
)

// Endpoint is the name of the endpoint that a method is, given as "/package.Service/Method": the dots become "-" and the slash
// between service and method "--", as in helloworld-Greeter--SayHello, which is unique since neither is part of a name. One
// that gets longer than a token may be is cut and ends in "_" and a hash of the whole.
func Endpoint(method string) (string, error) {
	name := strings.TrimPrefix(method, "/")
	service, short, ok := strings.Cut(name, "/")
	if !ok || len(method) > maxMethod || !dotted(service) || !identifier(short) {
		return "", bus.Errorf(bus.InvalidArgument, "grpcbus: method %.80q: want /package.Service/Method", method)
	}
	token := strings.ReplaceAll(service, ".", "-") + "--" + short
	if len(token) > bus.MaxToken {
		sum := sha256.Sum256([]byte(name))
		token = token[:bus.MaxToken-hashLength-1] + "_" + hex.EncodeToString(sum[:])[:hashLength]
	}
	return token, nil
}

func dotted(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		if !identifier(part) {
			return false
		}
	}
	return true
}

func identifier(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return s != ""
}
