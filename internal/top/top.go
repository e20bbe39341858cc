package top

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"proxyarpd/internal/printable"
	"proxyarpd/internal/status"
)

// Options of a run.
type Options struct {
	// Query asks for a status. It is called by one goroutine.
	Query func(context.Context) (*status.Status, error)
	Every time.Duration // between two looks
	Drops bool          // sort by drops
	Batch bool          // plain text, one look behind the other
	Looks int           // how many; 0: no end
}

// Bounds of what keys set.
const (
	leastEvery = 250 * time.Millisecond
	mostEvery  = time.Minute
)

// Run looks until ctx ends or q is typed. Batch writes to out; else in and out are
// a terminal. Where no daemon answers the first time, that is an error; later it is
// waited for.
func Run(ctx context.Context, in, out *os.File, o Options) error {
	first, err := o.look(ctx)
	if err != nil {
		return err
	}
	if o.Batch {
		return o.batch(ctx, out, first)
	}
	if !term.IsTerminal(int(out.Fd())) || !term.IsTerminal(int(in.Fd())) || os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "" {
		return ErrNoTerminal
	}
	t := &terminal{in: in, out: out, o: o, s: screen{every: o.Every, selected: -1}}
	if o.Drops {
		t.s.by = byDrops
	}
	t.take(look{sample: first})
	return t.run(ctx)
}

// ErrNoTerminal says that there is nothing to draw on.
var ErrNoTerminal = errors.New("standard input and output are no terminal that can be drawn on: use --batch")

func (o *Options) look(ctx context.Context) (sample, error) {
	s, err := o.Query(ctx)
	return sample{s, time.Now()}, err
}

// batch writes looks as text, all interfaces of each.
func (o *Options) batch(ctx context.Context, out io.Writer, first sample) error {
	before := sample{}
	now := first
	for n := 1; ; n++ {
		v := since(before, now)
		s := screen{view: v, width: 1 << 10, height: len(v.rows) + 10, selected: -1, every: o.Every}
		if o.Drops {
			s.by = byDrops
		}
		v.sort(s.by)
		all := s.head()
		all = append(all, s.table(s.height)...)
		text := &bytes.Buffer{}
		for _, l := range all {
			fmt.Fprintln(text, printable.String(l.text))
		}
		if o.Looks == 0 || n < o.Looks {
			fmt.Fprintln(text)
		}
		if _, err := out.Write(text.Bytes()); err != nil {
			return err
		}
		if n == o.Looks {
			return nil
		}
		before = now
		for {
			if !pause(ctx, o.Every) {
				return nil
			}
			next, err := o.look(ctx)
			if err == nil {
				now = next
				break
			}
			if ctx.Err() != nil {
				return nil
			}
			if _, err := fmt.Fprintf(out, "waiting for the daemon: %s\n\n", printable.String(err.Error())); err != nil {
				return err
			}
		}
	}
}

// pause waits, false if ctx ends meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// look is an answer of the daemon, or why there is none.
type look struct {
	sample
	err error
}

// terminal draws, and takes keys.
type terminal struct {
	in, out *os.File
	o       Options
	s       screen
	last    sample
	frame   bytes.Buffer
}

// run draws until ctx ends or q is typed.
func (t *terminal) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	restore, err := t.enter()
	if err != nil {
		return err
	}
	defer func() { restore() }()
	resized, resumed := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	signal.Notify(resumed, syscall.SIGCONT)
	defer signal.Stop(resized)
	defer signal.Stop(resumed)
	keys := make(chan []byte)
	go t.read(ctx, keys)
	answers := make(chan look, 1)
	ask := func() { go func() { s, err := t.o.look(ctx); answers <- look{s, err} }() }
	due := time.NewTimer(t.s.every)
	defer due.Stop()
	for {
		if err := t.draw(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-resized:
		case <-resumed: // who stopped us from without may have changed the terminal
			restore()
			if restore, err = t.enter(); err != nil {
				return err
			}
		case <-due.C:
			ask()
		case a := <-answers:
			t.take(a)
			due.Reset(t.s.every)
		case b, more := <-keys:
			if !more {
				return nil // the terminal has gone
			}
			for len(b) > 0 {
				var k key
				var letter byte
				k, letter, b = nextKey(b)
				switch {
				case k == keyQuit:
					return nil
				case k == keyStop:
					restore()
					_ = syscall.Kill(0, syscall.SIGTSTP)
					<-resumed
					if restore, err = t.enter(); err != nil {
						return err
					}
				default:
					t.press(k, letter)
				}
			}
		}
	}
}

