package http_test

import (
	"strings"
	"testing"

	gateway "github.com/skybus-io/skybus/initiators/http"
)

// What is sent on in another codec is that, or the request is refused.
func TestTranscode(t *testing.T) {
	t.Parallel()
	h := build(t)
	s := h.open(t, gateway.Config{}, map[string]string{
		"packed": `{"path":"/packed","call":"app.seen","codec":"msgpack"}`,
		"json":   `{"path":"/json","call":"app.seen","codec":"json"}`,
		"merged": `{"path":"/merged/{id}","call":"app.echo"}`,
	})
	packed, plain, merged := "/packed", "/json", "/merged/7"
	for name, tt := range map[string]struct {
		path, body string
		status     int
		want       string
	}{
		"integers":             {packed, `{"n":-9223372036854775808,"m":18446744073709551615}`, 200, typeMsgpack},
		"beyond 64 bits":       {packed, `{"n":18446744073709551616}`, 400, "18446744073709551616"},
		"many digits":          {packed, `[0.12345678901234567891]`, 400, "0.12345678901234567891"},
		"beyond a float":       {packed, `{"n":1e400}`, 400, "1e400"},
		"a name twice":         {packed, `{"id":"a","id":"b"}`, 400, "two members"},
		"no UTF-8":             {packed, "{\"a\":\"\xff\"}", 400, "UTF-8"},
		"half a character":     {packed, `["\ud800"]`, 400, "UTF-8"},
		"deep":                 {packed, strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), 400, "100 levels"},
		"a mark in front":      {packed, "\xef\xbb\xbf{}", 400, "JSON"},
		"something behind":     {packed, `{} {}`, 400, "JSON"},
		"64 bits of msgpack":   {plain, "\x81\xa1n\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 200, `{\"n\":18446744073709551615}`},
		"length":               {plain, "\xdd\xff\xff\xff\xff", 400, "EOF"},
		"deep msgpack":         {plain, strings.Repeat("\x91", 100_000) + "\x01", 400, "100 levels"},
		"behind msgpack":       {plain, "\x80\x80", 400, "after the value"},
		"no UTF-8 in msgpack":  {plain, "\x81\xa1a\xa1\xff", 400, "UTF-8"},
		"NaN as a key":         {plain, "\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01", 400, "key"},
		"NaN":                  {plain, "\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", 400, "NaN"},
		"a name twice in it":   {plain, "\x82\xa1a\x01\xa1a\x02", 400, "two members"},
		"an extension":         {plain, "\xd4\x05\x00", 400, "no timestamp"},
		"merged":               {merged, "\x81\xa1n\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 200, `{"id":"7","n":18446744073709551615}`},
		"a name twice in JSON": {merged, `{"a":1,"\u0061":2}`, 400, "two members"},
		"a name twice, merged": {merged, "\x82\xa1a\x01\xa1a\x02", 400, "two members"},
		"no UTF-8, merged":     {merged, "\x81\xa1a\xa1\xff", 400, "UTF-8"},
	} {
		contentType := typeMsgpack
		if tt.path == packed || strings.HasPrefix(tt.body, "{") {
			contentType = typeJSON
		}
		a := post(t, s.at+tt.path, tt.body, "Content-Type", contentType, "Accept", typeJSON)
		if a.status != tt.status || !strings.Contains(a.body, tt.want) {
			t.Errorf("%s: %d %s, want %d with %q", name, a.status, a.body, tt.status, tt.want)
		}
	}
	// A reply that MessagePack has no place for is not changed either.
	for body, status := range map[string]int{`{"n":1e400}`: 500, `{"n":1.5}`: 200} {
		if a := post(t, s.at+"/echo", body, "Accept", typeMsgpack); a.status != status {
			t.Errorf("%s: %d %q", body, a.status, a.body)
		}
	}
}
