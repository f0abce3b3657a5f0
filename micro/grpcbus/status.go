package grpcbus

import (
	"context"
	"encoding/base64"
	"errors"

	"github.com/nats-io/nats.go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/skybus-io/skybus/bus"
)

// statusKey is the trailer with the whole status, where its code and message are not all.
const statusKey = "grpc-status-details-bin"

// maxStatus leaves room for trailers beside the status.
const maxStatus = bus.MaxHeaderBytes / 2

// codeOf is the code of skybus for one of gRPC, which it spells.
func codeOf(c codes.Code) bus.Code {
	switch c {
	case codes.Canceled:
		return bus.Canceled
	case codes.InvalidArgument:
		return bus.InvalidArgument
	case codes.DeadlineExceeded:
		return bus.DeadlineExceeded
	case codes.NotFound:
		return bus.NotFound
	case codes.AlreadyExists:
		return bus.AlreadyExists
	case codes.PermissionDenied:
		return bus.PermissionDenied
	case codes.ResourceExhausted:
		return bus.ResourceExhausted
	case codes.FailedPrecondition:
		return bus.FailedPrecondition
	case codes.Aborted:
		return bus.Aborted
	case codes.OutOfRange:
		return bus.OutOfRange
	case codes.Unimplemented:
		return bus.Unimplemented
	case codes.Internal:
		return bus.Internal
	case codes.Unavailable:
		return bus.Unavailable
	case codes.DataLoss:
		return bus.DataLoss
	case codes.Unauthenticated:
		return bus.Unauthenticated
	case codes.OK, codes.Unknown:
	}
	return bus.Unknown
}

func grpcCode(c bus.Code) codes.Code {
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		if codeOf(code) == c {
			return code
		}
	}
	return codes.Unknown
}

// statusOf is the status of what a handler returned.
func statusOf(err error) *status.Status {
	if st, ok := status.FromError(err); ok {
		return st
	}
	if e, ok := errors.AsType[*bus.Error](err); ok {
		return status.New(grpcCode(e.Code), e.Message)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err)
	}
	return status.New(codes.Unknown, err.Error())
}

// toBus is the error that tells of a status; with what it cannot tell of in h, for [fromBus].
func toBus(st *status.Status, h nats.Header) error {
	if b, err := proto.Marshal(st.Proto()); err == nil && len(b) <= maxStatus {
		h[trailerPrefix+statusKey] = []string{base64.RawStdEncoding.EncodeToString(b)}
	}
	return bus.Errorf(codeOf(st.Code()), "%s", st.Message())
}

// fromBus is the error that a stub returns for err, which came with trailers or from this side.
func fromBus(err error, trailers nats.Header) error {
	if err == nil {
		return nil
	}
	e := bus.AsError(err)
	if values := trailers[trailerPrefix+statusKey]; len(values) > 0 {
		b, berr := base64.RawStdEncoding.DecodeString(values[0])
		p := status.New(codes.Unknown, "").Proto()
		if berr == nil && proto.Unmarshal(b, p) == nil && p.GetCode() != int32(codes.OK) {
			return status.FromProto(p).Err()
		}
	}
	return status.Error(grpcCode(e.Code), e.Message)
}
