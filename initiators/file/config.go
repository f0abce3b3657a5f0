package file

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/skybus-io/skybus/bus"
)

// Defaults and bounds of a [Config].
const (
	DefaultMaxRecord  = 1 << 20
	MostRecord        = 64 << 20
	MostParallel      = 1024
	DefaultWindow     = 1000
	MostWindow        = 100_000
	DefaultCheckpoint = 100 * time.Millisecond
	DefaultQuiet      = 2 * time.Second
	DefaultRescan     = 5 * time.Second
	DefaultPoll       = time.Second
	DefaultTimeout    = 30 * time.Second
	DefaultRetryFirst = 100 * time.Millisecond
	DefaultRetryLast  = 30 * time.Second
	DefaultLease      = 5 * time.Second
	DefaultDrain      = 10 * time.Second
	DefaultForget     = 24 * time.Hour
	DefaultDone       = "done"
	DefaultFailed     = "failed"
	MaxFiles          = 100_000
	maxColumns        = 4096
	maxPatterns       = 100
)

// Format says how a file is cut into records.
type Format string

// The formats.
const (
	Lines  Format = "lines"  // each line, as the JSON object {"line": "..."}; empty lines are left out
	CSV    Format = "csv"    // RFC 4180, with a header; a record is a JSON object of columns, all of them strings
	NDJSON Format = "ndjson" // a JSON value in each line
	Whole  Format = "whole"  // the file is the record
)

// After says what becomes of a file of a directory when all of it is done.
type After string

// What becomes of files.
const (
	Move   After = "move"   // it goes to Config.Done; the default
	Delete After = "delete" // it is removed
	Leave  After = "leave"  // it stays, and what is appended later is sent too
)

// Order says which of several files of a directory comes first.
type Order string

// Orders of files that are ready at the same time.
const (
	ByTime Order = "time" // the one changed last comes last; the default
	ByName Order = "name" // by path
)

// Config describes a source. Name, and one of Dir and Follow, are required.
type Config struct {
	// Name tells sources of a namespace apart: a token. Processes with a source of the same name share its work; so it has to be
	// another one for another directory, also on another machine.
	Name string

	// Dir is a directory whose files are sent, each once it is complete.
	Dir string
	// Follow is a file that is sent as it grows, through rotation by renaming or by copying and truncating. What was rotated while nobody
	// worked is found again beside it.
	Follow string
	// FromEnd makes a followed file that was never seen before begin at its present end.
	FromEnd bool
	// Rotated are patterns of the names under which what was followed is found later. Nil means NAME.*, NAME-*, and for a NAME
	// with an extension STEM-*.EXT and STEM.*.EXT, where what stands for * begins with a digit. Compressed files are left out always.
	Rotated []string

	// Include and Exclude are patterns of [path.Match] of the files of Dir. One with a slash is for the path below Dir, one without for the
	// name alone. Nil includes all, and excludes those that begin with a dot or end with ~, .tmp or .part.
	Include []string
	Exclude []string
	// Recursive also looks into the directories of Dir.
	Recursive bool
	// Order of files. Empty means ByTime.
	Order Order

	// Format of the files. Empty means Lines.
	Format Format
	// Comma separates the columns of CSV. 0 means a comma.
	Comma rune
	// Columns names those of CSV files that have no header. Nil: the first record is the header.
	Columns []string
	// ContentType of the bodies. With one, lines are sent as they stand in the file. Empty means JSON, but for whole files that do not end with
	// .json: those are application/octet-stream.
	ContentType string
	// MaxRecord is the largest record in bytes. A larger one is refused, the rest goes on. 0 means 1 MiB, 64 MiB is the most; what
	// the target takes may be less.
	MaxRecord int

	// Parallel is how many records are sent at once, in no order. 0 means 1: in order. At most 1,024.
	Parallel int
	// Window is how many records may have been sent that no checkpoint covers: what the next process repeats at most if this one
	// dies. 0 means 1,000, or four times Parallel where that is more; at most 100,000.
	Window int
	// Checkpoint is how often it is written down how far files are done, if nothing asks for it sooner: a quarter of the window does.
	// 0 means 100 ms.
	Checkpoint time.Duration

	// Quiet is how long size and time of a file must not have changed before it counts as complete; of a rotated file, before it
	// counts as ended. 0 means 2 s, negative not at all: for files that are moved into place.
	Quiet time.Duration
	// Rescan is how often the directory is looked at if the system tells of no change. 0 means 5 s, for a followed file 1 s.
	Rescan time.Duration
	// After says what becomes of finished files of Dir. Empty means Move.
	After After
	// Done and Failed are directories below Dir, or below that of a followed file. Empty means done and failed. They are made when needed.
	Done   string
	Failed string
	// Forget is when the checkpoint of a file that is gone is removed. 0 means after 24 h.
	Forget time.Duration

	// Timeout is how long one attempt at sending a record may take. 0 means 30 s.
	Timeout time.Duration
	// Tries is how often a record is sent before it is put aside like a refused one. 0 means for ever.
	Tries int
	// RetryFirst is the longest pause after the first attempt. It doubles with each further one, up to RetryLast. 0 means 100 ms and 30 s.
	RetryFirst time.Duration
	RetryLast  time.Duration
	// RetryCodes are those after which a record is sent again. Nil means unavailable, deadline_exceeded, resource_exhausted (but for
	// what is too large), aborted and canceled. With all others a record is refused.
	RetryCodes []bus.Code

	// Once ends Run when all there is was sent, instead of waiting for more.
	Once bool
	// Lease is how long others wait for a process that died. 0 means 5 s; 2 s to 1 h, the same for all.
	Lease time.Duration
	// Drain is how long what is being sent may take when Run is stopped. 0 means 10 s.
	Drain time.Duration
	// Owner is who works, for people to read. Empty means <host>-<pid>.
	Owner string
	// Logger hears of files and faults. Nil means discard.
	Logger *slog.Logger
}

