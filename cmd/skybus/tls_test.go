package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"testing"
	"time"

	"github.com/skybus-io/skybus/bus/bustest"
)

// A certificate that was renewed serves without a restart.
func TestLoadTLSFollowsFiles(t *testing.T) {
	t.Parallel()
	cert, key, _ := certificate(t)
	cfg, err := loadTLS(slog.New(slog.DiscardHandler), cert, key)
	if err != nil {
		t.Fatal(err)
	}
	first := cfg.Certificates[0].Certificate[0]
	renewed := selfSigned(t, cert, key)
	bustest.Eventually(t, "the renewed certificate", func() bool {
		if cfg.GetConfigForClient == nil {
			return false
		}
		now, err := cfg.GetConfigForClient(nil)
		return err == nil && !bytes.Equal(now.Certificates[0].Certificate[0], first) && bytes.Equal(now.Certificates[0].Certificate[0], renewed)
	})
}

// selfSigned writes a new certificate and its key, and returns it.
func selfSigned(t *testing.T, cert, key string) []byte {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return der
}
