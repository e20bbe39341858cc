package control

import (
	"log/slog"
	"sync"
	"time"
)

// A burst counts what others can make happen as often as they like, and logs it
// in one line when it has not happened for a while, or has gone on for long.
type burst struct {
	log  *slog.Logger
	what string

	mu    sync.Mutex
	total uint64
	said  uint64 // of total
	last  string // why
	began time.Time
	timer *time.Timer
}

const (
	burstQuiet = time.Second      // without another one ends a burst
	burstLong  = 10 * time.Second // is the most that a line waits
)

func newBurst(log *slog.Logger, what string) *burst { return &burst{log: log, what: what} }

// add counts one. For any goroutine.
func (b *burst) add(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total++
	b.last = why
	switch {
	case b.timer == nil:
		b.began = time.Now()
		b.timer = time.AfterFunc(burstQuiet, b.end)
	case time.Since(b.began) < burstLong:
		b.timer.Reset(burstQuiet)
	}
}

// end logs what has not been.
func (b *burst) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	if n := b.total - b.said; n > 0 {
		args := []any{"count", n}
		if b.last != "" {
			args = append(args, "last", b.last)
		}
		b.log.Warn(b.what, args...)
		b.said = b.total
	}
}

// count is how many there have been.
func (b *burst) count() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}
