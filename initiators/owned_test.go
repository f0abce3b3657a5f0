package initiators_test

import (
	"encoding/json"
	"testing"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/initiators"
)

// asked is what a service in Go is sent.
type asked struct {
	ID     string `json:"id"`
	Tenant string `json:"tenantId"`
	User   struct {
		Key  string `json:"key"`
		Name string `json:"name"`
	} `json:"user"`
}

// TestMappingOwned has a service read what the gateway says of who sends a request, by whatever names the sender tries to say otherwise.
func TestMappingOwned(t *testing.T) {
	t.Parallel()
	const longS, kelvin = "\u017f", "\u212a"
	m := initiators.Mapping{Fields: initiators.Fields{"tenantId": "t", "user.key": "me", "user.name": "{nothing|optional}"}}
	for _, body := range []string{
		`{"id":"x","tenantId":"x","user":{"key":"x"}}`,
		`{"ID":"x","tenantid":"x","USER":{"key":"x"}}`,
		`{"iD":"x","TENANTID":"x","u` + longS + `er":{"key":"x"}}`,
		`{"Id":"x","user":{"` + kelvin + `ey":"x","KEY":"x"}}`,
		`{"u` + longS + `er":{"` + kelvin + `ey":"x","key":"x"},"user":{"` + kelvin + `ey":"x","name":"x","NAME":"x"}}`,
		`{"u\u017fer":{"\u212aey":"x"}}`,
		`{"user":"x","uSER":"x"}`,
		`{}`,
	} {
		req := outside("", body)
		req.Members = func() (low, high map[string]any) {
			return map[string]any{"Tenantid": "x", "u" + longS + "er": map[string]any{"key": "x"}, "iD": "x"}, map[string]any{"id": "7", "TenantId": "path"}
		}
		checkOwned(t, body, m, req)
		var members map[string]any
		if err := json.Unmarshal([]byte(body), &members); err != nil {
			t.Fatal(err)
		}
		packed, err := bus.MessagePack{}.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentType, req.Body = "application/msgpack", packed
		checkOwned(t, body, m, req)
	}
}

func checkOwned(t *testing.T, body string, m initiators.Mapping, req initiators.Request) {
	t.Helper()
	sent, err := mapBy(t, m, req)
	var got asked
	if err == nil {
		err = json.Unmarshal([]byte(sent), &got)
	}
	if err != nil || got.ID != "7" || got.Tenant != "t" || got.User.Key != "me" || got.User.Name != "" {
		t.Errorf("%s: a service reads %+v of %s, %v", body, got, sent, err)
	}
}

// What is no name of the gateway's stays as it is.
func TestMappingOwnedAlone(t *testing.T) {
	t.Parallel()
	m := initiators.Mapping{Fields: initiators.Fields{"user.key": "me", "n": "{nothing|optional}"}}
	got, err := mapBy(t, m, initiators.Request{Body: []byte(`{"user":{"a":{"KEY":1e2},"A":1},"Use":1,"key":2,"N":3,"m":{"n":4}}`)})
	if want := `{"Use":1,"key":2,"m":{"n":4},"user":{"A":1,"a":{"KEY":1e2},"key":"me"}}`; err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}
