package httpx

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The codes of what a proxy refuses, of the words that all of skybus uses.
const (
	codeInvalid   = "invalid_argument"
	codeExhausted = "resource_exhausted"
	codeLate      = "deadline_exceeded"
	codeUnknown   = "unimplemented"
)

const defaultMaxFields = 256

// Rules are what a proxy lets through to backends whose servers it does not know: what two servers could understand in two ways is refused.
// They are for requests as net/http parsed them, which has refused much by then: several or no Host, several or malformed lengths,
// unknown transfer codings, control characters in fields. What it has put right must be sent on as it was parsed, never the client's
// own bytes: a length beside chunks, bare line feeds, folded lines. The zero value works.
type Rules struct {
	// Methods that are let through; none means GET, HEAD, OPTIONS, POST, PUT, PATCH and DELETE. Others are answered by 405.
	Methods []string
	// EncodedSlash lets %2F, %5C and percent signs encoded twice through, for backends whose names contain slashes. Segments of dots
	// are refused between them too.
	EncodedSlash bool
	// AbsoluteForm lets targets through that are a whole URL, as every server must take them (RFC 9112, section 3.2.2): for servers that
	// go by its path and answer by themselves.
	AbsoluteForm bool
	// Text asks for paths and queries that are UTF-8 once they are decoded, for servers that take names from them: what is not would become the same
	// replacement character, and two names one.
	Text bool
	// MaxFields is how many fields a header may have; 0 means 256. More are answered by 431.
	MaxFields int
}

func (r Rules) methods() []string {
	if len(r.Methods) > 0 {
		return r.Methods
	}
	return []string{
		http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
	}
}

// Handler passes on to next what Check lets through, and answers the rest.
func (r Rules) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		p := r.Check(req)
		if p == nil {
			next.ServeHTTP(w, req)
			return
		}
		if p.Status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", strings.Join(r.methods(), ", "))
		}
		p.Write(w)
	})
}

// Check returns nil, or why the request must not be passed on: 405 for its method, 431 for too many fields, 421 for a target that is
// a whole URL, and 400 for a path, query or Host that is ambiguous.
func (r Rules) Check(req *http.Request) *Problem {
	if !slices.Contains(r.methods(), req.Method) {
		return refuse(http.StatusMethodNotAllowed, codeUnknown, "method %.50q", req.Method)
	}
	fields := 0
	for _, values := range req.Header {
		fields += len(values)
	}
	if limit := cmp.Or(r.MaxFields, defaultMaxFields); fields > limit {
		return refuse(http.StatusRequestHeaderFieldsTooLarge, codeExhausted, "more than %d header fields", limit)
	}
	if !validHost(req.Host) && (req.Host != "" || req.ProtoAtLeast(1, 1)) {
		return refuse(http.StatusBadRequest, codeInvalid, "host %.100q", req.Host)
	}
	target := cmp.Or(req.RequestURI, req.URL.RequestURI())
	switch {
	case target == "*" && req.Method == http.MethodOptions:
		return nil
	case strings.Contains(target, "://") && target[0] != '/' && r.AbsoluteForm && req.URL.Path != "":
		target = req.URL.RequestURI()
	case strings.Contains(target, "://") && target[0] != '/':
		return refuse(http.StatusMisdirectedRequest, codeInvalid, "this is no proxy for other hosts: ask for a path")
	case target[0] != '/':
		return refuse(http.StatusBadRequest, codeInvalid, "target %.100q: want a path", target)
	}
	for _, c := range []byte(target) {
		if c <= ' ' || c == 0x7f || c == '#' {
			return refuse(http.StatusBadRequest, codeInvalid, "character %q in the target", c)
		}
	}
	if r.Text && !decodesToText(target) {
		return refuse(http.StatusBadRequest, codeInvalid, "target %.100q: it is not UTF-8", target)
	}
	path, _, _ := strings.Cut(target, "?")
	if why := r.Ambiguous(path); why != "" {
		return refuse(http.StatusBadRequest, codeInvalid, "path %.100q: %s", path, why)
	}
	return nil
}

