package balance

import (
	"math/bits"
	"math/rand/v2"

	"github.com/skybus-io/skybus/micro/registry"
)

// ModHash sends calls with the same Key to the same instance, which is the one at the position hash modulo n by id. All
// processes that see the same instances agree. When an instance comes or goes nearly all keys move: [ConsistentHash]
// moves as few as can be. A call without a Key goes anywhere.
//
// Neither looks at Call.Attempt: who wants another instance for another attempt leaves out those that were tried.
func ModHash() Policy {
	return Func(func(instances []*registry.Instance, call Call) *registry.Instance {
		return instances[keyHash(call.Key)%uint64(len(instances))]
	})
}

// ConsistentHash sends calls with the same Key to the same instance, and moves only the keys it must: those of an instance
// that went, evenly to the others, and to one that came its fair share. All processes that see the same instances agree.
// A call without a Key goes anywhere. It is rendezvous hashing: each instance draws a number for the key, the highest has it; a
// pick looks at all instances.
func ConsistentHash() Policy { return Func(rendezvous) }

func rendezvous(instances []*registry.Instance, call Call) *registry.Instance {
	key := keyHash(call.Key)
	best, most := instances[0], uint64(0)
	for _, i := range instances {
		if v := mix(key ^ hash(i.Instance)); v > most {
			best, most = i, v
		}
	}
	return best
}

// keyHash is the hash of the key, or any number when there is none.
func keyHash(key string) uint64 {
	if key == "" {
		return rand.Uint64()
	}
	return hash(key)
}

// Odd numbers without a pattern: the fractions of the golden ratio and of the square roots of 2 and 3.
const (
	golden = 0x9e3779b97f4a7c15
	root2  = 0x6a09e667f3bcc909
	root3  = 0xbb67ae8584caa73b
)

// hash is the same in every process and on every machine, and must stay so: callers of different releases have to agree.
// It takes eight bytes at a time. Keys chosen to collide only spoil the spread of those who chose them.
func hash(s string) uint64 {
	h := uint64(len(s)) * golden
	for ; len(s) >= 8; s = s[8:] {
		h = fold(h^word(s), root2)
	}
	var tail uint64
	for i := range len(s) {
		tail |= uint64(s[i]) << (8 * i)
	}
	return mix(fold(h^tail, root3))
}

// word is the first eight bytes of s, the first lowest.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// fold multiplies and adds the halves of the product.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// mix is the finalizer of SplitMix64: each bit of v changes half of the bits of the result.
func mix(v uint64) uint64 {
	v = (v ^ v>>30) * 0xbf58476d1ce4e5b9
	v = (v ^ v>>27) * 0x94d049bb133111eb
	return v ^ v>>31
}
