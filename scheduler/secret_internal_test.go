package scheduler

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/scheduler/webhook"
)

func putSecret(t testing.TB, s *Scheduler, name string, key webhook.Secret, keep time.Duration) SecretInfo {
	t.Helper()
	info, err := s.Secrets().Put(t.Context(), name, key, keep)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// signedHook is a receiver that keeps what it was sent, and tells which keys fit it.
type signedHook struct {
	url string

	mu     sync.Mutex
	header http.Header
	body   []byte
}

func newSignedHook(t testing.TB) *signedHook {
	t.Helper()
	h := &signedHook{}
	h.url = receive(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.header, h.body = r.Header, body
	}).URL
	return h
}

// fits tells whether the last request is signed with the key.
func (h *signedHook) fits(t testing.TB, key string) bool {
	t.Helper()
	v, err := webhook.NewVerifier(key)
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	err = v.Verify(h.header, h.body)
	if err != nil && !errors.Is(err, webhook.ErrSignature) {
		t.Errorf("%v: %v", err, h.header)
	}
	return err == nil
}

func TestSignedWebhook(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{AllowNetworks: loopback()})
	hook := newSignedHook(t)
	target := Target{URI: hook.url, Secret: "billing"}
	wantField(t, check(t, s, target), bus.InvalidArgument, "target.secret")
	first, second := webhook.NewSecret(), webhook.NewSecret()
	private, public := webhook.NewKeyPair()
	putSecret(t, s, "billing", first, 0)
	if err := check(t, s, target); err != nil {
		t.Fatalf("just after the secret was put: %v", err)
	}
	send := func() {
		t.Helper()
		if err := deliver(t, s, attempt(target, `{"n":1}`)); err != nil {
			t.Fatal(err)
		}
	}
	send()
	if id := hook.header.Get("webhook-id"); !hook.fits(t, string(first)) || hook.fits(t, string(second)) || id != "t1-gen-1" {
		t.Errorf("first key does not fit, or webhook-id is %q", id)
	}
	put := time.Now()
	putSecret(t, s, "billing", second, 0)
	bustest.Eventually(t, "the new key", func() bool { send(); return hook.fits(t, string(second)) })
	if took := time.Since(put); took > 5*time.Second { // a second where the machine has nothing else to do
		t.Errorf("the new key signs after %v", took)
	}
	if !hook.fits(t, string(first)) {
		t.Error("the old key does not sign beside the new one")
	}
	putSecret(t, s, "billing", private, -1)
	bustest.Eventually(t, "the new key alone", func() bool { send(); return hook.fits(t, public) })
	if hook.fits(t, string(first)) || hook.fits(t, string(second)) {
		t.Error("a key that was replaced at once still signs")
	}
	if err := s.Secrets().Remove(t.Context(), "billing"); err != nil {
		t.Fatal(err)
	}
	var err error
	bustest.Eventually(t, "no signature", func() bool {
		err = deliver(t, s, attempt(target, "x"))
		return err != nil
	})
	if e := failed(t, err); e.Permanent || !e.Unharmed || bus.CodeOf(err) != bus.NotFound {
		t.Errorf("without its secret: %+v", e)
	}
	target.Secret = ""
	send()
	if hook.header.Get("webhook-id") != "" {
		t.Error("an unsigned request has a webhook-id")
	}
}

// TestSecretsFollow has the secret put by another process, and its key run out.
func TestSecretsFollow(t *testing.T) {
	t.Parallel()
	n := bustest.Server(t)
	s, err := Open(t.Context(), connectBus(t, n), Config{AllowNetworks: loopback()})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, s)
	other := &Secrets{connectBus(t, n)}
	hook := newSignedHook(t)
	first, second := webhook.NewSecret(), webhook.NewSecret()
	if _, err := other.Put(t.Context(), "a", first, 0); err != nil {
		t.Fatal(err)
	}
	d := attempt(Target{URI: hook.url, Secret: "a"}, "x")
	if err := deliver(t, s, d); err != nil || !hook.fits(t, string(first)) {
		t.Fatalf("%v, or the wrong key", err)
	}
	if _, err := other.Put(t.Context(), "a", second, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, key := range []webhook.Secret{second, first} {
		want := key == second
		bustest.Eventually(t, "the rotation", func() bool {
			if err := deliver(t, s, d); err != nil {
				t.Error(err)
			}
			return hook.fits(t, string(key)) == want
		})
	}
	if !hook.fits(t, string(second)) {
		t.Error("the newest key does not sign")
	}
}

