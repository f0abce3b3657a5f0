package bus

import (
	"net/http"
	"testing"
)

// The limits of all streams are reserved together and must leave room for the user's own: see storeShare.
func TestStoreSharesAddUp(t *testing.T) {
	t.Parallel()
	var sum int64
	for _, stream := range []string{
		"KV_skybus_instances", "KV_skybus_liveness", "KV_skybus_config", "KV_skybus_routes", "KV_skybus_leases", "KV_skybus_mirrors",
		"KV_skybus_secrets", "KV_skybus_keys", "KV_skybus_gateways", "KV_skybus_files", "OBJ_skybus_mirror_bodies",
		"KV_skybus_answers", "SKYBUS_HTTP", "SKYBUS_ASYNC", "SKYBUS_DLQ", "SKYBUS_MIR", "SKYBUS_MIRW", "SKYBUS_MIRL",
	} {
		share := storeShare(stream)
		if share < 1 {
			t.Errorf("%s has no share", stream)
		}
		sum += share
	}
	if sum > 60 {
		t.Errorf("the shares add up to %d %%, want at most 60", sum)
	}
}

// Where a status belongs to several codes, the one it is read as must give it back.
func TestStatusThereAndBack(t *testing.T) {
	t.Parallel()
	for status := 100; status < 600; status++ {
		code := codeOfStatus(status)
		if code == Unknown || code.Status() == status {
			continue
		}
		switch status {
		case http.StatusUnprocessableEntity, http.StatusRequestTimeout, http.StatusPreconditionFailed,
			http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage, http.StatusBadGateway:
			continue // says more than any code: the error keeps it
		}
		t.Errorf("%d is read as %q, which is %d", status, code, code.Status())
	}
}

func TestWithoutUsers(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"":                            "",
		"nats://host:4222":            "nats://host:4222",
		"nats://ann:pw@host:4222":     "nats://host:4222",
		"nats://token@host":           "nats://host",
		"ann:pw@host:4222":            "host:4222",
		"tls://a:b@c@host, d:e@other": "tls://host,other",
		"the server in this process":  "the server in this process",
	}
	for server, want := range tests {
		if got := withoutUsers(server); got != want {
			t.Errorf("withoutUsers(%q) = %q, want %q", server, got, want)
		}
	}
}

func TestHeaderText(t *testing.T) {
	t.Parallel()
	if got, want := headerText("a\r\nb\x00c\td\x7fé\xff"), "a  b c d é\uFFFD"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
