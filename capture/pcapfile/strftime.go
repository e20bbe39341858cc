package pcapfile

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// strftime formats t as strftime(3) does in the C locale, with the conversions
// that file names have. It refuses the others.
func strftime(format string, t time.Time) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(format, "%")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		if rest == "" {
			return "", fmt.Errorf("the file name %q ends in a single %%", format)
		}
		s, ok := conversion(rest[0], t)
		if !ok {
			return "", fmt.Errorf("the conversion %%%c in a file name is not supported", rest[0])
		}
		b.WriteString(s)
		format = rest[1:]
	}
}

// layouts are conversions that package time knows.
var layouts = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'e': "_2", 'H': "15", 'M': "04", 'S': "05",
	'F': "2006-01-02", 'T': "15:04:05", 'j': "002", 'b': "Jan", 'a': "Mon", 'Z': "MST", 'z': "-0700",
}

func conversion(c byte, t time.Time) (string, bool) {
	switch c {
	case '%':
		return "%", true
	case 's':
		return strconv.FormatInt(t.Unix(), 10), true
	}
	layout, ok := layouts[c]
	return t.Format(layout), ok
}
