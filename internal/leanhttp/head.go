package leanhttp

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

const (
	maxInterim = 8    // answers of status 1xx before the final one
	maxFields  = 1000 // of an answer, whatever their size
)

// Lengths of bodies that are not known from the head.
const (
	untilClose int64 = -1
	inChunks   int64 = -2
)

// head is status line and header of an answer, and what they say about its body and the connection.
type head struct {
	status int
	fields Header // without Transfer-Encoding
	length int64  // of the body, or how it ends
	said   int64  // the length that an answer to HEAD would have; -1 if it does not say
	keep   bool   // the connection, when the body was read
}

// readHead reads the head of the final answer to a request with that method. buf is used for what it reads and returned.
func readHead(r *bufio.Reader, buf []byte, limit int, method string) (head, []byte, error) {
	for range maxInterim + 1 {
		var err error
		if buf, err = readBlock(r, buf[:0], limit); err != nil {
			return head{}, buf, err
		}
		h, err := parseHead(string(buf), method)
		switch {
		case err != nil:
			return head{}, buf, err
		case h.status >= http.StatusOK:
			return h, buf, nil
		case h.status == http.StatusSwitchingProtocols:
			return head{}, buf, responsef("status 101 to a request that asked for no other protocol")
		}
	}
	return head{}, buf, responsef("more than %d answers of status 1xx", maxInterim)
}

// readBlock appends lines until an empty one, which is not part of it. All end with CRLF.
func readBlock(r *bufio.Reader, buf []byte, limit int) ([]byte, error) {
	begin := 0 // of the line
	for {
		part, err := r.ReadSlice('\n')
		if len(buf)+len(part) > limit {
			return buf, responsef("head of more than %d bytes", limit)
		}
		buf = append(buf, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return buf, io.ErrUnexpectedEOF
		case err != nil:
			return buf, err
		}
		line := buf[begin:]
		if len(line) < 2 || line[len(line)-2] != '\r' {
			return buf, responsef("line of the head that does not end with CRLF")
		}
		if len(line) == 2 {
			return buf[:begin], nil
		}
		begin = len(buf)
	}
}

// parseHead takes lines that end with CRLF.
func parseHead(text, method string) (h head, err error) {
	line, rest, _ := strings.Cut(text, "\r\n")
	minor, err := h.parseStatus(line)
	if err != nil {
		return h, err
	}
	var f framing
	if h.fields, err = parseFields(rest, &f); err != nil {
		return h, err
	}
	return h, h.frame(minor, method, &f)
}

// parseStatus returns the minor version.
func (h *head) parseStatus(line string) (minor byte, err error) {
	const version = "HTTP/1."
	const sample = "HTTP/1.1 200"
	rest, ok := strings.CutPrefix(line, version)
	if !ok || len(line) < len(sample) || rest[0] != '0' && rest[0] != '1' || rest[1] != ' ' {
		return 0, responsef("status line %.50q", line)
	}
	for _, c := range []byte(rest[2:5]) {
		if c < '0' || c > '9' {
			return 0, responsef("status line %.50q", line)
		}
		h.status = 10*h.status + int(c-'0')
	}
	if reason := rest[5:]; h.status < 100 || reason != "" && reason[0] != ' ' || !validValue(reason) {
		return 0, responsef("status line %.50q", line)
	}
	return rest[0], nil
}

// framing is what fields say about body and connection.
type framing struct {
	length   int64
	known    bool // there is a length
	encoding string
	encoded  bool
	close    bool
	keep     bool
}

// parseFields takes lines that end with CRLF. What frames the answer is noted in f, where f is not nil.
func parseFields(text string, f *framing) (Header, error) {
	count := strings.Count(text, "\n")
	if count > maxFields {
		return nil, responsef("more than %d fields", maxFields)
	}
	if count == 0 {
		return nil, nil
	}
	fields := make(Header, 0, count)
	for text != "" {
		end := strings.IndexByte(text, '\n') // after a CR
		line := text[:end-1]
		text = text[end+1:]
		colon := strings.IndexByte(line, ':')
		if colon < 0 || !token(line[:colon]) { // a folded line begins with a space
			return nil, responsef("line %.50q", line)
		}
		field := Field{line[:colon], strings.Trim(line[colon+1:], " \t")}
		if !validValue(field.Value) {
			return nil, responsef("value of the header %.50q", field.Name)
		}
		if f != nil {
			skip, err := f.note(field)
			if err != nil {
				return nil, err
			}
			if skip {
				continue
			}
		}
		fields = append(fields, field)
	}
	return fields, nil
}

// note tells whether the field is of no interest to others.
func (f *framing) note(field Field) (skip bool, err error) {
	switch len(field.Name) {
	case len("Connection"):
		if equalFold(field.Name, "Connection") {
			f.close = f.close || hasToken(field.Value, "close")
			f.keep = f.keep || hasToken(field.Value, "keep-alive")
		}
	case len("Content-Length"):
		if equalFold(field.Name, "Content-Length") {
			n, err := parseLength(field.Value)
			if err != nil || f.known && n != f.length {
				return false, responsef("Content-Length %.50q", field.Value)
			}
			skip = f.known // said twice
			f.length, f.known = n, true
		}
	case len("Transfer-Encoding"):
		if equalFold(field.Name, "Transfer-Encoding") {
			if f.encoded {
				return false, responsef("more than one Transfer-Encoding")
			}
			f.encoding, f.encoded, skip = field.Value, true, true
		}
	}
	return skip, nil
}

// parseLength takes digits only.
func parseLength(s string) (int64, error) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseInt(s, 10, 64)
}

// frame finds out how the body ends.
func (h *head) frame(minor byte, method string, f *framing) error {
	h.keep = !f.close && (minor == '1' || f.keep)
	if h.said = f.length; !f.known {
		h.said = -1
	}
	switch {
	case f.encoded && f.known:
		return responsef("both Content-Length and Transfer-Encoding")
	case f.encoded && minor == '0':
		return responsef("Transfer-Encoding in HTTP/1.0")
	case f.encoded && !equalFold(f.encoding, "chunked"):
		return responsef("Transfer-Encoding %.50q", f.encoding)
	case h.status < http.StatusOK:
		return nil
	case h.status == http.StatusNoContent:
		h.keep = h.keep && !f.encoded && f.length == 0 // a server that announces a body might send it
	case method == http.MethodHead, h.status == http.StatusNotModified:
	case f.encoded:
		h.length = inChunks
	case f.known:
		h.length = f.length
	default:
		h.length, h.keep = untilClose, false
	}
	return nil
}
