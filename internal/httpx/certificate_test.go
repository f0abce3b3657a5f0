package httpx_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skybus-io/skybus/internal/httpx"
)

// writePair writes a certificate for a name and its key.
func writePair(t testing.TB, dir, name string) (cert, key string) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &secret.PublicKey, secret)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// A certificate that is replaced is served from then on; while the files do not fit together, the last one is.
func TestCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		cert, key := writePair(t, dir, "first")
		c, err := httpx.LoadCertificate(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		served := func(want string) {
			t.Helper()
			pair, err := c.Get(nil)
			if err != nil || pair.Leaf.Subject.CommonName != want {
				t.Errorf("serves %v, %v, want %s", pair.Leaf.Subject, err, want)
			}
		}
		served("first")
		writePair(t, dir, "second")
		served("first") // it looks once a second
		touch(t, cert, key, 1)
		time.Sleep(2 * time.Second)
		served("second")
		half, err := os.ReadFile(cert)
		if err != nil {
			t.Fatal(err)
		}
		writePair(t, dir, "third")
		third, err := os.ReadFile(cert)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(cert, half, 0o600); err != nil { // the key is there before the certificate
			t.Fatal(err)
		}
		touch(t, cert, key, 2)
		time.Sleep(2 * time.Second)
		served("second")
		if c.Err() == nil {
			t.Error("no error for files that do not fit together")
		}
		if err := os.WriteFile(cert, third, 0o600); err != nil {
			t.Fatal(err)
		}
		touch(t, cert, key, 2) // a clock that is coarse
		time.Sleep(2 * time.Second)
		served("third")
		if err := os.Remove(key); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		served("third")
		if c.Err() == nil {
			t.Error("no error for a file that is gone")
		}
	})
}

// touch sets the time of files.
func touch(t testing.TB, cert, key string, hours int) {
	t.Helper()
	at := time.Now().Add(time.Duration(hours) * time.Hour)
	for _, file := range []string{cert, key} {
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCertificateMissing(t *testing.T) {
	t.Parallel()
	if _, err := httpx.LoadCertificate("nowhere.pem", "nowhere.key"); err == nil {
		t.Error("no error")
	}
}
