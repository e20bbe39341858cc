package macs

import (
	"errors"
	"fmt"
	"slices"
)

// A Change asks for the MAC Want, if Current, what the caller believes that the interface has, differs.
type Change struct {
	Ifindex       int
	Name          string
	Current, Want MAC
}

// together is how many interfaces are changed with one record. A permanent neighbour that somebody adds meanwhile is
// lost.
const together = 128

// Set gives an interface a MAC. See [Keeper.SetAll].
func (k *Keeper) Set(ifindex int, name string, current, want MAC) error {
	return k.SetAll([]Change{{ifindex, name, current, want}})[0]
}

// SetAll gives interfaces MACs, and returns what became of each. What the kernel says at this moment is what gets
// recorded. An interface that a predecessor changed is taken over: the record keeps what that one found, and an
// interface that has its MAC already is not touched.
//
// The record is written before the changes; where it cannot be written nothing is changed. errors.Is(err, ErrNoLink)
// says that the interface has gone. Any other error leaves the interface either unchanged or changed and recorded, so
// a further Set, or Close, may follow.
func (k *Keeper) SetAll(changes []Change) []error {
	errs := make([]error, len(changes))
	for at := 0; at < len(changes); at += together {
		end := min(at+together, len(changes))
		k.setTogether(changes[at:end], errs[at:end])
	}
	return errs
}

func (k *Keeper) setTogether(changes []Change, errs []error) {
	k.lock()
	defer k.unlock()
	var steps []*step
	var of []int // the change of a step
	for i, c := range changes {
		if k.closed {
			errs[i] = errClosed
			continue
		}
		e := k.entries[c.Ifindex]
		if c.Current == c.Want && (e == nil || e.own && e.name == c.Name && len(e.pending) == 0) {
			continue
		}
		s, err := k.plan(e, c.Ifindex, c.Want)
		if errs[i] = err; s != nil {
			steps, of = append(steps, s), append(of, i)
		}
	}
	k.carryOut(steps)
	for i, s := range steps {
		errs[of[i]] = s.err
	}
	for i, c := range changes {
		if errs[i] != nil && !errors.Is(errs[i], errClosed) {
			errs[i] = fmt.Errorf("macs: %s: cannot set the MAC %s: %w", c.Name, text(c.Want), errs[i])
		}
	}
}

// A step is what is to be done with one interface. Steps are carried out together.
type step struct {
	e      *entry
	actual MAC  // what it has
	to     MAC  // what it is to have
	back   bool // and is then no concern of ours any more
	known  bool // the entry was there, and was old
	old    entry
	undone bool
	err    error
}

// plan says what has to be done to give an interface a MAC, nil for nothing.
func (k *Keeper) plan(e *entry, ifindex int, want MAC) (*step, error) {
	l, err := k.nl.Link(ifindex)
	if err != nil {
		if e != nil && errors.Is(err, ErrNoLink) {
			k.drop(e)
		}
		return nil, err
	}
	name, actual := l.recorded(), l.MAC
	if e != nil && !e.is(&l) {
		k.log.Warn("a recorded MAC is dropped: the interface's index belongs to another one now",
			"interface", e.name, "index", ifindex, "now", name, "original", text(e.original))
		k.drop(e)
		e = nil
	}
	s := &step{actual: actual, to: want, known: e != nil}
	switch {
	case e == nil && actual == want:
		return nil, nil
	case e == nil:
		s.e = &entry{ifindex: ifindex, name: name, id: l.Identity, original: actual, own: true}
		return s, nil
	}
	s.e, s.old = e, *e
	e.own, e.name, e.id = true, name, l.Identity
	if !e.ours(actual) && actual != e.original {
		// Somebody set another one since, and that is what there would be without us.
		e.original = actual
		k.put(e)
	}
	s.back = want == e.original
	return s, nil
}

// changes reports whether the interface's MAC is to be changed.
func (s *step) changes() bool { return s.actual != s.to }