// Sequences of ECMA-48 and of xterm: another screen, no cursor; and back.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[2J"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
)

// enter takes the terminal, and gives what gives it back.
func (t *terminal) enter() (restore func(), err error) {
	state, err := term.MakeRaw(int(t.in.Fd()))
	if err != nil {
		return func() {}, fmt.Errorf("terminal: %w", err)
	}
	_, err = t.out.WriteString(enterScreen)
	return func() {
		_, _ = t.out.WriteString(leaveScreen)
		_ = term.Restore(int(t.in.Fd()), state)
	}, err
}

// read gives what is typed, until the terminal ends.
func (t *terminal) read(ctx context.Context, keys chan<- []byte) {
	defer close(keys)
	for {
		b := make([]byte, 64)
		n, err := t.in.Read(b)
		if err != nil {
			return
		}
		select {
		case keys <- b[:n]:
		case <-ctx.Done():
			return
		}
	}
}

// take takes an answer.
func (t *terminal) take(a look) {
	s := &t.s
	if a.err != nil {
		s.trouble = "waiting for the daemon: " + a.err.Error()
		return
	}
	s.trouble = ""
	before := t.last
	t.last = a.sample
	if s.paused {
		return
	}
	name := ""
	if s.view != nil && s.selected >= 0 && s.selected < len(s.rows) {
		name = s.rows[s.selected].Name
	}
	s.view = since(before, a.sample)
	s.sortBy(s.by, name)
}

// sortBy sorts, and keeps the interface of that name the selected one.
func (s *screen) sortBy(by order, name string) {
	s.by = by
	s.sort(by)
	if s.selected < 0 {
		return
	}
	s.selected = min(s.selected, len(s.rows)-1)
	for i := range s.rows {
		if s.rows[i].Name == name {
			s.selected = i
		}
	}
}

// press does what a key says.
func (t *terminal) press(k key, letter byte) {
	s := &t.s
	if s.help {
		s.help = false
		return
	}
	page := max(s.height-8, 1)
	switch k {
	case keyUp:
		s.move(-1)
	case keyDown:
		s.move(1)
	case keyPageUp:
		s.move(-page)
	case keyPageDown:
		s.move(page)
	case keyEnter:
		if s.view != nil && s.selected >= 0 && s.selected < len(s.rows) {
			s.detail, s.offset = s.rows[s.selected].Index, 0
		}
	case keyBack:
		s.detail = 0
	case keyRedraw:
		_, _ = t.out.WriteString("\x1b[2J")
	case keyOther:
		s.letter(letter)
	}
}

func (s *screen) letter(c byte) {
	name := ""
	if s.view != nil && s.selected >= 0 && s.selected < len(s.rows) {
		name = s.rows[s.selected].Name
	}
	sorts := map[byte]order{'r': byRate, 'd': byDrops, 'n': byName, 's': (s.by + 1) % orders}
	if by, ok := sorts[c]; ok && s.view != nil {
		s.sortBy(by, name)
		return
	}
	switch c {
	case 'h', '?':
		s.help = true
	case ' ', 'p':
		s.paused = !s.paused
	case '+':
		s.every = min(2*s.every, mostEvery)
	case '-':
		s.every = max(s.every/2, leastEvery)
	}
}

// move moves the selection.
func (s *screen) move(by int) {
	if s.detail != 0 {
		s.offset = max(s.offset+by, 0)
		return
	}
	if s.view == nil || len(s.rows) == 0 {
		return
	}
	if s.selected < 0 {
		s.selected = 0
		return
	}
	s.selected = min(max(s.selected+by, 0), len(s.rows)-1)
}

// draw writes a frame at once.
func (t *terminal) draw() error {
	s := &t.s
	var err error
	if s.width, s.height, err = term.GetSize(int(t.out.Fd())); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	s.scroll()
	b := &t.frame
	b.Reset()
	b.WriteString("\x1b[H")
	all := s.lines()
	for i, l := range all {
		switch l.style {
		case bold:
			b.WriteString("\x1b[1m")
		case reverse:
			b.WriteString("\x1b[7m")
		}
		b.WriteString(l.text)
		b.WriteString("\x1b[m\x1b[K")
		if i < len(all)-1 {
			b.WriteString("\r\n")
		}
	}
	b.WriteString("\x1b[J")
	_, err = t.out.Write(b.Bytes())
	return err
}

// scroll has the selected row be seen.
func (s *screen) scroll() {
	room := max(s.height-len(s.head())-2, 1)
	s.first = min(s.first, max(s.selected, 0))
	if s.selected >= s.first+room {
		s.first = s.selected - room + 1
	}
}
