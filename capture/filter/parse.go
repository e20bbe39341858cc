package filter

const (
	maxExpr  = 64 << 10 // bytes
	maxDepth = 200      // of parentheses, brackets and "not"
)

type parser struct {
	toks  []token
	depth int
}

// parse returns the expression's syntax tree; nil for the empty expression.
func parse(expr string) (tree node, err error) {
	defer caught(expr, false, &err)
	if len(expr) > maxExpr {
		failf(0, "the expression is longer than %d bytes", maxExpr)
	}
	p := &parser{toks: lex(expr)}
	if p.peek().kind == tokEnd {
		return nil, nil
	}
	u := p.chain(p.unit(nothingToInherit, allowTerm, false), allowID|allowTerm)
	if t := p.peek(); t.kind != tokEnd {
		failf(t.pos, `%v cannot stand here: "and" or "or" is missing`, t)
	}
	return u.node, nil
}

func (p *parser) peek() token { return p.toks[0] }

func (p *parser) next() token {
	t := p.toks[0]
	if t.kind != tokEnd {
		p.toks = p.toks[1:]
	}
	return t
}

// accept takes the next token if it is the word w.
func (p *parser) accept(w string) bool {
	if p.peek().word() != w {
		return false
	}
	p.next()
	return true
}

func (p *parser) expect(w, what string) {
	if t := p.peek(); !p.accept(w) {
		failf(t.pos, "%s is missing before %v", what, t)
	}
}

// enter counts the depth; what it returns is to be called at the end.
func (p *parser) enter(t token) func() {
	if p.depth++; p.depth > maxDepth {
		failf(t.pos, "the expression nests deeper than %d", maxDepth)
	}
	return func() { p.depth-- }
}

// allow says what may stand at a place of the expression.
type allow int

const (
	allowTerm  allow = 1 << iota // primitives that bring their own qualifiers, and comparisons
	allowID                      // operands that inherit qualifiers, also in parentheses
	allowPlain                   // operands that inherit qualifiers, not in parentheses
)

func (a allow) operands() bool { return a&(allowID|allowPlain) != 0 }

type unitKind int

const (
	kindTerm unitKind = iota
	kindID
	kindNumber // a number in parentheses: an operand or part of a computation, what follows will tell
	kindValue  // a computation in parentheses
)

// unit is a part of an expression between "and" and "or".
type unit struct {
	kind  unitKind
	node  node
	value value
	tok   token // of a kindNumber
	q     qualifier
}

// chain parses what follows the first unit: "and" and "or" with the same precedence, left to right.
func (p *parser) chain(u unit, m allow) unit {
	for {
		t := p.peek()
		w := t.word()
		if w != "and" && w != "or" {
			return u
		}
		p.next()
		r := p.unit(u.q, m, false)
		u.node = &logic{at: at(t.pos), and: w == "and", l: u.node, r: r.node}
		u.q = r.q
	}
}

// unit parses one unit; q is what it may inherit. As the first in parentheses it may turn out to be a number.
func (p *parser) unit(q qualifier, m allow, first bool) unit {
	t := p.peek()
	defer p.enter(t)()
	switch w := t.word(); {
	case w == "!":
		p.next()
		if m.operands() {
			m |= allowID
		}
		u := p.unit(q, m&^allowPlain, false)
		u.node = &not{at: at(t.pos), x: u.node}
		return u
	case w == "(":
		u := p.group(q, m)
		if u.kind == kindTerm || u.kind == kindID {
			return u
		}
		return p.number(u, q, m, first)
	case t.kind == tokNumber:
		p.next()
		return p.number(unit{kind: kindNumber, value: &constant{at(t.pos), t.num}, tok: t}, q, m, first)
	case t.kind == tokName || t.kind == tokIPv4 || t.kind == tokIPv6 || t.kind == tokEther:
		if !m.operands() {
			failf(t.pos, `%v needs a qualifier before it: "host", "net", "port", ...`, t)
		}
		return p.operand(q)
	case m&allowTerm == 0:
		failf(t.pos, "a name, number or address is missing before %v", t)
	case w == "-" || w == "len" || t.kind == tokProto && p.toks[1].word() == "[":
		return p.number(unit{kind: kindValue, value: p.unary()}, q, m, first)
	}
	return unit{node: p.primitive(), q: nothingToInherit}.orOperand(p)
}

// group parses a unit in parentheses.
func (p *parser) group(q qualifier, m allow) unit {
	p.next()
	inner := m & allowTerm
	if m&allowID != 0 {
		inner |= allowPlain
	}
	u := p.unit(q, inner, true)
	switch u.kind {
	case kindID:
		u = p.chain(u, allowID)
	case kindTerm:
		u = p.chain(u, allowID|allowTerm)
		u.q = q
	}
	p.expect(")", `")"`)
	return u
}

// number decides what a number or a computation is: an operand, or part of a comparison.
func (p *parser) number(u unit, q qualifier, m allow, first bool) unit {
	if m&allowTerm != 0 {
		if p.atOperator() {
			u = unit{kind: kindValue, value: p.compute(u.value, 0)}
		}
		if rel, ok := relations[p.peek().word()]; ok {
			t := p.next()
			r := p.compute(p.unary(), 0)
			return unit{node: &relation{at(t.pos), rel.op, rel.negate, u.value, r}, q: nothingToInherit}
		}
	}
	t := p.peek()
	switch {
	case first && t.word() == ")":
		return u
	case u.kind == kindNumber && m.operands():
		return unit{kind: kindID, node: &operand{at: at(u.tok.pos), qualifier: q, tok: u.tok}, q: q}
	case u.kind == kindNumber && m&allowTerm == 0:
		failf(u.tok.pos, "a number cannot stand here")
	}
	failf(t.pos, "a comparison is missing before %v", t)
	panic("unreachable")
}

// operand parses a name or an address.
func (p *parser) operand(q qualifier) unit {
	t := p.next()
	o := &operand{at: at(t.pos), qualifier: q, tok: t}
	switch {
	case (t.kind == tokIPv4 || t.kind == tokIPv6) && p.accept("/"):
		o.prefix = p.want(tokNumber, "the length of the prefix")
	case t.kind == tokIPv4 && p.accept("mask"):
		o.mask = p.want(tokIPv4, "the mask")
	}
	return unit{kind: kindID, node: o, q: q}
}

func (p *parser) want(kind tokenKind, what string) token {
	t := p.next()
	if t.kind != kind {
		failf(t.pos, "%s is missing before %v", what, t)
	}
	return t
}
