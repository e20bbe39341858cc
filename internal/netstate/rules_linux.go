package netstate

import "slices"

// setRules makes rules the rules and tells the difference, so that a receiver
// that appends at each Set and removes at each Delete has the same order.
// Duplicates have no effect, and are not told.
func (s *State) setRules(rules []Rule) {
	old, now := distinct(s.rules), distinct(rules)
	s.rules = rules
	kept := slices.DeleteFunc(slices.Clone(old), func(r Rule) bool { return !slices.Contains(now, r) })
	if !inOrder(kept, now) || !newComeLast(kept, now) {
		kept = nil // tell them all again
	}
	s.tellRules(old, kept, now)
}

// tellRules deletes what of old is not kept and sets what of now is not kept.
func (s *State) tellRules(old, kept, now []Rule) {
	for _, r := range old {
		if !slices.Contains(kept, r) {
			s.tell(Event{Op: Delete, Rule: &r})
		}
	}
	for _, r := range now {
		if !slices.Contains(kept, r) {
			s.tell(Event{Op: Set, Rule: &r})
		}
	}
}

// inOrder reports whether kept is a subsequence of now.
func inOrder(kept, now []Rule) bool {
	for _, r := range now {
		if len(kept) > 0 && kept[0] == r {
			kept = kept[1:]
		}
	}
	return len(kept) == 0
}

// newComeLast reports whether in now, within each priority, the kept
// rules come before the others.
func newComeLast(kept, now []Rule) bool {
	for i := 1; i < len(now); i++ {
		a, b := now[i-1], now[i]
		if a.Priority == b.Priority && !slices.Contains(kept, a) && slices.Contains(kept, b) {
			return false
		}
	}
	return true
}

// insertRule is fib_newrule (net/core/fib_rules.c): after all of its priority.
func insertRule(rules []Rule, r Rule) []Rule {
	at := len(rules)
	for at > 0 && rules[at-1].Priority > r.Priority {
		at--
	}
	return slices.Insert(slices.Clone(rules), at, r)
}

// removeRule is fib_delrule: the first that is equal.
func removeRule(rules []Rule, r Rule) []Rule {
	if i := slices.Index(rules, r); i >= 0 {
		return slices.Delete(slices.Clone(rules), i, i+1)
	}
	return rules
}

func distinct(rules []Rule) []Rule {
	out := make([]Rule, 0, len(rules))
	for _, r := range rules {
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}
