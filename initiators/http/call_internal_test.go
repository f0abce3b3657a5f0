package http

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/bus"
)

// Whatever the path, the query and the headers say, a call goes to a subject of the service's own tokens or is refused with 400.
func FuzzCallRequest(f *testing.F) {
	for _, s := range [][4]string{
		{"/v1/call/shop/put", "", "", ""},
		{"/v1/call/shop/put", "version=1.0.0&instance=a", "1.0.0", "a"},
		{"/v1/call/a.b/>", "", "", ""},
		{"/v1/call/shop/put/", "version=", "", ""},
		{"/v1/call//", "instance=%00", "", ""},
		{"/v1/call/%2e%2e/x", "version=1.0.0%0d%0a", "\r\n", "*"},
		{"/v1/call/shop/put", "version=1&version=2", "", ""},
		{"/v1/call/" + strings.Repeat("x", 65) + "/y", ";", "", ""},
		{"/v1/call/ä/ö", "x=1", "1.0.0+b", "é"},
		{"/v1/call", "", "", ""},
		{"/", "%zz", "", ""},
	} {
		f.Add(s[0], s[1], s[2], s[3])
	}
	ns := bus.Namespace{App: "shop", Env: "prod"}
	f.Fuzz(func(t *testing.T, path, query, version, instance string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || !strings.HasPrefix(u.EscapedPath(), callPath) {
			return // is not brought here
		}
		u.RawQuery = query
		header := http.Header{}
		if version != "" {
			header[versionHeader] = []string{version}
		}
		if instance != "" {
			header[instanceHeader] = []string{instance}
		}
		req, err := callRequest(&http.Request{Method: http.MethodPost, URL: u, Header: header})
		if err != nil {
			if e := bus.AsError(err); e.HTTPStatus() != http.StatusBadRequest || len(e.Message) > 1000 {
				t.Errorf("%q %q: %v", path, query, err)
			}
			return
		}
		if u.EscapedPath() != callPath+req.Service+"/"+req.Endpoint {
			t.Errorf("%q goes to %s.%s", path, req.Service, req.Endpoint)
		}
		subject := ns.ServiceSubject(req.Service, req.Endpoint)
		if !bus.IsSubject(subject) || strings.Count(subject, ".") != 4 {
			t.Errorf("%q goes to %q", path, subject)
		}
		if req.Version != "" && bus.CheckVersion(req.Version) != nil || req.Instance != "" && bus.CheckToken("instance", req.Instance) != nil {
			t.Errorf("%q %q: version %q, instance %q", query, header, req.Version, req.Instance)
		}
		if version != "" && req.Version != version || instance != "" && req.Instance != instance {
			t.Errorf("asked for %q and %q, called are %q and %q", version, instance, req.Version, req.Instance)
		}
	})
}
