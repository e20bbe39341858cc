package macs

import (
	"errors"
	"fmt"
	"net/netip"
)

// Set gives an interface the MAC want, if current, what the caller believes that it has, differs. What the kernel
// says at this moment is what gets recorded. An interface that a predecessor changed is taken over: the record
// keeps what that one found, and an interface that has want already is not touched.
//
// The record is written before the change; where it cannot be written nothing is changed. errors.Is(err,
// ErrNoLink) says that the interface has gone. Any other error leaves the interface either unchanged or changed
// and recorded, so a further Set, or Close, may follow.
func (k *Keeper) Set(ifindex int, name string, current, want MAC) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return errClosed
	}
	e := k.entries[ifindex]
	if current == want && (e == nil || e.own && e.name == name && len(e.pending) == 0) {
		return nil
	}
	if err := k.set(e, ifindex, want); err != nil {
		return fmt.Errorf("macs: %s: cannot set the MAC %s: %w", name, text(want), err)
	}
	return nil
}

func (k *Keeper) set(e *entry, ifindex int, want MAC) error {
	l, err := k.nl.Link(ifindex)
	if err != nil {
		if e != nil && errors.Is(err, ErrNoLink) {
			k.drop(e)
		}
		return err
	}
	name, actual := l.recorded(), l.MAC
	if e != nil && !e.is(&l) {
		k.log.Warn("a recorded MAC is dropped: the interface's index belongs to another one now",
			"interface", e.name, "index", ifindex, "now", name, "original", text(e.original))
		k.drop(e)
		e = nil
	}
	switch {
	case e == nil && actual == want:
		return nil
	case e == nil:
		e = &entry{ifindex: ifindex, name: name, id: l.Identity, original: actual, set: want, own: true}
		return k.change(e, actual, want)
	}
	e.own = true
	renamed := e.name != name || e.id != l.Identity
	e.name, e.id = name, l.Identity
	if !e.ours(actual) && actual != e.original {
		// Somebody set another one since, and that is what there would be without us.
		e.original = actual
	}
	if want == e.original {
		err := k.giveBack(e, actual)
		return errors.Join(err, k.write())
	}
	if actual != want {
		return k.change(e, actual, want)
	}
	if renamed || e.set != want {
		e.set = want
		if err := k.write(); err != nil {
			return err
		}
	}
	return k.settle(e)
}

// change records, sets and adds again. actual is the MAC that the interface has.
func (k *Keeper) change(e *entry, actual, want MAC) error {
	neighbours, err := k.nl.PermanentNeighbours(e.ifindex)
	if err != nil {
		return fmt.Errorf("permanent neighbours: %w", err)
	}
	old, known := *e, k.entries[e.ifindex] != nil
	e.pending = union(neighbours, e.pending)
	if e.previous = (MAC{}); actual != e.original {
		e.previous = actual
	}
	e.set = want
	if err := e.check(); err != nil {
		if known {
			*e = old
		}
		return err
	}
	k.entries[e.ifindex] = e
	undo := func() {
		if known {
			*e = old
		} else {
			delete(k.entries, e.ifindex)
		}
	}
	if err := k.write(); err != nil {
		undo()
		return err
	}
	if err := k.nl.SetMAC(e.ifindex, want); err != nil {
		undo()
		return errors.Join(err, k.write())
	}
	return k.settle(e)
}

// settle adds those pending neighbours that are missing, and writes that nothing is pending any more. One that
// cannot be added stays pending: the next Set or Restore tries again.
func (k *Keeper) settle(e *entry) error {
	if len(e.pending) == 0 && e.previous == (MAC{}) {
		return nil
	}
	err := k.addMissing(e)
	e.previous = MAC{}
	if err == nil {
		e.pending = nil
	}
	return errors.Join(err, k.write())
}

func (k *Keeper) addMissing(e *entry) error {
	if len(e.pending) == 0 {
		return nil
	}
	there, err := k.nl.PermanentNeighbours(e.ifindex)
	if err != nil {
		return fmt.Errorf("permanent neighbours: %w", err)
	}
	// What is there now wins: it was added since, perhaps with another MAC.
	have := make(map[netip.Addr]bool, len(there))
	for _, n := range there {
		have[n.IP] = true
	}
	var errs []error
	for _, n := range e.pending {
		if have[n.IP] {
			continue
		}
		n.Ifindex = e.ifindex
		if err := k.nl.AddNeighbour(n); err != nil {
			errs = append(errs, fmt.Errorf("permanent neighbour %s (%s): %w", n.IP, text(n.MAC), err))
		}
	}
	return errors.Join(errs...)
}

// union returns a and those of b whose address is not in a.
func union(a, b []Neighbour) []Neighbour {
	out := append([]Neighbour(nil), a...)
	for _, n := range b {
		found := false
		for _, m := range a {
			found = found || m.IP == n.IP
		}
		if !found {
			out = append(out, n)
		}
	}
	return out
}
