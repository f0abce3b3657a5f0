package bus_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/skybus-io/skybus/bus"
)

// badTokens are what may stand in no name: each would be more than one token, or none, in a subject or a protocol line.
func badTokens() map[string]string {
	return map[string]string{
		"empty":          "",
		"dot":            "a.b",
		"only a dot":     ".",
		"star":           "*",
		"star inside":    "a*b",
		"greater":        ">",
		"greater inside": "a>b",
		"space":          "a b",
		"leading space":  " a",
		"trailing space": "a ",
		"tab":            "a\tb",
		"NUL":            "a\x00b",
		"CRLF":           "a\r\nPUB x 0\r\n\r\n",
		"LF":             "a\n",
		"DEL":            "a\x7f",
		"accent":         "café",
		"kanji":          "名",
		"no UTF-8":       "a\xff",
		"dollar":         "$JS",
		"slash":          "a/b",
		"equals":         "a=b",
		"plus":           "a+b",
		"quote":          `a"b`,
		"65 bytes":       strings.Repeat("a", 65),
		"5,000 bytes":    strings.Repeat("a", 5000),
	}
}

// wantRefused fails the test unless err says that something is invalid in one short line.
func wantRefused(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("accepted")
	}
	wantCode(t, err, bus.InvalidArgument)
	if text := err.Error(); len(text) > 500 || strings.ContainsAny(text, "\r\n\x00") || !utf8.ValidString(text) {
		t.Errorf("error text is not one short line: %q", text)
	}
}

func TestCheckToken(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a", "Z", "0", "_", "-", "getwidgets", "A-b_9", strings.Repeat("x", bus.MaxToken)} {
		if err := bus.CheckToken("service", good); err != nil {
			t.Errorf("CheckToken(%q): %v", good, err)
		}
	}
	for name, bad := range badTokens() {
		t.Run(name, func(t *testing.T) {
			err := bus.CheckToken("service", bad)
			wantRefused(t, err)
			if !strings.Contains(err.Error(), "service") {
				t.Errorf("error does not name the field: %v", err)
			}
		})
	}
}

func TestCheckTokenNamesTheCharacter(t *testing.T) {
	t.Parallel()
	err := bus.CheckToken("env", "café")
	if want := `invalid_argument: env "café": character 'é' at 3 is not one of A-Z a-z 0-9 _ -`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestCheckVersion(t *testing.T) {
	t.Parallel()
	valid := []string{
		"0.0.0", "0.1.0", "1.2.3", "10.20.30", "999999999999999999999.0.0",
		"1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-0", "1.0.0-0.3.7", "1.0.0-x.7.z.92", "1.0.0-x-y-z.--", "1.0.0-rc.1",
		"1.0.0-0a", "1.0.0-01a", "1.0.0--", "1.0.0-a.0.b",
		"1.0.0+build", "1.0.0+001", "1.0.0+20130313144700", "1.0.0+exp.sha-5114f85", "1.0.0+0.0.00",
		"1.0.0-beta+exp.sha", "1.0.0-beta-1+2-3", "1.0.0+a-b",
		"1.0.0-" + strings.Repeat("a", bus.MaxToken-len("1.0.0-")),
	}
	for _, v := range valid {
		if err := bus.CheckVersion(v); err != nil {
			t.Errorf("CheckVersion(%q): %v", v, err)
		}
	}
	invalid := map[string][]string{
		"numbers":     {"1", "1.2", "1.2.3.4", "1..3", ".1.2", "1.2.", "a.b.c", "1.2.x", "v1.2.3", "=1.2.3", "-1.2.3", "1.-2.3", "1.2.3x"},
		"zeros":       {"01.2.3", "1.02.3", "1.2.03", "00.0.0"},
		"pre-release": {"1.2.3-", "1.2.3-.a", "1.2.3-a.", "1.2.3-a..b", "1.2.3-a_b", "1.2.3-01", "1.2.3-a.00", "1.2.3-0.01.a"},
		"build":       {"1.2.3+", "1.2.3+.a", "1.2.3+a.", "1.2.3+a..b", "1.2.3+a+b", "1.2.3+a_b", "1.2.3-+a", "1.2.3-a+"},
		"length":      {"1.0.0-" + strings.Repeat("a", bus.MaxToken-len("1.0.0-")+1), "1.0.0-" + strings.Repeat("9", 5000), strings.Repeat("1.", 2500)},
		"elsewhere":   {"latest", "1,2,3", "1.2.3 ", " 1.2.3", "1.2.3\n", "١.٢.٣", "1.2.3-é", "1.2.3+é", "1.2.*", "1.2.>", "*", ">"},
	}
	for name, versions := range invalid {
		t.Run(name, func(t *testing.T) {
			for _, v := range versions {
				wantRefused(t, bus.CheckVersion(v))
			}
		})
	}
	for name, bad := range badTokens() {
		t.Run("token "+name, func(t *testing.T) {
			wantRefused(t, bus.CheckVersion(bad))
		})
	}
}

func TestVersionToken(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"1.2.3":             "1_2_3",
		"1.2.3-rc.1":        "1_2_3-rc_1",
		"1.2.3+build.7":     "1_2_3=build_7",
		"1.2.3-rc.1+a-b.c9": "1_2_3-rc_1=a-b_c9",
	}
	for version, want := range tests {
		if got := bus.VersionToken(version); got != want {
			t.Errorf("VersionToken(%q) = %q, want %q", version, got, want)
		}
	}
}

