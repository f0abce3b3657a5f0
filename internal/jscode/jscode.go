// Package jscode names the error codes of the JetStream API that decide what is done next. Package bus, which imports nothing of ours, has those
// of making a stream itself.
package jscode

import (
	"errors"

	"github.com/nats-io/nats.go/jetstream"
)

// Why a message was not stored, or none was found.
const (
	AccountFull       jetstream.ErrorCode = 10002 // the limit of the account
	NoLeader          jetstream.ErrorCode = 10008 // so far
	ServerFull        jetstream.ErrorCode = 10023 // the limits of the server
	NoMessage                             = jetstream.JSErrCodeMessageNotFound
	StorageFull       jetstream.ErrorCode = 10047 // what a stream reserves does not fit any more
	MessageTooLarge                       = jetstream.JSErrCodeStreamMessageExceedsMaximum
	NoStream                              = jetstream.JSErrCodeStreamNotFound
	NoJetStream                           = jetstream.JSErrCodeJetStreamNotEnabledForAccount   // the account has none
	NoSequence        jetstream.ErrorCode = 10043                                              // what was to be deleted is not there
	NotDeleted        jetstream.ErrorCode = 10057                                              // nor is it here
	WrongLast                             = jetstream.JSErrCodeStreamWrongLastSequence         // the last message of the subject is not the expected one
	WrongLastInFlight                     = jetstream.JSErrCodeStreamWrongLastSequenceConstant // or may not be: another is being stored
	StreamFull        jetstream.ErrorCode = 10077                                              // the limit of the stream
	HeaderTooLarge    jetstream.ErrorCode = 10097
	InFlight          jetstream.ErrorCode = 10158 // one with the same id is being stored
	Busy              jetstream.ErrorCode = 10167 // too much is on its way to the stream; nothing was stored
)

// Of is the code of an error of the API in err's chain, 0 where there is none.
func Of(err error) jetstream.ErrorCode {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.ErrorCode
	}
	return 0
}

// Full tells whether err says that there is no room: in the stream, in the account or on the server.
func Full(err error) bool {
	switch Of(err) {
	case StreamFull, AccountFull, ServerFull, StorageFull:
		return true
	}
	return false
}
