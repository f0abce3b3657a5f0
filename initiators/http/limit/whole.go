package limit

// wholeName is the name that the buckets of a gateway as a whole have. No entry has it: their names are tokens.
const wholeName = "*"

// Whole is the limits of all that a gateway or a listener serves together, as data. The zero value limits nothing. They hold beside those of entries.
type Whole struct {
	// IP is the rate of each IPv4 address, and of each /64 of IPv6.
	IP *Rate `json:"ip,omitempty"`
	// Key is the rate of each principal.
	Key *Rate `json:"key,omitempty"`
	// All is the rate of all together.
	All *Rate `json:"all,omitempty"`
}

// Validate tells whether w can be used. The error has the code [bus.InvalidArgument] and names the field, with prefix before it.
func (w Whole) Validate(prefix string) error {
	for _, f := range []struct {
		name string
		rate *Rate
	}{{"ip", w.IP}, {"key", w.Key}, {"all", w.All}} {
		if err := f.rate.validate(prefix + f.name); err != nil {
			return err
		}
	}
	return nil
}

// Whole is the limits of all entries together, nil where there are none. Its requests have no places. w must be valid.
func (l *Limiter) Whole(w Whole) *Entry {
	if w == (Whole{}) {
		return nil
	}
	e := l.Entry(wholeName, Limits{IP: w.IP, Key: w.Key, Entry: w.All})
	e.all = ByGateway
	return e
}
