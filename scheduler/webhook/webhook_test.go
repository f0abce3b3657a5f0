package webhook_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/skybus-io/skybus/scheduler/webhook"
)

// Published test vectors.
const (
	// libraries/javascript/src/webhook.test.ts of standard-webhooks; the other languages have the same.
	secretA = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	idA     = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	timeA   = 1614265330
	bodyA   = `{"test": 2432232314}`
	signedA = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

	// libraries/rust/src/lib.rs of standard-webhooks. The secret has a plus sign.
	secretB = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	idB     = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"
	timeB   = 1649367553
	bodyB   = `{"email":"test@example.com","username":"test_user"}`
	signedB = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="

	// libraries/go/webhook_asymmetric_test.go of standard-webhooks: a private key of 32 bytes. For id, time and body of A.
	privateC = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk="
	signedC  = "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag=="

	// server/svix-server of svix/svix-webhooks, test_asymmetric_key_signing: one of 64 bytes. For id, time and body of A.
	privateD = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	publicD  = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
	signedD  = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="

	// Of the right form, by another key.
	wrongV1 = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
)

func signer(t testing.TB, secrets ...string) *webhook.Signer {
	t.Helper()
	s, err := webhook.NewSigner(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// verifier is one whose clock stands at seconds.
func verifier(t testing.TB, seconds int64, keys ...string) *webhook.Verifier {
	t.Helper()
	v, err := webhook.NewVerifier(keys...)
	if err != nil {
		t.Fatal(err)
	}
	v.Now = func() time.Time { return time.Unix(seconds, 0) }
	return v
}

func header(id, timestamp, signature string) http.Header {
	h := http.Header{}
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", timestamp)
	h.Set("webhook-signature", signature)
	return h
}

func TestVectors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, secret, verify, id string
		at                       int64
		body, want               string
	}{
		{"v1", secretA, secretA, idA, timeA, bodyA, signedA},
		{"v1 with a plus sign", secretB, secretB, idB, timeB, bodyB, signedB},
		{"v1a, key of 32 bytes", privateC, privateC, idA, timeA, bodyA, signedC},
		{"v1a, key of 64 bytes", privateD, publicD, idA, timeA, bodyA, signedD},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			if err := signer(t, tt.secret).Sign(h, tt.id, time.Unix(tt.at, 999), []byte(tt.body)); err != nil {
				t.Fatal(err)
			}
			if got := h.Get("webhook-signature"); got != tt.want {
				t.Errorf("signed %q, want %q", got, tt.want)
			}
			if got := h.Get("webhook-id") + " " + h.Get("webhook-timestamp"); got != fmt.Sprint(tt.id, " ", tt.at) {
				t.Errorf("id and timestamp are %q", got)
			}
			if err := verifier(t, tt.at, tt.verify).Verify(h, []byte(tt.body)); err != nil {
				t.Errorf("Verify = %v", err)
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name                     string
		id, timestamp, signature string
		body                     string
		want                     error
	}{
		{"as published", idA, "1614265330", signedA, bodyA, nil},
		{"among others", idA, "1614265330", wrongV1 + " v2,abc  " + signedA + " " + wrongV1, bodyA, nil},
		{"other body", idA, "1614265330", signedA, bodyA + " ", webhook.ErrSignature},
		{"other id", "msg_1", "1614265330", signedA, bodyA, webhook.ErrSignature},
		{"other time", idA, "1614265331", signedA, bodyA, webhook.ErrSignature},
		{"other secret", idA, "1614265330", wrongV1, bodyA, webhook.ErrSignature},
		{"other kind", idA, "1614265330", "v2" + strings.TrimPrefix(signedA, "v1"), bodyA, webhook.ErrSignature},
		{"no kind", idA, "1614265330", strings.TrimPrefix(signedA, "v1,"), bodyA, webhook.ErrSignature},
		{"truncated", idA, "1614265330", signedA[:len(signedA)-2], bodyA, webhook.ErrSignature},
		{"first characters", idA, "1614265330", signedA[:8], bodyA, webhook.ErrSignature},
		{"nothing after the kind", idA, "1614265330", "v1,", bodyA, webhook.ErrSignature},
		{"no base64", idA, "1614265330", "v1,dawfeoifkpqwoekfpqoekf", bodyA, webhook.ErrSignature},
		{"public key's kind", idA, "1614265330", signedC, bodyA, webhook.ErrSignature},
		{"too many", idA, "1614265330", strings.Repeat(wrongV1+" ", 16) + signedA, bodyA, webhook.ErrSignature},
		{"6 minutes old", idA, "1614264970", signedA, bodyA, webhook.ErrTime},
		{"6 minutes ahead", idA, "1614265690", signedA, bodyA, webhook.ErrTime},
		{"301 s old", idA, "1614265029", signedA, bodyA, webhook.ErrTime},
		{"301 s ahead", idA, "1614265631", signedA, bodyA, webhook.ErrTime},
		{"no time", idA, "hello", signedA, bodyA, webhook.ErrMalformed},
		{"signed time", idA, "+1614265330", signedA, bodyA, webhook.ErrMalformed},
		{"fraction", idA, "1614265330.0", signedA, bodyA, webhook.ErrMalformed},
		{"long time", idA, "0001614265330", signedA, bodyA, webhook.ErrMalformed},
		{"full stop in the id", "a.b", "1614265330", signedA, bodyA, webhook.ErrMalformed},
		{"newline in the id", "a\nb", "1614265330", signedA, bodyA, webhook.ErrMalformed},
		{"long id", strings.Repeat("a", 257), "1614265330", signedA, bodyA, webhook.ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := verifier(t, timeA, secretA).Verify(header(tt.id, tt.timestamp, tt.signature), []byte(tt.body))
			if !errors.Is(err, tt.want) {
				t.Errorf("Verify = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestVerifyWantsEachHeaderOnce(t *testing.T) {
	t.Parallel()
	v := verifier(t, timeA, secretA)
	for _, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
		h := header(idA, "1614265330", signedA)
		h.Del(name)
		if err := v.Verify(h, []byte(bodyA)); !errors.Is(err, webhook.ErrMalformed) {
			t.Errorf("without %s Verify = %v", name, err)
		}
		if name == "webhook-signature" {
			continue // a list may be in several
		}
		h = header(idA, "1614265330", signedA)
		h.Add(name, h.Get(name))
		if err := v.Verify(h, []byte(bodyA)); !errors.Is(err, webhook.ErrMalformed) {
			t.Errorf("with two %s Verify = %v", name, err)
		}
	}
	h := header(idA, "1614265330", wrongV1)
	h.Add("webhook-signature", signedA)
	if err := v.Verify(h, []byte(bodyA)); err != nil {
		t.Errorf("with the list in two headers Verify = %v", err)
	}
}

func TestTolerance(t *testing.T) {
	t.Parallel()
	v := verifier(t, timeA+300, secretA)
	if err := v.Verify(header(idA, "1614265330", signedA), []byte(bodyA)); err != nil {
		t.Errorf("5 min old: %v", err)
	}
	v.Tolerance = time.Minute
	if err := v.Verify(header(idA, "1614265330", signedA), []byte(bodyA)); !errors.Is(err, webhook.ErrTime) {
		t.Errorf("5 min old with a tolerance of 1 min: %v", err)
	}
}

// A webhook signed with the old and the new secret is believed by who has either.
func TestRotation(t *testing.T) {
	t.Parallel()
	private, public := webhook.NewKeyPair()
	old, renewed := webhook.NewSecret(), webhook.NewSecret()
	h := http.Header{"Webhook-Signature": {"stale"}}
	if err := signer(t, string(renewed), string(old), string(private)).Sign(h, "a-b-1", time.Unix(timeA, 0), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if n := len(strings.Split(h.Get("webhook-signature"), " ")); n != 3 {
		t.Errorf("%d signatures, want 3", n)
	}
	for _, key := range []string{string(old), string(renewed), public, string(private)} {
		if err := verifier(t, timeA, string(webhook.NewSecret()), key).Verify(h, []byte("x")); err != nil {
			t.Errorf("a receiver with %.6s...: %v", key, err)
		}
	}
	if err := verifier(t, timeA, string(webhook.NewSecret())).Verify(h, []byte("x")); !errors.Is(err, webhook.ErrSignature) {
		t.Errorf("a receiver with another secret: %v", err)
	}
	got, err := webhook.PublicKey(private)
	if err != nil || got != public {
		t.Errorf("PublicKey = %q, %v, want %q", got, err, public)
	}
	if _, err := webhook.PublicKey(old); err == nil {
		t.Error("a v1 secret has a public key")
	}
}

func TestBadKeys(t *testing.T) {
	t.Parallel()
	encode := base64.StdEncoding.EncodeToString
	halves := append(make([]byte, 32), make([]byte, 32)...)
	for name, key := range map[string]string{
		"empty":            "",
		"no prefix":        strings.TrimPrefix(secretA, "whsec_"),
		"prefix alone":     "whsec_",
		"23 bytes":         "whsec_" + encode(make([]byte, 23)),
		"65 bytes":         "whsec_" + encode(make([]byte, 65)),
		"no base64":        secretA + "!",
		"newline":          secretA + "\n",
		"bits left over":   "whsec_" + strings.Repeat("A", 33) + "B", // 2 characters beyond whole groups, the last one not canonical
		"short public key": "whpk_" + encode(make([]byte, 31)),
		"private of 33":    "whsk_" + encode(make([]byte, 33)),
		"two halves":       "whsk_" + encode(halves),
	} {
		if _, err := webhook.NewVerifier(key); err == nil {
			t.Errorf("%s: NewVerifier takes it", name)
		} else if len(key) > 20 && strings.Contains(err.Error(), key[10:20]) {
			t.Errorf("%s: the key is in the error %q", name, err)
		}
		if _, err := webhook.NewSigner(key); err == nil {
			t.Errorf("%s: NewSigner takes it", name)
		}
	}
	for _, n := range []int{24, 64} {
		if _, err := webhook.NewSigner("whsec_" + encode(make([]byte, n))); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := webhook.NewSigner(strings.TrimRight("whsec_"+encode(make([]byte, 32)), "=")); err != nil {
		t.Errorf("without padding: %v", err)
	}
	if _, err := webhook.NewSigner(publicD); err == nil {
		t.Error("NewSigner takes a public key")
	}
	if _, err := webhook.NewSigner(); err == nil {
		t.Error("NewSigner takes no key")
	}
	if _, err := webhook.NewVerifier(make([]string, 17)...); err == nil {
		t.Error("NewVerifier takes 17 keys")
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	s := signer(t, secretA)
	for _, id := range []string{"", "a.b", "a b", "a\r\nX: y", "a\x7f", "é", strings.Repeat("a", 257)} {
		h := http.Header{}
		if err := s.Sign(h, id, time.Unix(timeA, 0), nil); !errors.Is(err, webhook.ErrMalformed) || len(h) != 0 {
			t.Errorf("id %.20q: error %v, headers %v", id, err, h)
		}
	}
	if err := s.Sign(http.Header{}, "a", time.Time{}, nil); err == nil {
		t.Error("Sign takes the zero time")
	}
}

// However a secret is printed, it does not come out.
func TestSecretIsRedacted(t *testing.T) {
	t.Parallel()
	secret := webhook.NewSecret()
	type config struct {
		S webhook.Secret
		P *webhook.Secret
		M map[string]webhook.Secret
	}
	c := config{secret, &secret, map[string]webhook.Secret{"a": secret}}
	var b strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		fmt.Fprintf(&b, verb+" "+verb+"\n", secret, c.S)
		fmt.Fprintf(&b, verb+"\n", config{S: secret, M: c.M})
	}
	log := slog.New(slog.NewTextHandler(&b, nil))
	log.Info("x", "secret", secret, "config", c)
	log = slog.New(slog.NewJSONHandler(&b, nil))
	log.Info("x", "secret", secret, "config", c)
	out, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	b.Write(out)
	if text := b.String(); strings.Contains(text, string(secret[6:20])) || strings.Contains(text, fmt.Sprintf("%x", string(secret)[6:20])) {
		t.Errorf("it came out:\n%s", text)
	}
	if !strings.Contains(string(out), `"S":"[redacted]"`) {
		t.Errorf("JSON is %s", out)
	}
}

func BenchmarkSign(b *testing.B) {
	s := signer(b, secretA)
	body, at := make([]byte, 200), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Sign(http.Header{}, idA, at, body); err != nil {
			b.Fatal(err)
		}
	}
}
