package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/handover"
)

// How a successor's take-over ends: with the one or with the other, whichever is first.
const (
	fateOpen = iota
	fateDone // the predecessor is not needed any more
	fateTold // this daemon is to end: it gives up, and the predecessor goes on
)

// givesUp is an error as soon as the daemon is told to end before the take-over is done.
func (h *heir) givesUp(ctx context.Context, told <-chan struct{}) error {
	select {
	case <-told:
		if h.fate.CompareAndSwap(fateOpen, fateTold) {
			return errInterrupted
		}
	case <-h.done:
	case <-ctx.Done():
	}
	return nil
}

// awaitOver waits until takeOver has returned, which cancel has it do soon.
func (h *heir) awaitOver(cancel context.CancelFunc) {
	select {
	case <-h.over:
	default:
		cancel()
		<-h.over
	}
}

// committed is when the daemon may end as usual: when told after the take-over.
func (h *heir) committed(told <-chan struct{}) <-chan struct{} {
	both := make(chan struct{})
	go func() {
		<-h.done
		<-told
		close(both)
	}()
	return both
}

// end tells the predecessor how it ended, unless it has ended itself.
func (h *heir) end(err error) error {
	select {
	case <-h.done:
		return err
	default:
	}
	if err == nil {
		err = errInterrupted
	}
	// By now nobody of this process reads a ring.
	_ = h.conn.SetDeadline(time.Now().Add(time.Second))
	_ = handover.Send(h.conn, &say{Error: err.Error()}, nil)
	return fmt.Errorf("--takeover: %w", err)
}

// part lets the predecessor end.
func (h *heir) part(ctx context.Context, d *Daemon) error {
	if !h.fate.CompareAndSwap(fateOpen, fateDone) {
		return errInterrupted
	}
	d.others.Store(false)
	close(h.done)
	if !h.dead.Load() {
		_ = h.conn.SetDeadline(time.Now().Add(partTime))
		if err := handover.Send(h.conn, &say{Step: stepDone}, nil); err != nil {
			d.log.Warn("the daemon that was taken over is gone already", "err", err)
		} else if _, err := h.conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
			d.log.Warn("the daemon that was taken over has not ended yet", "err", err)
		}
	}
	_ = h.conn.Close()
	close(h.alone)
	d.log.Info("taken over", "after", time.Since(d.began).Round(time.Millisecond))
	return nil
}
