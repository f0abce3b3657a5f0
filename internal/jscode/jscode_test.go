package jscode_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/skybus-io/skybus/internal/jscode"
)

// The names mean what the server means by the codes.
func TestCodes(t *testing.T) {
	t.Parallel()
	for code, want := range map[jetstream.ErrorCode]server.ErrorIdentifier{
		jscode.AccountFull:       server.JSAccountResourcesExceededErr,
		jscode.NoLeader:          server.JSClusterNotAvailErr,
		jscode.ServerFull:        server.JSInsufficientResourcesErr,
		jscode.NoMessage:         server.JSNoMessageFoundErr,
		jscode.StorageFull:       server.JSStorageResourcesExceededErr,
		jscode.MessageTooLarge:   server.JSStreamMessageExceedsMaximumErr,
		jscode.NoStream:          server.JSStreamNotFoundErr,
		jscode.NoJetStream:       server.JSNotEnabledForAccountErr,
		jscode.NoSequence:        server.JSSequenceNotFoundErrF,
		jscode.NotDeleted:        server.JSStreamMsgDeleteFailedF,
		jscode.WrongLast:         server.JSStreamWrongLastSequenceErrF,
		jscode.WrongLastInFlight: server.JSStreamWrongLastSequenceConstantErr,
		jscode.StreamFull:        server.JSStreamStoreFailedF,
		jscode.HeaderTooLarge:    server.JSStreamHeaderExceedsMaximumErr,
		jscode.InFlight:          server.JSStreamDuplicateMessageConflict,
		jscode.Busy:              server.JSStreamTooManyRequests,
	} {
		if int(code) != int(want) {
			t.Errorf("%d is %d of the server's", code, want)
		}
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		code jetstream.ErrorCode
		full bool
	}{
		{nil, 0, false},
		{errors.New("x"), 0, false},
		{&jetstream.APIError{ErrorCode: 10071}, jscode.WrongLast, false},
		{fmt.Errorf("x: %w", &jetstream.APIError{ErrorCode: 10077}), jscode.StreamFull, true},
		{&jetstream.APIError{ErrorCode: 10002}, jscode.AccountFull, true},
		{&jetstream.APIError{ErrorCode: 10023}, jscode.ServerFull, true},
		{&jetstream.APIError{ErrorCode: 10047}, jscode.StorageFull, true},
		{&jetstream.APIError{ErrorCode: 10054}, jscode.MessageTooLarge, false},
	} {
		if code, full := jscode.Of(tt.err), jscode.Full(tt.err); code != tt.code || full != tt.full {
			t.Errorf("%v: code %d, full %t", tt.err, code, full)
		}
	}
}
