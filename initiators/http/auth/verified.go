package auth

import (
	"crypto/sha256"
	"sync"
	"time"
)

// rememberFor is how long a token that was verified is taken again without another look at its signature.
const rememberFor = time.Minute

// tokenHash is what is known of a token. Tokens themselves are not kept: whoever reads the memory could use them.
type tokenHash [sha256.Size]byte

func hashToken(token string) tokenHash { return sha256.Sum256([]byte(token)) }

// goodToken is a token that was verified.
type goodToken struct {
	issuer *issuer
	keys   *keySet // of the issuer, by which it was verified
	who    *Principal
	until  time.Time
}

// verified remembers tokens that were verified, the latest ones. It forgets by halves: when the young ones are too many they become the old ones, and
// those that were old are gone, so that nothing is ever searched for what is to go.
type verified struct {
	half int // how many of each sort there may be; 0 remembers nothing

	mu         sync.Mutex
	young, old map[tokenHash]goodToken
}

func newVerified(most int) *verified {
	return &verified{half: (most + 1) / 2, young: map[tokenHash]goodToken{}}
}

// get is who a token is of, nil where that is to be found out: by now its time may be over, or its issuer may have other keys.
func (v *verified) get(h tokenHash, now time.Time) *Principal {
	v.mu.Lock()
	defer v.mu.Unlock()
	t, ok := v.young[h]
	if !ok {
		if t, ok = v.old[h]; !ok {
			return nil
		}
		delete(v.old, h)
		v.putLocked(h, t)
	}
	if !now.Before(t.until) || t.issuer.keys.current() != t.keys {
		delete(v.young, h)
		return nil
	}
	return t.who
}

// put remembers a token.
func (v *verified) put(h tokenHash, t goodToken) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.putLocked(h, t)
}

func (v *verified) putLocked(h tokenHash, t goodToken) {
	if v.half == 0 {
		return
	}
	if len(v.young) >= v.half {
		v.old, v.young = v.young, make(map[tokenHash]goodToken, v.half)
	}
	v.young[h] = t
}