// Validate tells what [New] would refuse: invalid_argument, with the field among its details.
func (c Config) Validate() error {
	_, err := c.withDefaults()
	return err
}

func invalid(field, format string, args ...any) error {
	return bus.Errorf(bus.InvalidArgument, "%s: %s", field, fmt.Sprintf(format, args...)).With("field", field)
}

func (c Config) withDefaults() (Config, error) {
	if err := bus.CheckToken("Name", c.Name); err != nil {
		return c, bus.AsError(err).With("field", "Name")
	}
	for _, check := range []func(*Config) error{checkPlace, checkFormat, checkNumbers, checkDirs} {
		if err := check(&c); err != nil {
			return c, err
		}
	}
	for i, code := range c.RetryCodes {
		if code == "" {
			return c, invalid("RetryCodes", "number %d is empty: want words such as %s", i+1, bus.Unavailable)
		}
	}
	if c.RetryCodes == nil {
		c.RetryCodes = []bus.Code{bus.Unavailable, bus.DeadlineExceeded, bus.ResourceExhausted, bus.Aborted, bus.Canceled}
	}
	if c.Owner == "" {
		host, _ := os.Hostname() // an owner without it is one too
		c.Owner = fmt.Sprintf("%s-%d", host, os.Getpid())
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func checkPlace(c *Config) error {
	switch {
	case (c.Dir == "") == (c.Follow == ""):
		return invalid("Dir", "want a directory, or a file to follow, and not both")
	case c.Follow != "" && (c.Include != nil || c.Exclude != nil || c.Recursive):
		return invalid("Follow", "include, exclude and recursive are for a directory")
	case c.Follow != "" && (c.After != "" || c.Done != ""):
		return invalid("After", "a followed file stays where it is")
	case c.Dir != "" && (c.FromEnd || c.Rotated != nil):
		return invalid("Dir", "from_end and rotated are for a file that is followed")
	case c.Order != "" && c.Order != ByTime && c.Order != ByName:
		return invalid("Order", "%.40q: want %s or %s", c.Order, ByTime, ByName)
	case c.After != "" && c.After != Move && c.After != Delete && c.After != Leave:
		return invalid("After", "%.40q: want %s, %s or %s", c.After, Move, Delete, Leave)
	}
	for field, patterns := range map[string][]string{"Include": c.Include, "Exclude": c.Exclude, "Rotated": c.Rotated} {
		if len(patterns) > maxPatterns {
			return invalid(field, "%d patterns: want at most %d", len(patterns), maxPatterns)
		}
		for _, p := range patterns {
			if _, err := path.Match(p, ""); err != nil || p == "" {
				return invalid(field, "%.80q is no pattern such as *.csv", p)
			}
		}
	}
	if c.Exclude == nil {
		c.Exclude = []string{".*", "*~", "*.tmp", "*.part"}
	}
	c.Order, c.After = cmp.Or(c.Order, ByTime), cmp.Or(c.After, Move)
	if c.Follow != "" {
		c.After = Leave
		c.Follow = filepath.Clean(c.Follow)
		if c.Rotated == nil {
			c.Rotated = rotatedNames(filepath.Base(c.Follow))
		}
	}
	return nil
}

// rotatedNames are the patterns of what becomes of a log by that name.
func rotatedNames(name string) []string {
	name = escapePattern(name)
	names := []string{name + ".*", name + "-*"}
	if ext := path.Ext(name); ext != "" && ext != name {
		stem := strings.TrimSuffix(name, ext)
		names = append(names, stem+"-[0-9]*"+ext, stem+".[0-9]*"+ext)
	}
	return names
}

func escapePattern(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}

func checkFormat(c *Config) error {
	c.Format = cmp.Or(c.Format, Lines)
	switch {
	case !slices.Contains([]Format{Lines, CSV, NDJSON, Whole}, c.Format):
		return invalid("Format", "%.40q: want %s, %s, %s or %s", c.Format, Lines, CSV, NDJSON, Whole)
	case c.Format == Whole && c.Follow != "":
		return invalid("Format", "%s: a followed file has no end", Whole)
	case c.Format != CSV && (c.Comma != 0 || c.Columns != nil):
		return invalid("Format", "comma and columns are for %s", CSV)
	case c.Comma != 0 && (c.Comma >= utf8.RuneSelf || c.Comma < ' ' && c.Comma != '\t' || c.Comma == '"'):
		return invalid("Comma", "%q: want an ASCII character, such as ; or a tab", c.Comma)
	}
	if c.Columns != nil {
		if err := checkColumns(c.Columns); err != nil {
			return invalid("Columns", "%s", bus.AsError(err).Message)
		}
	}
	if c.Comma == 0 {
		c.Comma = ','
	}
	return nil
}

// checkColumns tells whether these can be the members of an object.
func checkColumns(columns []string) error {
	if len(columns) == 0 || len(columns) > maxColumns {
		return bus.Errorf(bus.InvalidArgument, "%d columns: want 1 to %d", len(columns), maxColumns)
	}
	seen := make(map[string]bool, len(columns))
	for i, name := range columns {
		switch {
		case name == "":
			return bus.Errorf(bus.InvalidArgument, "column %d of %d has no name", i+1, len(columns))
		case !utf8.ValidString(name):
			return bus.Errorf(bus.InvalidArgument, "the name of column %d is not UTF-8", i+1)
		case seen[name]:
			return bus.Errorf(bus.InvalidArgument, "there are two columns %.80q", name)
		}
		seen[name] = true
	}
	return nil
}

// bounded sets *v to def where it is 0, and tells whether it is within least and most.
func bounded[T int | time.Duration](field string, v *T, def, least, most T) error {
	if *v == 0 {
		*v = def
	}
	if *v < least || *v > most {
		return invalid(field, "%v: want %v to %v", *v, least, most)
	}
	return nil
}

func checkNumbers(c *Config) error {
	const day = 24 * time.Hour
	if c.Parallel == 0 {
		c.Parallel = 1
	}
	rescan := DefaultRescan
	if c.Follow != "" {
		rescan = DefaultPoll
	}
	if c.Quiet == 0 {
		c.Quiet = DefaultQuiet
	}
	if c.Tries < 0 {
		return invalid("Tries", "%d: want 1 or more, or 0 for no end", c.Tries)
	}
	for _, err := range []error{
		bounded("Parallel", &c.Parallel, 1, 1, MostParallel),
		bounded("MaxRecord", &c.MaxRecord, DefaultMaxRecord, 1, MostRecord),
		bounded("Window", &c.Window, max(DefaultWindow, 4*min(c.Parallel, MostParallel)), c.Parallel, MostWindow),
		bounded("Checkpoint", &c.Checkpoint, DefaultCheckpoint, time.Millisecond, time.Minute),
		bounded("Quiet", &c.Quiet, DefaultQuiet, -day, day),
		bounded("Rescan", &c.Rescan, rescan, 10*time.Millisecond, day),
		bounded("Forget", &c.Forget, DefaultForget, time.Second, 3650*day),
		bounded("Timeout", &c.Timeout, DefaultTimeout, time.Millisecond, day),
		bounded("RetryFirst", &c.RetryFirst, DefaultRetryFirst, time.Millisecond, day),
		bounded("RetryLast", &c.RetryLast, max(DefaultRetryLast, c.RetryFirst), c.RetryFirst, day),
		bounded("Lease", &c.Lease, DefaultLease, 2*time.Second, time.Hour),
		bounded("Drain", &c.Drain, DefaultDrain, time.Millisecond, time.Hour),
	} {
		if err != nil {
			return err
		}
	}
	c.Quiet = max(c.Quiet, 0)
	return nil
}

func checkDirs(c *Config) error {
	c.Done, c.Failed = path.Clean(cmp.Or(c.Done, DefaultDone)), path.Clean(cmp.Or(c.Failed, DefaultFailed))
	for field, dir := range map[string]string{"Done": c.Done, "Failed": c.Failed} {
		if !filepath.IsLocal(dir) || dir == "." {
			return invalid(field, "%.80q: want a directory below the one that is watched, such as %s", dir, DefaultDone)
		}
	}
	if c.Done == c.Failed && c.Follow == "" {
		return invalid("Failed", "%.80q is where finished files go (done): want another directory", c.Failed)
	}
	return nil
}

// dir is the directory that is worked in.
func (c Config) dir() string {
	if c.Follow != "" {
		return filepath.Dir(c.Follow)
	}
	return c.Dir
}

// contentType is that of the bodies made of a file.
func (c Config) contentType(name string) string {
	switch {
	case c.ContentType != "":
		return c.ContentType
	case c.Format != Whole, strings.EqualFold(path.Ext(name), ".json"):
		return bus.JSON{}.ContentType()
	}
	return bus.Raw{}.ContentType()
}