func TestSecretRotation(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{})
	var keys []webhook.Secret
	for range maxSecretKeys + 1 {
		keys = append(keys, webhook.NewSecret())
	}
	begin := time.Now()
	info := putSecret(t, s, "a", keys[0], 0)
	if len(info.Keys) != 1 || info.Name != "a" || !info.Keys[0].Expires.IsZero() || info.Keys[0].Kind != "v1" || info.Keys[0].ID == "" || info.Created.IsZero() {
		t.Errorf("%+v", info)
	}
	putSecret(t, s, "a", keys[1], time.Hour)
	info = putSecret(t, s, "a", keys[2], 2*time.Hour)
	if len(info.Keys) != 3 || !info.Keys[0].Expires.IsZero() {
		t.Fatalf("%+v", info)
	}
	for i, want := range []time.Duration{2 * time.Hour, time.Hour} {
		if left := info.Keys[i+1].Expires.Sub(begin); left < want || left > want+time.Minute {
			t.Errorf("key %d signs for %v, want %v", i+1, left, want)
		}
	}
	newest := info.Keys[0].ID
	again := putSecret(t, s, "a", keys[2], 0)
	if len(again.Keys) != 3 || again.Keys[0].ID != newest {
		t.Errorf("put once more: %+v", again)
	}
	for _, key := range keys[3:maxSecretKeys] {
		putSecret(t, s, "a", key, 0)
	}
	if _, err := s.Secrets().Put(t.Context(), "a", keys[maxSecretKeys], 0); bus.CodeOf(err) != bus.FailedPrecondition {
		t.Errorf("one more than %d: %v", maxSecretKeys, err)
	}
	if info := putSecret(t, s, "a", keys[maxSecretKeys], -1); len(info.Keys) != 1 {
		t.Errorf("with no key kept: %+v", info)
	}
	private, public := webhook.NewKeyPair()
	putSecret(t, s, "b", private, 0)
	var names []string
	for info, err := range s.Secrets().List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
		if info.Name == "b" && (info.Keys[0].Kind != "v1a" || info.Keys[0].Public != public) {
			t.Errorf("%+v", info)
		}
	}
	if strings.Join(names, " ") != "a b" {
		t.Errorf("%v", names)
	}
}

func TestSecretsRefuse(t *testing.T) {
	t.Parallel()
	_, s := openTransports(t, Config{})
	for info, err := range s.Secrets().List(t.Context()) {
		t.Errorf("before the first: %v, %v", info, err)
	}
	if err := s.Secrets().Remove(t.Context(), "a"); bus.CodeOf(err) != bus.NotFound {
		t.Errorf("%v, want not_found", err)
	}
	_, public := webhook.NewKeyPair()
	for _, tt := range []struct {
		name string
		key  webhook.Secret
		keep time.Duration
	}{
		{"a.b", webhook.NewSecret(), 0},
		{"", webhook.NewSecret(), 0},
		{"a", "", 0},
		{"a", "canary", 0},
		{"a", "whsec_canary", 0},
		{"a", "whsec_Y2FuYXJ5", 0},
		{"a", webhook.Secret(public), 0},
		{"a", webhook.NewSecret(), maxSecretKept + 1},
	} {
		_, err := s.Secrets().Put(t.Context(), tt.name, tt.key, tt.keep)
		if bus.CodeOf(err) != bus.InvalidArgument || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "Y2FuY") {
			t.Errorf("%q: %v", tt.name, err)
		}
	}
	wantField(t, check(t, s, Target{URI: "http://1.1.1.1/", Secret: "a.b"}), bus.InvalidArgument, "target.secret")
	wantField(t, check(t, s, Target{Transport: "call", URI: "a.b", Secret: "a"}), bus.InvalidArgument, "target.secret")
	wantField(t, check(t, s, Target{URI: "http://1.1.1.1/", Secret: "a"}), bus.InvalidArgument, "target.secret")
}

// planted is a key to look for, the base64 of 24 bytes.
const planted = "Q2FuYXJ5Q2FuYXJ5Q2FuYXJ5Q2FuYXJ5"

// teller collects what is told: logs, and values in all ways there are to write them.
type teller struct {
	log *slog.Logger

	mu sync.Mutex
	b  bytes.Buffer
}

