package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"proxyarpd/internal/daemon"
)

// maxValues bounds a repeatable flag: each glob is compared with each interface's name.
const maxValues = 4096

// list is a repeatable flag. The first use replaces the default.
type list[T any] struct {
	values *[]T
	parse  func(string) (T, error)
	name   string // of an argument, for the help
	set    bool
}

// String implements pflag.Value.
func (l *list[T]) String() string {
	return strings.Trim(fmt.Sprint(*l.values), "[]")
}

// Set implements pflag.Value.
func (l *list[T]) Set(s string) error {
	v, err := l.parse(s)
	if err != nil {
		return err
	}
	if !l.set {
		*l.values, l.set = nil, true
	}
	if len(*l.values) == maxValues {
		return fmt.Errorf("more than %d values", maxValues)
	}
	*l.values = append(*l.values, v)
	return nil
}

// Type implements pflag.Value.
func (l *list[T]) Type() string { return l.name }

// GetSlice implements cobra.SliceValue: the flag may be given again.
func (l *list[T]) GetSlice() []string {
	all := make([]string, len(*l.values))
	for i, v := range *l.values {
		all[i] = fmt.Sprint(v)
	}
	return all
}

// choice is a flag that takes one of few words.
type choice struct {
	at *string
	of []string
}

func (c *choice) String() string { return *c.at }
func (c *choice) Type() string   { return strings.Join(c.of, "|") }

// Set implements pflag.Value.
func (c *choice) Set(s string) error {
	if !slices.Contains(c.of, s) {
		return errors.New("want " + oneOf(c.of))
	}
	*c.at = s
	return nil
}

// level is a flag that takes a log level.
type level struct{ at *slog.Level }

// levels are those of slog.
var levels = []string{"debug", "info", "warn", "error"}

func (l *level) String() string { return strings.ToLower(l.at.String()) }
func (l *level) Type() string   { return strings.Join(levels, "|") }

// Set implements pflag.Value.
func (l *level) Set(s string) error {
	if !slices.Contains(levels, s) {
		return errors.New("want " + oneOf(levels))
	}
	return l.at.UnmarshalText([]byte(s))
}

// oneOf is "a", "a or b", "a, b or c".
func oneOf(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// scalar is a flag of one value.
type scalar[T any] struct {
	at    *T
	parse func(string) (T, error)
	name  string // of its argument, for the help
}

func (v *scalar[T]) String() string { return fmt.Sprint(*v.at) }
func (v *scalar[T]) Type() string   { return v.name }

// Set implements pflag.Value.
func (v *scalar[T]) Set(s string) error {
	parsed, err := v.parse(s)
	if err == nil {
		*v.at = parsed
	}
	return err
}

// workersFlag is a number of threads, or auto, which is 0.
type workersFlag struct{ at *int }

const workersAuto = "auto"

func (v *workersFlag) Type() string { return "N|" + workersAuto }

func (v *workersFlag) String() string {
	if *v.at == 0 {
		return workersAuto
	}
	return strconv.Itoa(*v.at)
}

// Set implements pflag.Value.
func (v *workersFlag) Set(s string) error {
	n, err := strconv.Atoi(s)
	switch {
	case s == workersAuto:
		n = 0
	case err != nil, n < 1, n > daemon.MaxWorkers:
		return fmt.Errorf("want a number from 1 to %d, or %s", daemon.MaxWorkers, workersAuto)
	}
	*v.at = n
	return nil
}

func text(s string) (string, error) { return s, nil }

func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, errors.New("want a prefix such as 10.96.0.0/12")
	}
	return p, nil
}

func parseAddress(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, errors.New("want an address such as 169.254.1.1")
	}
	return a, nil
}

func parseNumber(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, errors.New("want a number")
	}
	return n, nil
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return 0, errors.New("want a duration such as 10s")
	case d < 0:
		return 0, errors.New("want a duration from 0 up")
	}
	return d, nil
}

// outputFlag is -o of the commands that have it.
func outputFlag(fs *pflag.FlagSet, at *string, formats ...string) {
	*at = formats[0]
	fs.VarP(&choice{at, formats}, "output", "o", "output `format`: "+oneOf(formats))
}

// flagError makes one line of an error of pflag's that says what to do. args is the whole command line.
func flagError(cmd *cobra.Command, args []string, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return pflag.ErrHelp
	}
	if rest := cmd.Flags().Args(); !cmd.HasParent() && len(rest) > 0 {
		return unknownCommand(cmd, rest[0]) // the flags were those of a command that is none
	}
	text := prefixed(cmd, sayFlagError(cmd, args, err))
	if strings.HasSuffix(text, "?") { // did you mean
		return usagef("%s", text)
	}
	return usagef("%s; see %s --help", text, cmd.CommandPath())
}

func sayFlagError(cmd *cobra.Command, args []string, err error) string {
	var (
		unknown *pflag.NotExistError
		missing *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
	)
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return unknownLetter(cmd, args, unknown)
	case errors.As(err, &unknown):
		text := "unknown flag --" + unknown.GetSpecifiedName()
		if near := nearest(unknown.GetSpecifiedName(), flagNames(cmd)); near != "" {
			text += ": did you mean --" + near + "?"
		}
		return text
	case errors.As(err, &missing):
		return fmt.Sprintf("%s needs a value: %s", typed(missing.GetFlag()), document(missing.GetFlag()).arg)
	case errors.As(err, &invalid):
		why := invalid.Unwrap().Error()
		if invalid.GetFlag().Value.Type() == "bool" {
			why = "want true or false"
		}
		return fmt.Sprintf("%s %q: %s", typed(invalid.GetFlag()), invalid.GetValue(), why)
	}
	return err.Error()
}

// unknownLetter is the error of a one-letter flag that there is not. Who has typed -flag for --flag is told.
func unknownLetter(cmd *cobra.Command, args []string, unknown *pflag.NotExistError) string {
	cluster := unknown.GetSpecifiedShortnames() // or what of it is left
	for _, arg := range args {
		word, single := strings.CutPrefix(arg, "-")
		name, _, _ := strings.Cut(word, "=")
		if single && strings.HasSuffix(word, cluster) && cmd.Flags().Lookup(name) != nil {
			return fmt.Sprintf("unknown flag -%s: did you mean --%s?", word, word)
		}
	}
	if unknown.GetSpecifiedName() == cluster {
		return "unknown flag -" + cluster
	}
	return fmt.Sprintf("unknown flag -%s in -%s", unknown.GetSpecifiedName(), cluster)
}

// typed is a flag as it is typed: by its letter if it has one.
func typed(f *pflag.Flag) string {
	if f.Shorthand != "" {
		return "-" + f.Shorthand
	}
	return "--" + f.Name
}

func flagNames(cmd *cobra.Command) (names []string) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}

// nearest is the name that was meant, "" if none is near.
func nearest(name string, names []string) string {
	best, at := "", min(3, len(name)/2+1) // beyond is another word
	for _, n := range names {
		if d := distance(name, n); d < at {
			best, at = n, d
		}
	}
	return best
}

// distance is Levenshtein's: how many bytes to insert, remove or change.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
