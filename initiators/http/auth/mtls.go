package auth

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/skybus-io/skybus/bus"
)

// MTLSConfig is for client certificates. The listener asks for them and verifies them against its authorities
// (tls.VerifyClientCertIfGiven or RequireAndVerifyClientCert); what is not verified counts for nothing. Headers in which a proxy tells of a certificate are not read.
type MTLSConfig struct {
	// Name says what in the certificate is the principal's id: "cn" (common name of the subject), "uri", "dns" or "email" (alternative names, of
	// which there must be exactly one of that sort). Empty means cn.
	Name string `json:"name,omitempty"`
	// Scopes are what every verified certificate has.
	Scopes []string `json:"scopes,omitempty"`
	// Grants are the scopes of single ids beside those.
	Grants map[string][]string `json:"grants,omitempty"`
	// Only takes the ids in Grants and no others.
	Only bool `json:"only,omitempty"`
}

const maxGrants = 10_000

func (c *MTLSConfig) validate(prefix string) error {
	if !slices.Contains([]string{"", "cn", "uri", "dns", "email"}, c.Name) {
		return bus.Errorf(bus.InvalidArgument, "%sname: %.40q: want cn, uri, dns or email", prefix, c.Name)
	}
	if err := checkScopes(prefix+"scopes", c.Scopes); err != nil {
		return err
	}
	if len(c.Grants) > maxGrants {
		return bus.Errorf(bus.InvalidArgument, "%sgrants: there are %d: want at most %d", prefix, len(c.Grants), maxGrants)
	}
	for _, id := range sortedKeys(c.Grants) {
		if !validID(id) {
			return bus.Errorf(bus.InvalidArgument, "%sgrants: %.80q: want 1 to %d bytes without control characters", prefix, id, maxID)
		}
		if err := checkScopes(fmt.Sprintf("%sgrants[%q]", prefix, id), c.Grants[id]); err != nil {
			return err
		}
	}
	if c.Only && len(c.Grants) == 0 {
		return bus.Errorf(bus.InvalidArgument, "%sonly: nobody is in grants", prefix)
	}
	return nil
}

// certificates is the [Authenticator] of client certificates.
type certificates struct{ cfg MTLSConfig }

var _ Authenticator = certificates{}

func newCertificates(cfg MTLSConfig) certificates { return certificates{cfg} }

// Authenticate looks at the certificate that TLS has verified.
func (c certificates) Authenticate(r *http.Request) (*Principal, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return nil, nil
	}
	cert := r.TLS.VerifiedChains[0][0]
	// A connection may outlive what it was verified with.
	if now := time.Now(); now.After(cert.NotAfter) || now.Before(cert.NotBefore) {
		return nil, refuse("the client certificate has expired", nil)
	}
	id, err := c.name(cert)
	if err != nil {
		return nil, refuse(invalid, err)
	}
	granted, known := c.cfg.Grants[id]
	if c.cfg.Only && !known {
		return nil, refuse(invalid, errors.New("the certificate's name is not among those granted"))
	}
	return &Principal{Kind: Certificate, ID: id, Name: cert.Subject.CommonName, Scopes: slices.Concat(c.cfg.Scopes, granted)}, nil
}

func (c certificates) name(cert *x509.Certificate) (string, error) {
	var names []string
	switch c.cfg.Name {
	case "", "cn":
		names = []string{cert.Subject.CommonName}
	case "uri":
		for _, u := range cert.URIs {
			names = append(names, u.String())
		}
	case "dns":
		names = cert.DNSNames
	case "email":
		names = cert.EmailAddresses
	}
	if len(names) != 1 {
		return "", fmt.Errorf("the certificate has %d names of the sort %q: want 1", len(names), c.cfg.Name)
	}
	if !validID(names[0]) {
		return "", errors.New("the certificate's name is empty, too long or has control characters")
	}
	return names[0], nil
}
