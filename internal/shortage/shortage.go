// Package shortage tells what passes from what stays. Descriptors, memory or a
// buffer may be used up, and something busy, for a moment: who is told so tries
// again. It never means that the kernel can't do what was asked for.
package shortage

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

// passing are the errors of system calls that speak of the moment. ENOSPC and
// EDQUOT are a file system's, and of inotify's watches.
var passing = []error{
	syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.EAGAIN, syscall.EINTR, syscall.EBUSY,
	syscall.ENOSPC, syscall.EDQUOT, syscall.ETIMEDOUT, os.ErrDeadlineExceeded, context.DeadlineExceeded,
}

// Passing reports whether an error, or one of those that it joins, passes.
func Passing(err error) bool {
	for _, p := range passing {
		if errors.Is(err, p) {
			return true
		}
	}
	return false
}

// A Backoff is the time between attempts: it doubles from First to Most. The
// zero value begins with FirstPause and ends with MostPause.
type Backoff struct {
	First, Most time.Duration
	next        time.Duration
}

// Pauses of a Backoff that names none.
const (
	FirstPause = 10 * time.Millisecond
	MostPause  = time.Second
)

// Next gives the time to wait before the next attempt.
func (b *Backoff) Next() time.Duration {
	first, most := b.First, b.Most
	if first == 0 {
		first = FirstPause
	}
	if most == 0 {
		most = MostPause
	}
	now := max(b.next, first)
	b.next = min(2*now, most)
	return now
}

// Reset begins anew: an attempt was successful.
func (b *Backoff) Reset() { b.next = 0 }

// Retry calls try until it succeeds, fails for good, or has failed for limit or
// until ctx ends. Before each further attempt it tells again why, and how long
// it waits.
func Retry(ctx context.Context, limit time.Duration, try func() error, again func(err error, pause time.Duration)) error {
	var b Backoff
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil || !Passing(err) || ctx.Err() != nil {
			return err
		}
		pause := b.Next()
		if time.Now().Add(pause).After(deadline) {
			return err
		}
		again(err, pause)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}
