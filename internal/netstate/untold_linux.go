package netstate

// An untold holds the sets that have an event in the batch already, and get
// their contents when the batch ends: a burst of changes of one set costs one
// copy of it.
type untold struct {
	addresses map[addressListKey]*AddressSet
	rules     map[Family]*RuleSet
}

func newUntold() untold {
	return untold{addresses: make(map[addressListKey]*AddressSet), rules: make(map[Family]*RuleSet)}
}

// tellAddresses has the addresses of a link told.
func (s *state) tellAddresses(k addressListKey) {
	if s.emit == nil || s.untold.addresses[k] != nil {
		return
	}
	set := &AddressSet{Index: k.index, Family: k.family}
	s.untold.addresses[k] = set
	s.emit(Event{Op: Set, Addresses: set})
}

// tellRules has the rules of a family told.
func (s *state) tellRules(f Family) {
	if s.emit == nil || s.untold.rules[f] != nil {
		return
	}
	set := &RuleSet{Family: f}
	s.untold.rules[f] = set
	s.emit(Event{Op: Set, Rules: set})
}

// settle gives the sets that are being told what they are now. A change after it
// has an event of its own.
func (s *state) settle() {
	for k, set := range s.untold.addresses {
		*set = s.addresses.set(k)
	}
	for f, set := range s.untold.rules {
		*set = s.ruleSet(f)
	}
	clear(s.untold.addresses)
	clear(s.untold.rules)
}
