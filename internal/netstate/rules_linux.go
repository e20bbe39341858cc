package netstate

import "slices"

// setRules makes rules those of a family, and tells them if that has an effect.
func (s *state) setRules(f Family, rules []Rule) {
	old := s.rules[f]
	if len(rules) == 0 && len(old) == 0 {
		return
	}
	s.rules[f] = rules
	if !slices.Equal(old, rules) {
		s.tellRules(f)
	}
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

// distinct returns a new slice with the first of each.
func distinct(rules []Rule) []Rule {
	out := make([]Rule, 0, len(rules))
	for _, r := range rules {
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}
