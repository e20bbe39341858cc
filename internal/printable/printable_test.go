package printable

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

var names = []struct{ raw, shown string }{
	{"", ""},
	{"cali1", "cali1"},
	{"cali\x1b[31m\aX", `cali\x1b[31m\aX`},
	{"cali\xffX", `cali\xffX`},
	{"\xc3", `\xc3`},
	{"a\x9bb", `a\x9bb`},     // CSI of terminals of eight bits
	{"a\u009bb", `a\u009bb`}, // the same in UTF-8
	{"a\u202eb", `a\u202eb`}, // right to left
	{"a\u200bb", `a\u200bb`}, // no width
	{"\ufffd", "\ufffd"},     // a character like others
	{"käse-日本", "käse-日本"},
	{"a\nb\tc\rd\x00e\x7f", `a\nb\tc\rd\x00e\x7f`},
	{`a\x1b`, `a\x1b`},
	{"\U000e0041", `\U000e0041`},
}

func TestString(t *testing.T) {
	for _, n := range names {
		if got := String(n.raw); got != n.shown {
			t.Errorf("%q: %s, want %s", n.raw, got, n.shown)
		}
	}
}

func TestUTF8(t *testing.T) {
	for in, want := range map[string]string{"cali1": "cali1", "a\x1bb": "a\x1bb", "a\xff\xc3b": `a\xff\xc3b`, "ä\xe4": `ä\xe4`} {
		if got := UTF8(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestWriter(t *testing.T) {
	for _, c := range []struct {
		writes []string
		want   string
	}{
		{[]string{"a\tb\n", "c\n"}, "a\tb\nc\n"},
		{[]string{"x\x1b]0;title\a\n"}, "x\\x1b]0;title\\a\n"},
		{[]string{"\rGot 5", "Got 6\r"}, "\rGot 5Got 6\r"},
		{[]string{"over\rwrite\n"}, "over\\rwrite\n"},
		{[]string{"\r"}, "\r"},
		{[]string{"\xc3", "\xa4\xe2", "\x82", "\xac\n"}, "ä€\n"},
		{[]string{"\xe2\x82", "x\n"}, "\\xe2\\x82x\n"},
		{[]string{""}, ""},
	} {
		var b bytes.Buffer
		w := NewWriter(&b)
		for _, s := range c.writes {
			if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
				t.Errorf("%q: %d, %v", s, n, err)
			}
		}
		if b.String() != c.want {
			t.Errorf("%q: %q, want %q", c.writes, b.String(), c.want)
		}
	}
}

// JSON means what it meant, and holds nothing that acts on a terminal.
func TestJSONWriter(t *testing.T) {
	for _, n := range names {
		var b bytes.Buffer
		e := json.NewEncoder(NewJSONWriter(&b))
		e.SetIndent("", "  ")
		if err := e.Encode(map[string]string{"name": UTF8(n.raw)}); err != nil {
			t.Fatal(err)
		}
		quiet(t, b.String())
		var back map[string]string
		if err := json.Unmarshal(b.Bytes(), &back); err != nil || back["name"] != UTF8(n.raw) {
			t.Errorf("%q came back as %q, %v, from %s", n.raw, back["name"], err, b.String())
		}
	}
}

func quiet(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }) {
		t.Errorf("not printable: %q", s)
	}
}

func FuzzWriter(f *testing.F) {
	for _, n := range names {
		f.Add(n.raw, 2)
	}
	f.Fuzz(func(t *testing.T, s string, at int) {
		var b bytes.Buffer
		w := NewWriter(&b)
		at = min(max(at, 0), len(s))
		fmt.Fprintf(w, "<%s", s[:at])
		fmt.Fprintf(w, "%s>", s[at:])
		quiet(t, strings.ReplaceAll(b.String(), "\r", "")) // at the seam
		quiet(t, String(s))
	})
}

// TestLonelyDelete: DEL is the one character of ASCII at its end that acts.
func TestLonelyDelete(t *testing.T) {
	for s, want := range map[string]string{"a\x7fb": `a\x7fb`, "\x7f": `\x7f`, "a~b": "a~b", "\x1f": `\x1f`, " ": " "} {
		if got := String(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}
