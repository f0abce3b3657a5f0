// Package webhook signs webhooks, and checks them where they arrive, as Standard Webhooks 1.0 says
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
//
// A webhook is an HTTP request with three headers: webhook-id, the same for all attempts to deliver one message; webhook-timestamp, the
// time of the attempt in Unix seconds; and webhook-signature, one or more signatures of id, timestamp and body with a space between.
// Signatures are v1 (HMAC-SHA256 with a secret that both sides have, written whsec_...) or v1a (Ed25519; the sender has whsk_..., the
// receiver whpk_...). While a key is replaced the sender signs with the old and the new one; one signature that fits is enough.
//
// A receiver needs this package and the standard library, nothing else: [NewVerifier] and [Handler]. The time limits how
// long a request that was overheard can be sent again; against repeats within it, and those of a sender who got no
// answer, only remembering ids helps.
package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers, as net/http spells them.
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
)

const (
	// DefaultTolerance is how far the time of an attempt may be from the receiver's, before and after. The specification gives
	// no number; this is the one of its reference libraries.
	DefaultTolerance = 5 * time.Minute

	// MaxID is the longest id, in bytes.
	MaxID = 256

	maxSignatures   = 16 // looked at in one request
	maxTimestamp    = 12 // digits
	maxKeys         = 16 // of a signer or verifier
	signatureV1     = "v1"
	signatureV1a    = "v1a"
	defaultMaxBody  = 1 << 20
	separator       = "."
	listSeparator   = " "
	keySeparator    = ","
	prefixSecret    = "whsec_"
	prefixPrivate   = "whsk_"
	prefixPublic    = "whpk_"
	minSecret       = 24
	maxSecret       = 64
	generatedSecret = 32
)

// Why a webhook is not to be believed.
var (
	// ErrMalformed: a header is missing, there twice, or not of its form.
	ErrMalformed = errors.New("webhook: malformed headers")
	// ErrTime: the time of the attempt is too far from now, in either direction.
	ErrTime = errors.New("webhook: timestamp is outside the tolerance")
	// ErrSignature: no signature fits any key.
	ErrSignature = errors.New("webhook: no signature fits")
	// ErrTooLarge: the body is longer than the receiver takes.
	ErrTooLarge = errors.New("webhook: body is too large")
)

// CheckID tells whether id can be that of a webhook: 1 to [MaxID] visible ASCII characters other than the full stop, which
// stands between the parts that are signed.
func CheckID(id string) error {
	if id == "" || len(id) > MaxID {
		return fmt.Errorf("%w: id has %d characters, want 1 to %d", ErrMalformed, len(id), MaxID)
	}
	for i := range len(id) {
		if c := id[i]; c <= ' ' || c > '~' || c == '.' {
			return fmt.Errorf("%w: character %q at %d of the id", ErrMalformed, c, i)
		}
	}
	return nil
}

// Signer signs webhooks, with each of its keys. It is safe for concurrent use.
type Signer struct {
	keys []key
}

// NewSigner makes a signer from secrets as they are written: whsec_ and the base64 of 24 to 64 bytes, or whsk_ and that of an
// Ed25519 key (32 bytes, or 64 with its public half). There are 1 to 16; more than one while a secret is being replaced.
func NewSigner(secrets ...string) (*Signer, error) {
	keys, err := parseKeys(secrets)
	if err != nil {
		return nil, err
	}
	for i, k := range keys {
		if k.secret == nil && k.private == nil {
			return nil, fmt.Errorf("webhook: key %d is a public one (%s): only receivers use those", i, prefixPublic)
		}
	}
	return &Signer{keys: keys}, nil
}

