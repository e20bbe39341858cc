package route

import "maps"

// What a Builder makes of rules, and of the tables that they lead to.

// defaultRules is how many rules the kernel starts with, of each family (net/ipv4/
// fib_rules.c, fib_default_rules_init; net/ipv6/fib6_rules.c, fib6_rules_net_init): to
// the tables local and main, and of IPv4 to the table default.
var defaultRules = [families]int{IPv4: 3, IPv6: 2}

// noRoutes is a table that has none; nobody writes it.
var noRoutes = new(fib)

func (b *Builder) fib(family Family, table uint32) *fib {
	s := b.fibs[tableKey{family, table}]
	if s == nil {
		return noRoutes
	}
	if s.published == nil {
		s.published = s.fib.snapshot()
	}
	return s.published
}

func (b *Builder) buildRouting(family Family) routing {
	rules := b.rules[family]
	w := routing{local: b.fib(family, TableLocal), main: b.fib(family, TableMain), fallback: noRoutes, customRules: !isDefault(rules, family)}
	if family == IPv4 {
		w.fallback = b.fib(family, TableDefault)
	}
	if w.simple = !w.customRules; w.simple {
		w.rules = rules // without tables: w has those
		return w
	}
	names := make(map[string]int32, len(b.links))
	for index, s := range b.links {
		if !s.wanted {
			continue
		}
		names[s.link.Name] = index
	}
	names["lo"] = loopbackIfindex
	w.rules = make([]Rule, len(rules))
	for i := range rules {
		r := &w.rules[i]
		*r = rules[i]
		if family == IPv6 && r.TOS != 0 {
			r.DSCP, r.DSCPMask, r.TOS = r.TOS, dscpMask, 0 // net/ipv6/fib6_rules.c: fib6_rule_configure
		}
		w.dissect = w.dissect || r.dissects()
		if r.SuppressByGroup && w.groups == nil {
			w.groups = maps.Clone(b.groups)
		}
		if r.Action == RuleToTable {
			r.fib = b.fib(family, r.Table)
		}
		r.iif = names[r.IIF]
		r.target = i + 1 // of a goto to nowhere: the kernel goes on
		for j := i + 1; j < len(rules) && r.Action == RuleGoto; j++ {
			if rules[j].Priority == r.Goto {
				r.target = j
				break
			}
		}
	}
	return w
}

// dscpMask are the bits of the DSCP in a TOS byte or traffic class.
const dscpMask = 0xfc

func isDefault(rules []Rule, family Family) bool {
	if len(rules) != defaultRules[family] {
		return false
	}
	tables := [...]uint32{TableLocal, TableMain, TableDefault}
	for i, r := range rules {
		r.Priority = 0
		if r != (Rule{Action: RuleToTable, Table: tables[i], SuppressPrefixLen: -1}) {
			return false
		}
	}
	return true
}