func TestParseNamespace(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", bus.MaxToken)
	good := map[string]bus.Namespace{
		"":                {App: "default", Env: "dev"},
		"default.dev":     {App: "default", Env: "dev"},
		"shop.prod":       {App: "shop", Env: "prod"},
		"Skybus.dev":      {App: "Skybus", Env: "dev"},
		"skybus2.dev":     {App: "skybus2", Env: "dev"},
		"shop.skybus":     {App: "shop", Env: "skybus"},
		long + "." + long: {App: long, Env: long},
	}
	for s, want := range good {
		got, err := bus.ParseNamespace(s)
		if err != nil || got != want {
			t.Errorf("ParseNamespace(%q) = %v, %v, want %v", s, got, err, want)
		}
		if s != "" && got.String() != s {
			t.Errorf("ParseNamespace(%q).String() = %q", s, got.String())
		}
	}
	for _, s := range []string{"skybus.dev", "skybus.skybus", "_INBOX.dev", "_R_.dev", "shop", ".", "shop.", ".prod", "a.b.c", "shop.prod.", strings.Repeat("a.", 2500)} {
		t.Run(s[:min(len(s), 16)], func(t *testing.T) {
			_, err := bus.ParseNamespace(s)
			wantRefused(t, err)
		})
	}
	for name, bad := range badTokens() {
		t.Run("token "+name, func(t *testing.T) {
			_, err := bus.ParseNamespace(bad + ".dev")
			wantRefused(t, err)
			_, err = bus.ParseNamespace("shop." + bad)
			wantRefused(t, err)
		})
	}
}

func TestNamespaceKey(t *testing.T) {
	t.Parallel()
	ns := bus.Namespace{App: "shop", Env: "prod"}
	if got, want := ns.Key("http", "cart"), "shop.prod.http.cart"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseAddress(t *testing.T) {
	t.Parallel()
	shop := bus.Namespace{App: "shop", Env: "prod"}
	good := map[string]bus.Address{
		"skybus://shop.prod.cart":    {Namespace: shop, Service: "cart"},
		"skybus://shop.prod.cart/i1": {Namespace: shop, Service: "cart", Instance: "i1"},
		"shop.prod.cart/i1":          {Namespace: shop, Service: "cart", Instance: "i1"},
		"shop.prod.cart":             {Namespace: shop, Service: "cart"},
	}
	for s, want := range good {
		got, err := bus.ParseAddress(s)
		if err != nil {
			t.Errorf("ParseAddress(%q): %v", s, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ParseAddress(%q) (-want +got):\n%s", s, diff)
		}
		again, err := bus.ParseAddress(got.String())
		if err != nil || again != got {
			t.Errorf("ParseAddress(%q) = %v, %v, want %v", got.String(), again, err, got)
		}
	}
	bad := []string{
		"", "skybus://", "cart", "shop.cart", "a.b.c.d", "..", "shop.prod.", "shop..cart", ".prod.cart", "..cart",
		"shop.prod.cart/", "shop.prod.cart/a/b", "/i1", "http://shop.prod.cart", "SKYBUS://shop.prod.cart",
		"skybus://skybus://shop.prod.cart", "skybus.prod.cart", "shop.prod.cart?x", "shop.prod.cart:80",
		strings.Repeat("shop.prod.cart", 400),
	}
	for _, s := range bad {
		t.Run(strings.ReplaceAll(s[:min(len(s), 24)], "/", "|"), func(t *testing.T) {
			_, err := bus.ParseAddress(s)
			wantRefused(t, err)
		})
	}
	for name, token := range badTokens() {
		t.Run("token "+name, func(t *testing.T) {
			addresses := []string{token + ".prod.cart", "shop." + token + ".cart", "shop.prod.cart/" + token}
			if name != "slash" { // which ends the service and begins the instance
				addresses = append(addresses, "shop.prod."+token)
			}
			for _, s := range addresses {
				_, err := bus.ParseAddress(s)
				wantRefused(t, err)
			}
		})
	}
}

func FuzzCheckToken(f *testing.F) {
	for _, bad := range badTokens() {
		f.Add(bad)
	}
	f.Add("getwidgets")
	f.Add(strings.Repeat("Az09_-", 10))
	token := regexp.MustCompile(`\A[A-Za-z0-9_-]{1,64}\z`)
	f.Fuzz(func(t *testing.T, s string) {
		err := bus.CheckToken("name", s)
		if want := token.MatchString(s); (err == nil) != want {
			t.Errorf("CheckToken(%q) = %v, a token: %v", s, err, want)
		}
		if err != nil {
			wantRefused(t, err)
		}
	})
}

func FuzzParseAddress(f *testing.F) {
	f.Add("skybus://shop.prod.cart/i1")
	f.Add("shop.prod.cart")
	f.Add("skybus://skybus.prod.cart")
	f.Add("skybus://..//")
	for _, bad := range badTokens() {
		f.Add("skybus://shop.prod." + bad + "/" + bad)
	}
	address := regexp.MustCompile(`\Askybus://([A-Za-z0-9_-]{1,64}\.){2}[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64})?\z`)
	f.Fuzz(func(t *testing.T, s string) {
		a, err := bus.ParseAddress(s)
		if err != nil {
			wantRefused(t, err)
			return
		}
		full := a.String()
		if full != s && full != "skybus://"+s {
			t.Errorf("ParseAddress(%q).String() = %q", s, full)
		}
		if !address.MatchString(full) || a.Namespace.App == "skybus" {
			t.Errorf("ParseAddress(%q) = %q, which is no address", s, full)
		}
		if again, err := bus.ParseAddress(full); err != nil || again != a {
			t.Errorf("ParseAddress(%q) = %v, %v, want %v", full, again, err, a)
		}
	})
}
