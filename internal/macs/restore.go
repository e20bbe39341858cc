package macs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"proxyarpd/internal/shortage"
)

// Restore puts back what a predecessor changed and this process has not taken over by [Keeper.Set]. A caller that
// first calls Set for the interfaces that it serves spares them the way back and forth; one that calls Restore
// first has them all as they were found.
//
// An interface that is gone, whose index belongs to another one now, or whose MAC somebody has changed since, is
// left alone, dropped from the record, and logged. One that has only been renamed is put back. What could not be put
// back stays in the record.
func (k *Keeper) Restore(ctx context.Context) error {
	k.lock()
	defer k.unlock()
	if k.closed {
		return errClosed
	}
	return k.restore(ctx, func(e *entry) bool { return !e.own })
}

// closePatience is how long the end waits for what is short: nobody tries again after it.
const closePatience = 5 * time.Second

// Close puts everything back and removes the record, unless something could not be put back: that stays in it. What
// fails for want of descriptors or memory is tried again for five seconds.
func (k *Keeper) Close() error {
	k.lock()
	defer k.unlock()
	if k.closed {
		return nil
	}
	ctx := context.Background()
	restore := func() error { return k.restore(ctx, func(*entry) bool { return true }) }
	err := shortage.Retry(ctx, closePatience, restore, func(err error, pause time.Duration) {
		k.log.Warn("not all MACs are back yet, trying again", "err", err, "pause", pause)
	})
	k.closed = true
	return errors.Join(err, k.store.Close())
}

func (k *Keeper) restore(ctx context.Context, which func(*entry) bool) error {
	todo := slices.SortedFunc(maps.Values(k.entries), func(a, b *entry) int { return cmp.Compare(a.ifindex, b.ifindex) })
	todo = slices.DeleteFunc(todo, func(e *entry) bool { return !which(e) })
	var errs []error
	for chunk := range slices.Chunk(todo, together) {
		if err := ctx.Err(); err != nil {
			errs = append(errs, err)
			break
		}
		errs = append(errs, k.restoreTogether(chunk))
	}
	return errors.Join(append(errs, k.write())...)
}

func (k *Keeper) restoreTogether(entries []*entry) error {
	var steps, failed []*step
	for _, e := range entries {
		s := &step{e: e, to: e.original, back: true, known: true, old: *e}
		switch dropped, err := k.found(s); {
		case dropped:
		case err != nil:
			s.err = err
			failed = append(failed, s)
		default:
			steps = append(steps, s)
		}
	}
	k.carryOut(steps)
	var errs []error
	for _, s := range append(failed, steps...) {
		if err := k.goneIsFine(s); err != nil {
			errs = append(errs, fmt.Errorf("macs: %s: cannot put back the MAC %s: %w", s.e.name, text(s.e.original), err))
		}
	}
	return errors.Join(errs...)
}

// found says in a step what the interface has now, or drops the entry if it is no concern of ours any more.
func (k *Keeper) found(s *step) (dropped bool, err error) {
	e := s.e
	l, err := k.nl.Link(e.ifindex)
	why := ""
	switch {
	case errors.Is(err, ErrNoLink):
		why = "the interface is gone"
	case err != nil:
		return false, err
	case !e.is(&l):
		why = "its index belongs to another interface now, " + l.Name
	case !e.ours(l.MAC) && l.MAC != e.original:
		why = "somebody has set " + text(l.MAC) + " since"
	}
	if why != "" {
		k.log.Info("a recorded MAC is not put back: "+why, "interface", e.name, "index", e.ifindex, "original", text(e.original))
		k.remove(e.ifindex)
		return true, nil
	}
	s.actual = l.MAC
	return false, nil
}

// goneIsFine drops the entry of an interface that vanished while it was put back.
func (k *Keeper) goneIsFine(s *step) error {
	if !errors.Is(s.err, ErrNoLink) {
		return s.err
	}
	if _, err := k.nl.Link(s.e.ifindex); !errors.Is(err, ErrNoLink) {
		return s.err
	}
	k.remove(s.e.ifindex)
	return nil
}
