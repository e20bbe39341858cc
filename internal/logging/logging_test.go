package logging

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock is a limiter's time.
type clock struct {
	at  time.Time
	due []func()
}

func (c *clock) pass(d time.Duration) {
	c.at = c.at.Add(d)
	due := c.due
	c.due = nil
	for _, f := range due {
		f()
	}
}

func logTo(w *bytes.Buffer, format string) (*slog.Logger, *clock) {
	log := New(w, format, slog.LevelInfo)
	c := &clock{at: time.Unix(1, 0)}
	limit := log.Handler().(*handler).limit
	limit.now = func() time.Time { return c.at }
	limit.after = func(_ time.Duration, f func()) { c.due = append(c.due, f) }
	return log, c
}

// TestLimit: what repeats is said some times, and then counted, by interface and
// for all; what is about something else is said.
func TestLimit(t *testing.T) {
	var out bytes.Buffer
	log, c := logTo(&out, Text)
	for n := range 50 {
		log.Warn("not served", "interface", "cali1", "n", n)
	}
	log.Warn("not served", "interface", "cali2")
	log.Warn("another", "interface", "cali1")
	if n := strings.Count(out.String(), "cali1"); n != mostOfOne+1 {
		t.Errorf("%d lines of cali1", n)
	}
	if !strings.Contains(out.String(), "cali2") || strings.Contains(out.String(), "more=") {
		t.Errorf("%s", &out)
	}
	out.Reset()
	c.pass(window)
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `msg="not served" interface=cali1 n=49 more=39`) {
		t.Errorf("at the window's end: %s", got)
	}
	out.Reset()
	log.Warn("not served", "interface", "cali1", "n", 50)
	if !strings.Contains(out.String(), "n=50\n") {
		t.Errorf("in the next window: %s", &out)
	}
	out.Reset()
	c.pass(window)
	for n := range 1000 { // one of each interface
		log.Warn("not served", "interface", fmt.Sprint("cali", n))
	}
	if n := strings.Count(out.String(), "\n"); n != mostOfAll {
		t.Errorf("%d lines of a thousand interfaces", n)
	}
	out.Reset()
	Flush(log)
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "interface=cali999 more=899") {
		t.Errorf("flushed: %s", got)
	}
	// Nobody who debugs is to miss something.
	SetLevel(log, slog.LevelDebug)
	out.Reset()
	for range 500 {
		log.Debug("neighbour learnt")
	}
	if n := strings.Count(out.String(), "\n"); n != 500 {
		t.Errorf("%d lines of debugging", n)
	}
}

// TestLimitBounded: however many subjects there are, memory is bounded.
func TestLimitBounded(t *testing.T) {
	var out bytes.Buffer
	log, c := logTo(&out, Text)
	for n := range 3 * mostKeys {
		log.Warn(fmt.Sprint("subject ", n))
		if n == 2*mostKeys {
			c.pass(window)
		}
	}
	if n := len(log.Handler().(*handler).limit.subjects); n > mostKeys {
		t.Errorf("%d subjects", n)
	}
	if n := strings.Count(out.String(), "\n"); n != 3*mostKeys {
		t.Errorf("%d lines", n)
	}
}

// TestLevel: the level changes while it runs, for all that a log was given to.
func TestLevel(t *testing.T) {
	var out bytes.Buffer
	log := New(&out, Text, slog.LevelWarn)
	child := log.With("part", "x").WithGroup("g")
	child.Info("no")
	if !SetLevel(log, slog.LevelInfo) {
		t.Error("not set")
	}
	child.Info("yes", "a", 1)
	if got := out.String(); strings.Contains(got, "no") || !strings.Contains(got, "msg=yes part=x g.a=1") {
		t.Errorf("%s", got)
	}
	if SetLevel(slog.New(slog.DiscardHandler), slog.LevelInfo) {
		t.Error("another log's level was set")
	}
}

// TestJSON: a line is an object, and nothing of a name acts on a terminal.
func TestJSON(t *testing.T) {
	var out bytes.Buffer
	log, c := logTo(&out, JSON)
	name := "a\x1b[2J\u202e\U000e0001\"b"
	for range mostOfOne + 5 {
		log.Error("interface", "interface", name, "err", fmt.Errorf("x\ny"))
	}
	c.pass(window)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != mostOfOne+1 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, l := range lines {
		var v struct {
			Level, Msg, Interface, Err string
			More                       int
		}
		if err := json.Unmarshal([]byte(l), &v); err != nil || v.Interface != name || v.Level != "ERROR" || v.Err != "x\ny" || (v.More == 4) != (i == mostOfOne) {
			t.Errorf("%s: %v, %+v", l, err, v)
		}
		if strings.ContainsAny(l, "\x1b\u202e") {
			t.Errorf("%q", l)
		}
	}
}

func TestConcurrent(t *testing.T) {
	var out bytes.Buffer
	log := New(&out, Text, slog.LevelInfo)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				log.Warn("x", "interface", "y")
			}
		})
	}
	all.Wait()
	Flush(log)
	said := strings.Count(out.String(), "\n")
	if said != mostOfOne+2 { // the first, the rest of the interface's, the rest of all
		t.Errorf("%d lines\n%s", said, &out)
	}
}
