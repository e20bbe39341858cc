package macs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Restore puts back what a predecessor changed and this process has not taken over by [Keeper.Set]. A caller that
// first calls Set for the interfaces that it serves spares them the way back and forth; one that calls Restore
// first has them all as they were found.
//
// An interface that is gone, whose index belongs to another one now, or whose MAC somebody has changed since, is
// left alone, dropped from the record, and logged. One that has only been renamed is put back. What could not be put back stays in the record.
func (k *Keeper) Restore(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return errClosed
	}
	return k.restore(ctx, func(e *entry) bool { return !e.own })
}

// Close puts everything back and removes the record, unless something could not be put back: that stays in it.
func (k *Keeper) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	err := k.restore(context.Background(), func(*entry) bool { return true })
	k.closed = true
	return errors.Join(err, k.store.Close())
}

func (k *Keeper) restore(ctx context.Context, which func(*entry) bool) (err error) {
	defer func() { err = errors.Join(err, k.write()) }()
	var errs []error
	byIndex := slices.SortedFunc(maps.Values(k.entries), func(a, b *entry) int { return cmp.Compare(a.ifindex, b.ifindex) })
	for _, e := range byIndex {
		if !which(e) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		if err := k.restoreOne(e); err != nil {
			errs = append(errs, fmt.Errorf("macs: %s: cannot put back the MAC %s: %w", e.name, text(e.original), err))
		}
	}
	return errors.Join(errs...)
}

func (k *Keeper) restoreOne(e *entry) error {
	l, err := k.nl.Link(e.ifindex)
	why := ""
	switch {
	case errors.Is(err, ErrNoLink):
		why = "the interface is gone"
	case err != nil:
		return err
	case !e.is(&l):
		why = "its index belongs to another interface now, " + l.Name
	case !e.ours(l.MAC) && l.MAC != e.original:
		why = "somebody has set " + text(l.MAC) + " since"
	}
	if why != "" {
		k.log.Info("a recorded MAC is not put back: "+why, "interface", e.name, "index", e.ifindex, "original", text(e.original))
		delete(k.entries, e.ifindex)
		return nil
	}
	return k.giveBack(e, l.MAC)
}

// giveBack sets the original MAC, if the interface has another one, adds the neighbours again, and drops the entry.
// The caller writes that, for many at once: an entry whose interface has its original MAC again does no harm.
func (k *Keeper) giveBack(e *entry, actual MAC) error {
	if actual != e.original {
		neighbours, err := k.nl.PermanentNeighbours(e.ifindex)
		if err != nil {
			return fmt.Errorf("permanent neighbours: %w", err)
		}
		// From here until they are added again the file is the only place that has them.
		if before := e.pending; len(neighbours) > 0 {
			e.pending = union(neighbours, before)
			if err := k.write(); err != nil {
				e.pending = before
				return err
			}
		}
		if err := k.nl.SetMAC(e.ifindex, e.original); err != nil {
			return k.goneIsFine(e, err)
		}
	}
	if err := k.addMissing(e); err != nil {
		return k.goneIsFine(e, err)
	}
	delete(k.entries, e.ifindex)
	return nil
}

// goneIsFine drops the entry of an interface that vanished while it was put back.
func (k *Keeper) goneIsFine(e *entry, err error) error {
	if !errors.Is(err, ErrNoLink) {
		return err
	}
	if _, lerr := k.nl.Link(e.ifindex); !errors.Is(lerr, ErrNoLink) {
		return err
	}
	delete(k.entries, e.ifindex)
	return nil
}
