package bus

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxToken is the longest token of a subject that comes from a user, in bytes. One over-long subject would make the
// server close the connection for good.
const MaxToken = 64

// DefaultNamespace is where a program lives that was told nothing else.
const DefaultNamespace = "default.dev"

// reservedApps are the first tokens of subjects that are not services': skybus's streams and feeds, and the inboxes of NATS.
func reservedApp(app string) bool { return app == "skybus" || app == "_INBOX" || app == "_R_" }

// CheckToken tells whether value can be one token of a subject, a key or a name: 1 to 64 characters of A-Z, a-z, 0-9, "_"
// and "-". field names it in the error, which has the code [InvalidArgument].
func CheckToken(field, value string) error {
	if value == "" {
		return Errorf(InvalidArgument, "%s is empty: want 1 to %d characters of A-Z a-z 0-9 _ -", field, MaxToken)
	}
	if len(value) > MaxToken {
		return Errorf(InvalidArgument, "%s %q... has %d characters: want 1 to %d", field, value[:16], len(value), MaxToken)
	}
	for i, r := range value {
		if r >= utf8.RuneSelf || !tokenChar(byte(r)) {
			return Errorf(InvalidArgument, "%s %q: character %q at %d is not one of A-Z a-z 0-9 _ -", field, value, r, i)
		}
	}
	return nil
}

func tokenChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// CheckVersion tells whether v is a version as Semantic Versioning 2.0.0 writes it (1.2.3, 1.2.3-rc.1+build), at most 64
// characters long.
func CheckVersion(v string) error {
	bad := func(why string) error {
		if len(v) > MaxToken {
			return Errorf(InvalidArgument, "version %q... has %d characters: want at most %d", v[:16], len(v), MaxToken)
		}
		return Errorf(InvalidArgument, "version %q: %s; want MAJOR.MINOR.PATCH as in 1.2.3 or 1.2.3-rc.1", v, why)
	}
	if len(v) > MaxToken {
		return bad("")
	}
	rest, build, hasBuild := strings.Cut(v, "+")
	core, pre, hasPre := strings.Cut(rest, "-")
	numbers := strings.Split(core, ".")
	if len(numbers) != 3 {
		return bad("it does not have three numbers")
	}
	for _, n := range numbers {
		if !digits(n) || leadingZero(n) {
			return bad(fmt.Sprintf("%q is not a number", n))
		}
	}
	if hasPre && !identifiers(pre) || hasBuild && !identifiers(build) {
		return bad("what follows the numbers is not dot-separated identifiers")
	}
	if hasPre {
		for id := range strings.SplitSeq(pre, ".") {
			if digits(id) && leadingZero(id) {
				return bad(fmt.Sprintf("%q is a number with a leading zero", id))
			}
		}
	}
	return nil
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func leadingZero(s string) bool { return len(s) > 1 && s[0] == '0' }

func identifiers(s string) bool {
	for id := range strings.SplitSeq(s, ".") {
		if id == "" {
			return false
		}
		for i := range len(id) {
			if !tokenChar(id[i]) || id[i] == '_' {
				return false
			}
		}
	}
	return true
}

// VersionToken turns a version into one subject token: "." becomes "_" and "+" becomes "=", neither of which a version
// can contain.
func VersionToken(version string) string {
	return strings.NewReplacer(".", "_", "+", "=").Replace(version)
}

// Namespace is the pair of application and environment that all subjects and keys begin with. It keeps teams apart, not
// attackers: only NATS accounts do that.
type Namespace struct {
	App string
	Env string
}

// ParseNamespace reads "<app>.<env>". Empty means [DefaultNamespace]; the applications
// "skybus", "_INBOX" and "_R_" are reserved.
func ParseNamespace(s string) (Namespace, error) {
	if s == "" {
		s = DefaultNamespace
	}
	app, env, ok := strings.Cut(s, ".")
	if !ok {
		return Namespace{}, Errorf(InvalidArgument, "namespace %.80q: want <app>.<env>, as in shop.prod", s)
	}
	if err := CheckToken("namespace app", app); err != nil {
		return Namespace{}, err
	}
	if err := CheckToken("namespace env", env); err != nil {
		return Namespace{}, err
	}
	if reservedApp(app) {
		return Namespace{}, Errorf(InvalidArgument, "namespace %q: the application name %q is reserved", s, app)
	}
	return Namespace{App: app, Env: env}, nil
}

// String is "<app>.<env>".
func (n Namespace) String() string { return n.App + "." + n.Env }

// Key is a key of a bucket: the namespace and parts, joined by dots. The parts must have been checked.
func (n Namespace) Key(parts ...string) string {
	return n.String() + "." + strings.Join(parts, ".")
}

// Address names a service, or one instance of it, across namespaces: skybus://app.env.service/instance.
type Address struct {
	Namespace Namespace
	Service   string
	Instance  string // empty means any
}

// ParseAddress reads an address with or without its scheme and instance.
func ParseAddress(s string) (Address, error) {
	rest := strings.TrimPrefix(s, "skybus://")
	path, instance, hasInstance := strings.Cut(rest, "/")
	parts := strings.Split(path, ".")
	if len(parts) != 3 {
		return Address{}, Errorf(InvalidArgument, "address %.80q: want skybus://app.env.service/instance", s)
	}
	ns, err := ParseNamespace(parts[0] + "." + parts[1])
	if err != nil {
		return Address{}, err
	}
	if err := CheckToken("service", parts[2]); err != nil {
		return Address{}, err
	}
	if hasInstance {
		if err := CheckToken("instance", instance); err != nil {
			return Address{}, err
		}
	}
	return Address{Namespace: ns, Service: parts[2], Instance: instance}, nil
}

// String is the address as [ParseAddress] reads it.
func (a Address) String() string {
	s := "skybus://" + a.Namespace.String() + "." + a.Service
	if a.Instance != "" {
		s += "/" + a.Instance
	}
	return s
}