func (l *teller) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *teller) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *teller) tell(values ...any) {
	for _, v := range values {
		l.log.Info("told", "value", v)
		fmt.Fprintf(l, "%v %+v %#v %s %q %x\n", v, v, v, v, v, v)
		_ = json.NewEncoder(l).Encode(v) // errors cannot be encoded
	}
}

// openTelling is a scheduler that logs all there is, and fails the test at its end if the planted key is among what was told.
func openTelling(t *testing.T) (*teller, *Scheduler) {
	t.Helper()
	out := &teller{}
	out.log = slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	conn, err := bus.Connect(t.Context(), bus.Config{InProcess: bustest.Server(t), Logger: out.log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		text := out.text()
		for _, form := range []string{planted, "CanaryCanary", fmt.Sprintf("%x", planted), fmt.Sprintf("%x", "CanaryCanary")} {
			if i := strings.Index(text, form); i >= 0 {
				t.Errorf("the key is told: ...%s", text[max(0, i-100):i+len(form)])
			}
		}
	})
	s, err := Open(t.Context(), conn, Config{AllowNetworks: loopback(), Logger: out.log})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, s)
	return out, s
}

func TestSecretsAreNotTold(t *testing.T) {
	t.Parallel()
	out, s := openTelling(t)
	key := webhook.Secret("whsec_" + planted)
	out.tell(putSecret(t, s, "a", key, 0), s.Secrets())
	for info, err := range s.Secrets().List(t.Context()) {
		out.tell(info, err)
	}
	srv := receive(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	out.tell(deliver(t, s, attempt(Target{URI: srv.URL, Secret: "a"}, "x")))
	table, err := bindSecrets(t.Context(), s.conn)
	if err != nil {
		t.Fatal(err)
	}
	e, err := table.Get(t.Context(), "default.dev.webhook.a")
	if err != nil || string(e.Value.Keys[0].Key) != string(key) {
		t.Fatalf("%v: the record does not hold the key", err)
	}
	// As a value of the bucket it is written in JSON, but not printed.
	fmt.Fprintf(out, "%v %+v %#v %s %x\n", e, e, e.Value, e.Value.Keys, e.Value.Keys)
	out.log.Info("told", "key", e.Value.Keys[0].Key)
	if !strings.Contains(out.text(), "[redacted]") {
		t.Error("nothing was told")
	}
}

// TestBadSecretsAreNotTold reads what is no secret, or not a good one.
func TestBadSecretsAreNotTold(t *testing.T) {
	t.Parallel()
	out, s := openTelling(t)
	putSecret(t, s, "a", webhook.NewSecret(), 0)
	for name, record := range map[string]string{
		"bad": `{"keys":[{"key":"whsec_` + planted + `?"}]}`, "worse": `{"keys":"whsec_` + planted + `"}`, "worst": "whsec_" + planted, "none": `{"keys":[]}`,
	} {
		if _, err := s.js.Publish(t.Context(), "$KV.skybus_secrets.default.dev.webhook."+name, []byte(record)); err != nil {
			t.Fatal(err)
		}
		target := Target{URI: "http://127.0.0.1:9999/", Secret: name}
		created, delivered := check(t, s, target), deliver(t, s, attempt(target, "x"))
		if created == nil || delivered == nil {
			t.Errorf("%s is taken: %v, %v", name, created, delivered)
		}
		out.tell(created, delivered)
	}
	for info, err := range s.Secrets().List(t.Context()) {
		out.tell(info, err)
	}
}

func TestSecretRecordExpires(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var r secretRecord
	first, second := string(webhook.NewSecret()), string(webhook.NewSecret())
	r.rotate(first, now, 0)
	r.rotate(second, now, time.Hour)
	if _, until, err := r.signer(now); err != nil || !until.Equal(now.Add(time.Hour)) {
		t.Errorf("until %v, %v", until, err)
	}
	if live := r.live(now.Add(time.Hour)); len(live) != 1 || string(live[0].Key) != second {
		t.Errorf("%d keys after the first has run out", len(live))
	}
	if _, until, err := r.signer(now.Add(time.Hour)); err != nil || !until.IsZero() {
		t.Errorf("until %v, %v", until, err)
	}
	var none secretRecord
	if _, _, err := none.signer(now); err == nil {
		t.Error("a secret without keys signs")
	}
}
