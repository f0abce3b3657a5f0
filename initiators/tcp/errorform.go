package tcp

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/skybus-io/skybus/bus"
)

// ErrorForm makes what an error frame holds. id is that of the request, and empty where the error is about the connection. Where the framing cannot express
// the frame, it is asked again with a message of at most 64 bytes and no details, and then with none; where that does not fit either, the connection is closed.
type ErrorForm func(id string, err *bus.Error) []byte

// shortMessage is how many bytes of a message are tried where it does not fit.
const shortMessage = 64

var _ ErrorForm = JSONErrors

// JSONErrors is {"error":{"code":"...","message":"...","details":{...},"request_id":"..."}}, without what is empty. The codes are those of [bus.Code].
func JSONErrors(id string, err *bus.Error) []byte {
	var frame struct {
		Error struct {
			Code    bus.Code          `json:"code"`
			Message string            `json:"message,omitempty"`
			Details map[string]string `json:"details,omitempty"`
			ID      string            `json:"request_id,omitempty"`
		} `json:"error"`
	}
	frame.Error.Code, frame.Error.Message, frame.Error.Details, frame.Error.ID = err.Code, err.Message, err.Details, id
	body, _ := json.Marshal(frame) // nothing in it can fail
	return body
}

// TextErrors is one line of text, made of a template by replacing {code}, {status} (the HTTP status of the code), {message} and {id}, such as "ERR {code} {message}".
// Control characters of a message become spaces. A template without any of them, or with another name in braces, is invalid_argument.
func TextErrors(template string) (ErrorForm, error) {
	known := map[string]bool{"{code}": true, "{status}": true, "{message}": true, "{id}": true}
	found := false
	for rest := template; ; {
		begin := strings.IndexByte(rest, '{')
		if begin < 0 {
			break
		}
		name, after, ok := strings.Cut(rest[begin:], "}")
		if !ok || !known[name+"}"] {
			return nil, bus.Errorf(bus.InvalidArgument, "error template %.80q: want {code}, {status}, {message} and {id} in braces, and nothing else", template)
		}
		found, rest = true, after
	}
	if !found {
		return nil, bus.Errorf(bus.InvalidArgument, "error template %.80q: want at least one of {code}, {status}, {message} and {id} in it", template)
	}
	return func(id string, err *bus.Error) []byte {
		text := strings.NewReplacer("{code}", string(err.Code), "{status}", strconv.Itoa(err.HTTPStatus()), "{message}", oneLine(err.Message), "{id}", id).Replace(template)
		return []byte(strings.TrimRight(text, " "))
	}, nil
}

// oneLine is text without control characters.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

// shorter are errors to try in place of one that does not fit into a frame.
func shorter(err *bus.Error) []*bus.Error {
	text := err.Message
	if len(text) > shortMessage {
		text = strings.ToValidUTF8(text[:shortMessage], "")
	}
	return []*bus.Error{err, {Code: err.Code, Status: err.Status, Message: text}, {Code: err.Code, Status: err.Status}}
}