// Sign puts the three headers of the webhook into h, in place of what was there. The request has to carry the very same bytes as body.
// The error is that of [CheckID], or for a time before 1970.
func (s *Signer) Sign(h http.Header, id string, at time.Time, body []byte) error {
	if err := CheckID(id); err != nil {
		return err
	}
	if at.Unix() < 0 {
		return fmt.Errorf("%w: time %v", ErrMalformed, at)
	}
	timestamp := strconv.FormatInt(at.Unix(), 10)
	content := signedContent(id, timestamp, body)
	signatures := make([]string, len(s.keys))
	for i, k := range s.keys {
		signatures[i] = k.sign(content)
	}
	h[HeaderID] = []string{id}
	h[HeaderTimestamp] = []string{timestamp}
	h[HeaderSignature] = []string{strings.Join(signatures, listSeparator)}
	return nil
}

func signedContent(id, timestamp string, body []byte) []byte {
	content := make([]byte, 0, len(id)+len(timestamp)+len(body)+2*len(separator))
	content = append(content, id...)
	content = append(content, separator...)
	content = append(content, timestamp...)
	content = append(content, separator...)
	return append(content, body...)
}

// Verifier tells whether webhooks come from who has the keys. It is safe for concurrent use once its fields are set.
type Verifier struct {
	// Tolerance is how far the time of the attempt may be from now, before and after. 0 means 5 min.
	Tolerance time.Duration
	// Now is the clock. Nil means time.Now.
	Now func() time.Time

	keys []key
}

// NewVerifier makes a verifier from keys as they are written: secrets (whsec_), public keys (whpk_) or private ones (whsk_), 1 to
// 16. One key that fits one signature is enough.
func NewVerifier(keys ...string) (*Verifier, error) {
	parsed, err := parseKeys(keys)
	if err != nil {
		return nil, err
	}
	return &Verifier{keys: parsed}, nil
}

// Verify tells whether the headers h fit the body: nil if so, else [ErrMalformed], [ErrTime] or [ErrSignature]. Signatures of unknown kinds
// are passed over; at most 16 are looked at. How long it takes says nothing about the signature expected.
func (v *Verifier) Verify(h http.Header, body []byte) error {
	id, err := single(h, HeaderID)
	if err != nil {
		return err
	}
	if err := CheckID(id); err != nil {
		return err
	}
	timestamp, err := single(h, HeaderTimestamp)
	if err != nil {
		return err
	}
	if err := v.checkTime(timestamp); err != nil {
		return err
	}
	values := h.Values(HeaderSignature)
	if len(values) == 0 {
		return fmt.Errorf("%w: %s is missing", ErrMalformed, HeaderSignature)
	}
	if !v.match(strings.Join(values, listSeparator), signedContent(id, timestamp, body)) {
		return ErrSignature
	}
	return nil
}

func single(h http.Header, name string) (string, error) {
	switch values := h.Values(name); len(values) {
	case 0:
		return "", fmt.Errorf("%w: %s is missing", ErrMalformed, name)
	case 1:
		return values[0], nil
	default:
		return "", fmt.Errorf("%w: %s is there %d times", ErrMalformed, name, len(values))
	}
}

func (v *Verifier) checkTime(timestamp string) error {
	if timestamp == "" || len(timestamp) > maxTimestamp || strings.Trim(timestamp, "0123456789") != "" {
		return fmt.Errorf("%w: %s is no time in Unix seconds", ErrMalformed, HeaderTimestamp)
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMalformed, HeaderTimestamp, err)
	}
	now := time.Now
	if v.Now != nil {
		now = v.Now
	}
	tolerance := v.Tolerance
	if tolerance == 0 {
		tolerance = DefaultTolerance
	}
	if age := now().Sub(time.Unix(seconds, 0)); age > tolerance || age < -tolerance {
		return fmt.Errorf("%w of %v: it is %v old", ErrTime, tolerance, age.Round(time.Second))
	}
	return nil
}

// match tells whether any signature of the list fits any key.
func (v *Verifier) match(list string, content []byte) bool {
	matchers := make([]func(signature string) bool, len(v.keys))
	for i, k := range v.keys {
		matchers[i] = k.matcher(content)
	}
	looked := 0
	for signature := range strings.SplitSeq(list, listSeparator) {
		if signature == "" {
			continue
		}
		if looked++; looked > maxSignatures {
			return false
		}
		for _, fits := range matchers {
			if fits(signature) {
				return true
			}
		}
	}
	return false
}
