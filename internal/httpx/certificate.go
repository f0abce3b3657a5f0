package httpx

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

const certificateLook = time.Second

// Certificate is a certificate in files that may be replaced while a server runs.
type Certificate struct {
	cert, key string

	mu     sync.Mutex
	pair   *tls.Certificate
	stamp  [2]time.Time // when the files were last changed
	looked time.Time
	err    error // why the files as they are now are not used
}

// LoadCertificate reads a certificate and its key, both in PEM.
func LoadCertificate(cert, key string) (*Certificate, error) {
	c := &Certificate{cert: cert, key: key}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.load()
	if c.pair == nil {
		return nil, c.err
	}
	return c, nil
}

// Get is for [tls.Config].GetCertificate. It looks at the files once a second at most; while they are not a pair, as when one of them is
// being replaced, it goes on with the last that were.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) >= certificateLook {
		c.load()
	}
	return c.pair, nil
}

// Err is why the files, as they were when they were last looked at, are not what is served; nil where they are.
func (c *Certificate) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *Certificate) load() {
	c.looked = time.Now()
	var stamp [2]time.Time
	for i, name := range []string{c.cert, c.key} {
		info, err := os.Stat(name)
		if err != nil {
			c.err = fmt.Errorf("certificate: %w", err)
			return
		}
		stamp[i] = info.ModTime()
	}
	if c.pair != nil && c.err == nil && stamp == c.stamp {
		return
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		c.err = fmt.Errorf("certificate: %w", err)
		return
	}
	c.pair, c.stamp, c.err = &pair, stamp, nil
}
