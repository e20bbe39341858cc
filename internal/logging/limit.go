package logging

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// What may be said of the same: so many lines within a window, of one interface and
// of all. What is beyond is counted, and its last line said when the window ends,
// with the attribute more: so many more there were.
const (
	window     = 10 * time.Second
	mostOfOne  = 10
	mostOfAll  = 100
	mostKeys   = 1024
	moreKey    = "more"
	byAttr     = "interface"
	everything = "" // the interface of a subject of all
)

// subject is what lines are about.
type subject struct{ message, iface string }

// limiter counts lines by subject.
type limiter struct {
	mu       sync.Mutex
	subjects map[subject]*tally
	now      func() time.Time
	after    func(time.Duration, func())
}

// tally counts the lines of a subject in a window.
type tally struct {
	began time.Time
	said  int
	more  int          // not said
	last  slog.Record  // of those
	to    slog.Handler // of last
}

func newLimiter() *limiter {
	return &limiter{subjects: map[subject]*tally{}, now: time.Now, after: func(d time.Duration, f func()) { time.AfterFunc(d, f) }}
}

// admits reports whether a line is to be written; else it is counted.
func (l *limiter) admits(to slog.Handler, r *slog.Record) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := subject{message: r.Message}
	if !l.tally(of, mostOfAll, to, r) {
		return false
	}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == byAttr {
			of.iface = a.Value.String()
		}
		return of.iface == everything
	})
	return of.iface == everything || l.tally(of, mostOfOne, to, r)
}

// tally counts a line of a subject, and reports whether it is among the first.
func (l *limiter) tally(of subject, most int, to slog.Handler, r *slog.Record) bool {
	t := l.subjects[of]
	switch {
	case t == nil && len(l.subjects) >= mostKeys:
		l.forget()
		if len(l.subjects) >= mostKeys {
			return true // so many subjects at a time repeat nothing
		}
		fallthrough
	case t == nil:
		t = &tally{began: l.now()}
		l.subjects[of] = t
	case t.more == 0 && l.now().Sub(t.began) >= window:
		*t = tally{began: l.now()}
	}
	if t.said < most {
		t.said++
		return true
	}
	if t.more == 0 {
		l.after(t.began.Add(window).Sub(l.now()), func() { l.end(of) })
	}
	t.more++
	t.last, t.to = r.Clone(), to
	return false
}

// forget drops the subjects of windows that are over.
func (l *limiter) forget() {
	for of, t := range l.subjects {
		if t.more == 0 && l.now().Sub(t.began) >= window {
			delete(l.subjects, of)
		}
	}
}

// end says of a subject what was not said.
func (l *limiter) end(of subject) {
	l.mu.Lock()
	t := l.subjects[of]
	delete(l.subjects, of)
	l.mu.Unlock()
	if t != nil {
		t.say()
	}
}

// flush ends all windows.
func (l *limiter) flush() {
	l.mu.Lock()
	all := l.subjects
	l.subjects = map[subject]*tally{}
	l.mu.Unlock()
	for _, t := range all {
		t.say()
	}
}

func (t *tally) say() {
	if t.more == 0 {
		return
	}
	t.last.AddAttrs(slog.Int(moreKey, t.more-1))
	_ = t.to.Handle(context.Background(), t.last)
}
