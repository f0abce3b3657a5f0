package auth

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestKeyRoundTrip(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 100 {
		id, secret := newSecret()
		text := formatKey(id, secret)
		gotID, got, ok := parseKey(text)
		if !ok || gotID != id || got != secret {
			t.Fatalf("%q reads as %q, %t", text, gotID, ok)
		}
		if seen[id] {
			t.Fatalf("the id %q twice", id)
		}
		seen[id] = true
	}
}

func TestKeyForms(t *testing.T) {
	t.Parallel()
	id, secret := newSecret()
	good := formatKey(id, secret)
	for name, text := range map[string]string{
		"empty":                  "",
		"prefix alone":           "sbk_",
		"no secret":              "sbk_" + id,
		"empty secret":           "sbk_" + id + "_",
		"empty id":               "sbk__" + good[len(good)-secretChars:],
		"upper case":             "SBK_" + good[4:],
		"upper case id":          "sbk_" + strings.ToUpper(id) + good[4+len(id):],
		"short secret":           good[:len(good)-1],
		"long secret":            good + "a",
		"another prefix":         "skb_" + good[4:],
		"space before":           " " + good,
		"character of no base32": good[:len(good)-1] + "1",
		"id with a dot":          "sbk_a.b_" + good[len(good)-secretChars:],
		"id with a wildcard":     "sbk_*_" + good[len(good)-secretChars:],
		"long id":                "sbk_" + strings.Repeat("a", maxKeyID+1) + "_" + good[len(good)-secretChars:],
		"line break":             good[:len(good)-1] + "\n",
	} {
		if id, _, ok := parseKey(text); ok {
			t.Errorf("%s: taken, with id %q", name, id)
		}
	}
	// 52 characters hold 4 bits more than a secret: only one way to write it is taken.
	zeros := formatKey("abc", [secretSize]byte{})
	if _, _, ok := parseKey(zeros[:len(zeros)-1] + "b"); ok {
		t.Error("a second text for the same secret is taken")
	}
}

// What decides must not depend on how much of a secret is right, nor on whether the key is there: one comparison of all bytes.
func TestAdmits(t *testing.T) {
	t.Parallel()
	now := time.Now()
	_, secret := newSecret()
	good := keyRecord{Key: Key{ID: "abc"}, Hash: sha256.Sum256(secret[:])}
	if !good.admits(secret, now) {
		t.Error("the right secret is refused")
	}
	for i := range secretSize {
		wrong := secret
		wrong[i] ^= 1
		if good.admits(wrong, now) {
			t.Errorf("a secret that is wrong in byte %d is taken", i)
		}
	}
	disabled, expired, ends := good, good, good
	disabled.Disabled, expired.Expires, ends.Expires = true, now, now.Add(time.Nanosecond)
	if disabled.admits(secret, now) || expired.admits(secret, now) || !ends.admits(secret, now) {
		t.Error("disabled or expired: taken, or not yet expired: refused")
	}
	// The zero record stands for what is not there; a secret whose hash it has nobody knows.
	var none keyRecord
	if none.admits(secret, now) {
		t.Error("a key that is not there is taken")
	}
	none.Hash = good.Hash
	if none.admits(secret, now) {
		t.Error("a record without an id is taken")
	}
}

func TestDigestText(t *testing.T) {
	t.Parallel()
	want := digest(sha256.Sum256([]byte("x")))
	text, err := json.Marshal(want)
	if err != nil || len(text) != 66 {
		t.Fatalf("%s, %v", text, err)
	}
	var got digest
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{`""`, `"00"`, `"` + strings.Repeat("zz", 32) + `"`, `"` + strings.Repeat("00", 33) + `"`} {
		if err := json.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	id, secret := newSecret()
	for _, s := range []string{formatKey(id, secret), "sbk_", "sbk_a_b", "sbk__", "Bearer x", strings.Repeat("sbk_", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, secret, ok := parseKey(s)
		if ok && formatKey(id, secret) != s {
			t.Errorf("%q is a second text for %q", s, formatKey(id, secret))
		}
		if ok && CheckKeyID(id) != nil {
			t.Errorf("%q has the id %q", s, id)
		}
	})
}