// carryOut records, sets and adds again.
func (k *Keeper) carryOut(steps []*step) {
	if len(steps) == 0 {
		return
	}
	k.record(steps)
	for _, s := range steps {
		if s.err != nil || !s.changes() {
			continue
		}
		if s.err = k.nl.SetMAC(s.e.ifindex, s.to); s.err != nil {
			k.undo(s)
		}
	}
	k.settle(steps)
}

// record writes what is about to be done. A step that can't be recorded has an error then, and is as it was.
func (k *Keeper) record(steps []*step) {
	neighbours := map[int][]Neighbour{}
	if slices.ContainsFunc(steps, (*step).changes) {
		all, err := k.nl.PermanentNeighbours()
		if err != nil {
			err = fmt.Errorf("permanent neighbours: %w", err)
		}
		for _, s := range steps {
			if s.err = err; err != nil && s.changes() {
				continue
			}
			s.err = nil
		}
		for _, n := range all {
			neighbours[n.Ifindex] = append(neighbours[n.Ifindex], n)
		}
	}
	write := false
	for _, s := range steps {
		if s.err != nil {
			continue
		}
		e := s.e
		if there := neighbours[e.ifindex]; s.changes() && len(there) > 0 {
			// From here until they are added again the file is the only place that has them.
			e.pending, write = union(there, e.pending), true
		}
		if !s.back { // what goes back is recorded already
			if e.set = s.to; s.changes() {
				if e.previous = (MAC{}); s.actual != e.original {
					e.previous = s.actual
				}
			}
			write = write || !s.known || !same(&s.old, e)
		}
		if s.err = e.check(); s.err != nil {
			k.undo(s)
			continue
		}
		k.put(e)
	}
	if !write {
		return
	}
	if err := k.write(); err != nil {
		for _, s := range steps {
			if s.err == nil {
				s.err = err
				k.undo(s)
			}
		}
	}
}

// same reports whether two states of an entry are recorded alike, but for neighbours.
func same(a, b *entry) bool {
	return a.name == b.name && a.id == b.id && a.original == b.original && a.set == b.set && a.previous == b.previous
}

// undo has an entry as it was before its step.
func (k *Keeper) undo(s *step) {
	s.undone = true
	if !s.known {
		k.remove(s.e.ifindex)
		return
	}
	*s.e = s.old
	k.put(s.e)
}

// settle adds those pending neighbours that are missing, and writes that nothing is pending any more. One that
// cannot be added stays pending: the next Set or Restore tries again.
func (k *Keeper) settle(steps []*step) {
	k.addMissing(steps)
	for _, s := range steps {
		e := s.e
		switch {
		case s.undone:
		case s.back && s.err == nil:
			k.remove(e.ifindex)
		case s.back:
		default:
			e.previous = MAC{}
			if s.err == nil {
				e.pending = nil
			}
		}
	}
	if err := k.write(); err != nil {
		for _, s := range steps {
			s.err = errors.Join(s.err, err)
		}
	}
}

func (k *Keeper) addMissing(steps []*step) {
	pending := func(s *step) bool { return s.err == nil && len(s.e.pending) > 0 }
	if !slices.ContainsFunc(steps, pending) {
		return
	}
	there, err := k.nl.PermanentNeighbours()
	// What is there now wins: it was added since, perhaps with another MAC.
	type key struct {
		ifindex int
		ip      string
	}
	have := make(map[key]bool, len(there))
	for _, n := range there {
		have[key{n.Ifindex, n.IP.String()}] = true
	}
	for _, s := range steps {
		if !pending(s) {
			continue
		}
		if err != nil {
			s.err = fmt.Errorf("permanent neighbours: %w", err)
			continue
		}
		var errs []error
		for _, n := range s.e.pending {
			if have[key{s.e.ifindex, n.IP.String()}] {
				continue
			}
			n.Ifindex = s.e.ifindex
			if err := k.nl.AddNeighbour(n); err != nil {
				errs = append(errs, fmt.Errorf("permanent neighbour %s (%s): %w", n.IP, text(n.MAC), err))
			}
		}
		s.err = errors.Join(errs...)
	}
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
