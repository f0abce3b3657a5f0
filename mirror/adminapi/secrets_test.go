package adminapi_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/skybus-io/skybus/mirror"
	"github.com/skybus-io/skybus/mirror/adminapi"
)

func TestHideSecrets(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		"": "",
		"PUT /a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\ncookie:a=b\r\nX-My-Token: y\r\nIdempotency-Key: k\r\n\r\nCookie: z\r\n": "PUT /a HTTP/1.1\r\nHost: x\r\nAuthorization: (hidden)\r\ncookie: (hidden)\r\nX-My-Token: (hidden)\r\nIdempotency-Key: k\r\n\r\nCookie: z\r\n",
		"PUT /a?api_key=x&b=1 HTTP/1.1\r\nReferer: http://x/?Token=y#z\r\nX-Query: ?token=k":                                              "PUT /a?api_key=(hidden)&b=1 HTTP/1.1\r\nReferer: http://x/?Token=(hidden)#z\r\nX-Query: ?token=k",
		"c 303\r\nLocation: /?token=y":           "c 303\r\nLocation: /?token=(hidden)",
		"c 400\r\nSet-Cookie: a\r\n\r\n\x00\xff": "c 400\r\nSet-Cookie: (hidden)\r\n\r\n\x00\xff",
		"PUT /a HTTP/1.1\r\nX-Auth-Key: a\r\nX-Original-Authorization: b\r\nX-Authors: c\r\nReferer: http://me:pass@x/": "PUT /a HTTP/1.1\r\nX-Auth-Key: (hidden)\r\nX-Original-Authorization: (hidden)\r\nX-Authors: c\r\nReferer: http://(hidden)@x/",
		"no head": "no head",
	} {
		if got := string(adminapi.HideSecrets([]byte(message))); got != want {
			t.Errorf("%q: %q, want %q", message, got, want)
		}
	}
	text, err := adminapi.FormatParked(&mirror.ParkedWrite{Seq: 7, Target: "/x?token=abc", Request: []byte("a"), Answer: []byte{0xff}})
	if err != nil || strings.Contains(string(text), "abc") || !strings.Contains(string(text), `"request":"a","answer_base64":"/w=="`) || !strings.Contains(string(text), `"seq":`+strconv.Itoa(7)) {
		t.Errorf("%s %v", text, err)
	}
}

func TestHideQuery(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{
		"":                          "",
		"/token=a":                  "/token=a",
		"/x?token=abc":              "/x?token=(hidden)",
		"/x?a=1&Access_Token=b&c=2": "/x?a=1&Access_Token=(hidden)&c=2",
		"/x?%74oken=a;password=b":   "/x?%74oken=(hidden);password=(hidden)",
		"/x?user[passwd]=a&sig=b":   "/x?user[passwd]=(hidden)&sig=(hidden)",
		"/x?token=a?b=c":            "/x?token=(hidden)",
		"/x?%zztoken=a&design=b":    "/x?%zztoken=(hidden)&design=b",
		"/x?token&token=&key=1&&":   "/x?token&token=&key=1&&",
		"/x?":                       "/x?",
		"/x?code=a&jwt=b&access_key=c&PHPSESSID=d&sid=e&barcode=f": "/x?code=(hidden)&jwt=(hidden)&access_key=(hidden)&PHPSESSID=(hidden)&sid=(hidden)&barcode=f",
		"/x?token=a/b+c=&d=/e":                  "/x?token=(hidden)&d=/e",
		"/x;jsessionid=a/b;v=1?c=d":             "/x;jsessionid=(hidden)/b;v=1?c=d",
		"/x;v=1/token=":                         "/x;v=1/token=",
		"https://me:pass@host/x?a=b@c":          "https://(hidden)@host/x?a=b@c",
		"//me@host":                             "//(hidden)@host",
		"https://host/a//b@c/":                  "https://host/a//b@c/",
		"/a//b@c/":                              "/a//b@c/",
		"https://host/x#access_token=a&state=b": "https://host/x#access_token=(hidden)&state=b",
		"https://host/x?#":                      "https://host/x?#",
	} {
		if got := adminapi.HideQuery(target); got != want {
			t.Errorf("%q: %q, want %q", target, got, want)
		}
	}
}
