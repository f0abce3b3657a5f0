package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler/httpapi"
)

// TestSkyringDelivers has what a receiver sees.
func TestSkyringDelivers(t *testing.T) {
	t.Parallel()
	h := build(t, httpapi.Config{})
	h.run(t)
	url, got := receiver(t, nil)
	for _, tt := range []struct{ data, method, contentType, body string }{
		{`"a=1&b=\u00e4"`, "post", "application/x-www-form-urlencoded", "a=1&b=\u00e4"},
		{`"{\"not\":\"looked at\"}"`, "Put", "application/x-www-form-urlencoded", `{"not":"looked at"}`},
		{`{ "a" : [1, {"b": "<&>"}], "c": 1.50 }`, "PATCH", "application/json; charset=utf-8", `{"a":[1,{"b":"<&>"}],"c":1.50}`},
		{`null`, "delete", "", ""},
		{`""`, "post", "", ""},
	} {
		body := `{"timeout":1,"data":` + tt.data + `,"callback":{"transport":"http","method":"` + tt.method + `","uri":"` + url + `/hook"}}`
		send(t, http.MethodPost, h.url+"/timer", body).want(t, http.StatusCreated)
		r := bustest.Receive(t, "the delivery of "+tt.data, got)
		if r.method != strings.ToUpper(tt.method) || r.path != "/hook" || r.header.Get("Content-Type") != tt.contentType || r.body != tt.body {
			t.Errorf("data %s was delivered as %s %s %q %q", tt.data, r.method, r.path, r.header.Get("Content-Type"), r.body)
		}
	}
}
