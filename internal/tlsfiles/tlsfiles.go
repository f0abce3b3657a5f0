// Package tlsfiles makes the TLS configuration of a server from PEM files, and follows them: a certificate that was renewed serves
// from the next handshake on, without a restart.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// lookEvery is how long a handshake goes by what an earlier one has seen of the files.
const lookEvery = time.Second

// Files names PEM files.
type Files struct {
	Cert, Key string
	// ClientCA holds the authorities of clients' certificates, which are required then, or, with ClientsOptional, verified where a client
	// shows one. Empty means that none is asked for.
	ClientCA        string
	ClientsOptional bool
	// Protocols are offered by ALPN, such as h2 and http/1.1. Nil means none.
	Protocols []string
}

// Config reads the files, and returns a configuration that looks at them again at handshakes, at most once a second. Files that changed and cannot be used, such as
// a certificate whose key is still the old one, leave what was read before in place, and are tried again; log hears of it once, nil discards it. TLS 1.2 is the
// least that is spoken. What connections in being have agreed on stays.
func (f Files) Config(log *slog.Logger) (*tls.Config, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	w := &watched{files: f, log: log}
	seen, err := w.look()
	if err != nil {
		return nil, err
	}
	if w.current, err = f.load(); err != nil {
		return nil, err
	}
	w.loaded, w.looked = seen, time.Now()
	cfg := w.current.Clone()
	cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return w.config(), nil }
	return cfg, nil
}

// load reads the files.
func (f Files) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", f.Cert, f.Key, err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: f.Protocols}
	if f.ClientCA == "" {
		return cfg, nil
	}
	data, err := os.ReadFile(f.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("authorities of clients: %w", err)
	}
	cfg.ClientCAs, cfg.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if f.ClientsOptional {
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
	}
	if !cfg.ClientCAs.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("authorities of clients: %s holds no certificate in PEM", f.ClientCA)
	}
	return cfg, nil
}

// watched is files and what they held.
type watched struct {
	files Files
	log   *slog.Logger

	mu      sync.Mutex
	current *tls.Config
	loaded  []os.FileInfo // of what current is made of
	refused []os.FileInfo // of what could not be used, and was told
	looked  time.Time
}

// look is what the files look like now.
func (w *watched) look() ([]os.FileInfo, error) {
	var all []os.FileInfo
	for _, name := range []string{w.files.Cert, w.files.Key, w.files.ClientCA} {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		all = append(all, info)
	}
	return all, nil
}

// same tells whether files were neither changed nor replaced.
func same(a, b []os.FileInfo) bool {
	return slices.EqualFunc(a, b, func(a, b os.FileInfo) bool {
		return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
	})
}

// config is what the files hold, or held when they could last be used.
func (w *watched) config() *tls.Config {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.looked) < lookEvery {
		return w.current
	}
	w.looked = time.Now()
	seen, err := w.look()
	if err == nil {
		if same(seen, w.loaded) {
			return w.current
		}
		var next *tls.Config
		if next, err = w.files.load(); err == nil {
			w.current, w.loaded, w.refused = next, seen, nil
			w.log.Info("certificate was read again", "file", w.files.Cert)
			return w.current
		}
	}
	if w.refused == nil || !same(seen, w.refused) {
		w.refused = append([]os.FileInfo{}, seen...)
		w.log.Warn("certificate was changed and cannot be used, the old one stays", "error", err)
	}
	return w.current
}
