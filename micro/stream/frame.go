package stream

import (
	"fmt"
	"strconv"
	"strings"
)

// kind is what a frame is for: the first word of its header [bus.HeaderStream].
type kind string

// Numbered frames make up what is sent; the others are about it.
const (
	kindOpen   kind = "open"   // asks for a stream, with the window of who asks
	kindAccept kind = "accept" // answers that, with the window of who answers
	kindHead   kind = "head"   // numbered, the first if at all: headers
	kindPart   kind = "part"   // numbered: a piece of a message, not the last
	kindData   kind = "data"   // numbered: a message, or the last piece of one
	kindEnd    kind = "end"    // numbered: nothing more is sent, but still read
	kindDone   kind = "done"   // numbered: the stream is over, well or not, once all before it is read
	kindCredit kind = "credit" // how much may be sent in all, since the beginning
	kindCancel kind = "cancel" // the stream is over at once
	kindPing   kind = "ping"
	kindPong   kind = "pong"
)

// frame is a header [bus.HeaderStream]: kind and sequence, and for open, accept and credit a number of messages and bytes.
type frame struct {
	kind kind
	// seq is the number of the frame, counted from 1 in each direction, or that of the last numbered frame before it: so
	// that each frame tells of the loss of any before it.
	seq      uint64
	messages uint64
	bytes    uint64
}

func (k kind) numbered() bool {
	switch k {
	case kindHead, kindPart, kindData, kindEnd, kindDone:
		return true
	case kindOpen, kindAccept, kindCredit, kindCancel, kindPing, kindPong:
	}
	return false
}

func (k kind) grants() bool { return k == kindOpen || k == kindAccept || k == kindCredit }

func (k kind) known() bool {
	return k.numbered() || k.grants() || k == kindCancel || k == kindPing || k == kindPong
}

const maxFrameHeader = 80 // a word and three numbers

func (f frame) String() string {
	b := make([]byte, 0, maxFrameHeader)
	b = append(b, f.kind...)
	b = append(b, ' ')
	b = strconv.AppendUint(b, f.seq, 10)
	if f.kind.grants() {
		b = append(b, ' ')
		b = strconv.AppendUint(b, f.messages, 10)
		b = append(b, ' ')
		b = strconv.AppendUint(b, f.bytes, 10)
	}
	return string(b)
}

// parseFrame reads what [frame.String] writes.
func parseFrame(s string) (frame, error) {
	if len(s) > maxFrameHeader {
		return frame{}, fmt.Errorf("has %d bytes, want at most %d", len(s), maxFrameHeader)
	}
	word, rest, _ := strings.Cut(s, " ")
	f := frame{kind: kind(word)}
	if !f.kind.known() {
		return frame{}, fmt.Errorf("%q is no kind of frame", word)
	}
	numbers := []*uint64{&f.seq}
	if f.kind.grants() {
		numbers = append(numbers, &f.messages, &f.bytes)
	}
	for i, n := range numbers {
		digits, more, found := strings.Cut(rest, " ")
		v, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || found != (i < len(numbers)-1) {
			return frame{}, fmt.Errorf("%q: want %q and %d numbers", s, word, len(numbers))
		}
		*n, rest = v, more
	}
	return f, nil
}
