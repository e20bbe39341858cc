// Package logging makes the daemon's log: lines of text or JSON, a level that may
// change while it runs, and a bound on what repeats.
package logging

import (
	"context"
	"io"
	"log/slog"

	"proxyarpd/internal/printable"
)

// Formats of lines.
const (
	Text = "text"
	JSON = "json"
)

// New makes a log that writes lines of a format to w from a level on. w is for
// text that a terminal may get.
func New(w io.Writer, format string, level slog.Level) *slog.Logger {
	h := &handler{level: new(slog.LevelVar), limit: newLimiter()}
	h.level.Set(level)
	o := &slog.HandlerOptions{Level: h.level}
	if h.inner = slog.NewTextHandler(w, o); format == JSON {
		h.inner = slog.NewJSONHandler(printable.NewJSONWriter(w), o)
	}
	return slog.New(h)
}

// SetLevel has a log of New's, and all that are made of it, begin at another level
// from now on. For any goroutine. It is false if the log is another one's.
func SetLevel(l *slog.Logger, level slog.Level) bool {
	h, ok := l.Handler().(*handler)
	if ok {
		h.level.Set(level)
	}
	return ok
}

// Flush writes what has been counted, and not said yet: for the end of a program.
func Flush(l *slog.Logger) {
	if h, ok := l.Handler().(*handler); ok {
		h.limit.flush()
	}
}

// handler is a slog.Handler that bounds what repeats.
type handler struct {
	inner slog.Handler
	level *slog.LevelVar
	limit *limiter
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// Handle implements slog.Handler. Who asks for debugging gets all of it.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level > slog.LevelDebug && !h.limit.admits(h.inner, &r) {
		return nil
	}
	return h.inner.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.inner.WithAttrs(attrs), h.level, h.limit}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.inner.WithGroup(name), h.level, h.limit}
}
