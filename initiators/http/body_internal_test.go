package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
)

// FuzzRead reads bodies of any type: what comes out is JSON, the bytes as they were, or an error that is the client's.
func FuzzRead(f *testing.F) {
	for _, seed := range []struct{ contentType, body string }{
		{"", ""},
		{typeJSON, `{"a":1}`},
		{typeJSON + "; charset=utf-8", ` [1] `},
		{typeJSON, `{"a":`},
		{typeMessagePack, "\x81\xa1a\x01"},
		{typeForm, "a=1&b=2&a=3"},
		{typeForm, "a=%00&%ff=\xff&=&&"},
		{typeForm, `{"a":1}`},
		{typeForm, "[x"},
		{typeForm, "a;b"},
		{"text/plain; a=\"", "x"},
		{"multipart/form-data; boundary=x", "--x\r\n\r\n--x--"},
		{typeForm, strings.Repeat("a&", 2000)},
	} {
		f.Add(seed.contentType, []byte(seed.body))
	}
	e := &served{maxBody: 4 << 10, gateway: &Gateway{places: newPlaces(1)}}
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/x", bytes.NewReader(body))
		if contentType != "" {
			r.Header["Content-Type"] = []string{contentType}
		}
		req, _, err := e.read(httptest.NewRecorder(), r)
		if err != nil {
			checkError(t, err)
			return
		}
		switch req.ContentType {
		case typeMessagePack:
			if !bytes.Equal(req.Body, body) {
				t.Fatalf("%q became %q", body, req.Body)
			}
		case typeJSON:
			if len(req.Body) > 0 && !json.Valid(req.Body) {
				t.Fatalf("%q is not JSON", req.Body)
			}
		default:
			t.Fatalf("content type %q", req.ContentType)
		}
	})
}

func checkError(t *testing.T, err error) {
	t.Helper()
	e, ok := errors.AsType[*bus.Error](err)
	if !ok {
		t.Fatalf("%v is no bus.Error", err)
	}
	switch e.HTTPStatus() {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
	default:
		t.Fatalf("status %d: %v", e.HTTPStatus(), err)
	}
	if len(e.Message) > 500 {
		t.Fatalf("a message of %d bytes", len(e.Message))
	}
}

// FuzzForm checks that a form loses nothing: its fields come out as they went in.
func FuzzForm(f *testing.F) {
	f.Add("a", "1", "b", "2")
	f.Add("a", "x&y=z", "a", "")
	f.Add("", "\x00", "%", "+")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		for _, s := range []string{k1, v1, k2, v2} {
			if strings.ToValidUTF8(s, "") != s {
				t.Skip() // JSON has no such text
			}
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/x", nil)
		values := r.URL.Query()
		values.Add(k1, v1)
		values.Add(k2, v2)
		req, _, err := formRequest([]byte(values.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(req.Body, &got); err != nil {
			t.Fatal(err)
		}
		if k1 == k2 {
			if all, ok := got[k1].([]any); !ok || len(all) != 2 || all[0] != v1 || all[1] != v2 {
				t.Fatalf("%q: %v, want %q and %q", k1, got[k1], v1, v2)
			}
			return
		}
		if got[k1] != v1 || got[k2] != v2 || len(got) != 2 {
			t.Fatalf("%v, want %q: %q and %q: %q", got, k1, v1, k2, v2)
		}
	})
}

// FuzzAccept checks that no Accept header is too much.
func FuzzAccept(f *testing.F) {
	for _, seed := range []string{"", "*/*", "text/html", "text/html;q=0.5, application/json;q=NaN", "text/html;q=\"", ",,,", "text/html;q=1e999"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/x", nil)
		r.Header["Accept"] = []string{accept}
		if wantsHTML(r) && !strings.Contains(strings.ToLower(accept), "text/html") {
			t.Fatalf("%q wants a page", accept)
		}
	})
}