// Ambiguous says why a path, which begins with a slash, could mean two things; nothing where it cannot.
func (r Rules) Ambiguous(path string) string {
	if plain(path) {
		return ""
	}
	if strings.ContainsRune(path, '\\') {
		return "it has a backslash"
	}
	segments := strings.Split(path[1:], "/")
	for i, segment := range segments {
		name, err := url.PathUnescape(segment)
		switch {
		case err != nil:
			return "it is not encoded properly"
		case segment == "" && i < len(segments)-1:
			return "it has an empty segment"
		case strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f }):
			return "it has a control character"
		case overlong(name):
			return "it has an overlong character"
		case !r.EncodedSlash && strings.ContainsAny(name, `/\`):
			return "it has an encoded slash or backslash"
		case !r.EncodedSlash && twice(name):
			return "it is encoded twice"
		}
		for part := range strings.FieldsFuncSeq(name, func(c rune) bool { return c == '/' || c == '\\' }) {
			part, _, _ = strings.Cut(part, ";") // parameters, which some servers take away first
			if part == "." || part == ".." {
				return "it has a segment of dots"
			}
		}
	}
	return ""
}

// decodesToText tells whether a target is UTF-8 where it is encoded properly.
func decodesToText(target string) bool {
	if !strings.ContainsFunc(target, func(c rune) bool { return c == '%' || c >= utf8.RuneSelf }) {
		return true
	}
	text, err := url.PathUnescape(target) // the query too: what a plus is makes no difference here
	return utf8.ValidString(text) || err != nil && utf8.ValidString(target)
}

// plain tells whether a path is one of those that most are: letters, digits and a few signs between single slashes, and no segment that
// begins with a dot.
func plain(path string) bool {
	for i := 1; i < len(path); i++ {
		switch c := path[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		case c != '.' && c != '/' || path[i-1] == '/':
			return false
		}
	}
	return path != ""
}

// overlong tells whether s has an ASCII character in the form of two bytes, which no UTF-8 has and some decoders take.
func overlong(s string) bool {
	for i := 1; i < len(s); i++ {
		if s[i-1]&^1 == 0xc0 && s[i]&0xc0 == 0x80 {
			return true
		}
	}
	return false
}

// twice tells whether s, once decoded, still has an encoded dot, slash, backslash, percent sign or NUL.
func twice(s string) bool {
	for i := range len(s) - 2 {
		if s[i] != '%' {
			continue
		}
		switch c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); {
		case err != nil:
		case c == '.', c == '/', c == '\\', c == '%', c == 0:
			return true
		}
	}
	return false
}

// validHost takes a name or address with or without a port.
func validHost(host string) bool {
	name, port := host, ""
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		name, port = host[:i], host[i+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '+' {
			return false
		}
	}
	if inner, ok := strings.CutPrefix(name, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && strings.ContainsRune(inner, ':') && net.ParseIP(inner) != nil
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return name != "" && name[0] != '.'
}

// trusted is how much memory the length that a client announces gets before any of the body has come.
const trusted = 64 << 10

// NoBody tells whether a request has no body, or an empty one. Over HTTP/2 a length of 0 does not say so: net/http takes one that is no number for that.
func NoBody(r *http.Request) bool {
	return r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 && r.ProtoMajor < 2
}

// ReadBody reads the whole body of a request before anything of it is passed on. A problem is 413 if it has more than limit bytes, which is
// said before it is read where its length is announced, 408 if it did not come in time, and 400 if it breaks off or is malformed.
func ReadBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *Problem) {
	if TooLong(w, r, limit) {
		return nil, tooLarge(limit)
	}
	if NoBody(r) {
		return nil, nil
	}
	var body []byte
	var err error
	if r.ContentLength > 0 && r.ContentLength <= trusted { // within the limit, as was seen above
		body = make([]byte, r.ContentLength)
		_, err = io.ReadFull(r.Body, body)
	} else {
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	}
	if err != nil {
		return nil, BodyProblem(err, limit)
	}
	return body, nil
}

// BodyProblem is what an error of reading a body means that may have limit bytes.
func BodyProblem(err error, limit int64) *Problem {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return refuse(http.StatusRequestTimeout, codeLate, "the body did not come in time")
	}
	return refuse(http.StatusBadRequest, codeInvalid, "the body could not be read: %v", err)
}

func tooLarge(limit int64) *Problem {
	return refuse(http.StatusRequestEntityTooLarge, codeExhausted, "the body has more than %d bytes", limit)
}

func refuse(status int, code, format string, args ...any) *Problem {
	return &Problem{Status: status, Code: code, Detail: fmt.Sprintf(format, args...)}
}

// TooLong tells whether the body of a request is announced to have more than limit bytes, so that this can be answered before a byte of it
// is read. net/http closes the connection of a request with Connection: close as soon as it is answered, and the reset that meets what the client
// still sends takes the answer away from it. It waits a little when a MaxBytesReader was read beyond its limit.
func TooLong(w http.ResponseWriter, r *http.Request, limit int64) bool {
	if r.ContentLength <= limit {
		return false
	}
	if r.Close && r.Body != nil && r.Header.Get("Expect") == "" { // reading would ask for a body that the client holds back
		_, _ = http.MaxBytesReader(w, r.Body, 0).Read(make([]byte, 1)) // only for its effect
	}
	return true
}
