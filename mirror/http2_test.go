package mirror_test

import (
	"bytes"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/skybus-io/skybus/mirror"
)

// Over HTTP/2 a client may send fields that net/http leaves as they are, and lengths that it does not understand.
func TestHTTP2Fields(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	m := r.open(t, mirror.Config{})
	if _, err := m.Set(t.Context(), mirror.Backend{Name: "a", URL: r.backends[0].URL, Active: true}); err != nil {
		t.Fatal(err)
	}
	run(t, m)
	front := serveTLS(t, m)
	host := strings.TrimPrefix(front.URL, "https://")
	for _, tt := range []struct {
		name, method, body string
		fields             []hpack.HeaderField
		want               []string // statuses; none means that the stream is reset
		applied            bool
	}{
		{"a host beside the authority", http.MethodPut, "one", []hpack.HeaderField{{Name: "host", Value: "other"}}, []string{"200"}, true},
		{"reads so, more than eject a backend", http.MethodGet, "", []hpack.HeaderField{{Name: "host", Value: "other"}}, []string{"200"}, false},
		{"two lengths", http.MethodPut, "two", []hpack.HeaderField{{Name: "content-length", Value: "3, 3"}}, []string{"400", ""}, false},
		{"a length with a sign", http.MethodPut, "two", []hpack.HeaderField{{Name: "content-length", Value: "+3"}}, []string{"400", ""}, false},
		{"no length, and a body", http.MethodPut, "two", []hpack.HeaderField{{Name: "content-length", Value: "0"}}, []string{"400", ""}, false},
		{"nothing", http.MethodDelete, "", nil, []string{"200"}, true},
	} {
		before := len(r.backends[0].all())
		for range 8 {
			got := request2(t, front, host, tt.method, tt.body, tt.fields)
			if !slices.Contains(tt.want, got) {
				t.Errorf("%s: status %q, want one of %q", tt.name, got, tt.want)
			}
		}
		if applied := len(r.backends[0].all()) - before; applied > 0 != tt.applied {
			t.Errorf("%s: the backend got %d writes", tt.name, applied)
		}
	}
	for _, w := range r.backends[0].all() {
		if w.method == http.MethodPut && w.body != "one" {
			t.Errorf("the backend got %q", w.body)
		}
	}
}

// request2 makes a request over a connection of its own, frame by frame, and returns the status of the answer.
func request2(t *testing.T, front *httptest.Server, host, method, body string, fields []hpack.HeaderField) (status string) {
	t.Helper()
	transport, ok := front.Client().Transport.(*http.Transport)
	if !ok {
		t.Fatal("no transport")
	}
	cfg := transport.TLSClientConfig.Clone()
	cfg.NextProtos = []string{"h2"}
	dialer := tls.Dialer{Config: cfg}
	conn, err := dialer.DialContext(t.Context(), "tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	var head bytes.Buffer
	encoder := hpack.NewEncoder(&head)
	for _, f := range append([]hpack.HeaderField{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: host}, {Name: ":path", Value: "/x"},
	}, fields...) {
		if err := encoder.WriteField(f); err != nil {
			t.Fatal(err)
		}
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndStream: body == "", EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	if body != "" {
		if err := framer.WriteData(1, true, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			return f.PseudoValue("status")
		case *http2.RSTStreamFrame:
			return ""
		}
	}
}
