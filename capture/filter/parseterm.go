package filter

// primitive parses what begins with a word of the language. It returns the qualifiers alone, as *qualified, if an
// operand has to follow.
func (p *parser) primitive() node {
	t := p.peek()
	if where, ok := elsewhere[t.text]; ok && t.kind == tokElsewhere {
		failf(t.pos, "%v exists on %s links only", t, where)
	}
	var q qualifier
	if t.kind == tokProto {
		q.proto = p.next().proto
	}
	switch w := p.peek().word(); w {
	case "src", "dst":
		q.dir = p.direction()
		q.typ = p.addrType()
		return &qualified{at(t.pos), q}
	case "host", "net", "port", "portrange":
		q.typ = p.addrType()
		return &qualified{at(t.pos), q}
	case "proto", "protochain", "gateway":
		p.next()
		q.typ = map[string]addrType{"proto": typeProto, "protochain": typeProtoChain, "gateway": typeGateway}[w]
		return &qualified{at(t.pos), q}
	case "broadcast", "multicast":
		p.next()
		return &cast{at(t.pos), q.proto, w == "multicast"}
	}
	if t.kind == tokProto {
		if n := p.peek(); n.kind == tokElsewhere {
			failf(n.pos, "%v exists on %s links only", n, elsewhere[n.text])
		}
		return &protocol{at(t.pos), q.proto}
	}
	return p.keyword()
}

// qualified are qualifiers that wait for their operand.
type qualified struct {
	at
	q qualifier
}

// orOperand parses the operand if the unit is qualifiers without it.
func (u unit) orOperand(p *parser) unit {
	q, ok := u.node.(*qualified)
	if !ok {
		return u
	}
	r := p.unit(q.q, allowID, false)
	return unit{node: r.node, q: r.q}
}

func (p *parser) direction() direction {
	first := p.next().word()
	dir := dirSrc
	other := "dst"
	if first == "dst" {
		dir, other = dirDst, "src"
	}
	switch p.peek().word() {
	case "or":
		dir = dirOr
	case "and":
		dir = dirAnd
	default:
		return dir
	}
	p.next()
	p.expect(other, `"`+other+`"`)
	return dir
}

func (p *parser) addrType() addrType {
	typ, ok := map[string]addrType{"host": typeHost, "net": typeNet, "port": typePort, "portrange": typePortRange}[p.peek().word()]
	if ok {
		p.next()
	}
	return typ
}

// keyword parses the primitives that begin with a word of their own.
func (p *parser) keyword() node {
	t := p.next()
	where := at(t.pos)
	switch w := t.word(); w {
	case "less", "greater":
		return &lengthTest{where, w == "greater", p.want(tokNumber, "a length").num}
	case "byte":
		b := &byteTest{at: where, index: p.want(tokNumber, "the byte's offset").num}
		op := p.next()
		switch b.op = op.word(); b.op {
		case "&", "|", "<", ">", "=":
		default:
			failf(op.pos, `%v cannot stand here: "byte N" is followed by one of & | < > =`, op)
		}
		b.val = p.want(tokNumber, "a number").num
		return b
	case "inbound", "outbound", "pppoed":
		return &plain{at: where, word: w}
	case "ifindex":
		return &plain{where, w, p.want(tokNumber, "the index of the interface").num, true}
	case "vlan", "mpls", "pppoes", "geneve":
		n, ok := p.optionalNumber()
		return &plain{where, w, n, ok}
	case "llc":
		l := &llc{at: where}
		if n := p.peek(); n.kind == tokName || n.word() == "rnr" {
			l.at, l.frame = at(n.pos), p.next().text
		}
		return l
	case "rnr":
		failf(t.pos, "%v exists on pf links only", t)
	}
	failf(t.pos, "a primitive is missing before %v", t)
	panic("unreachable")
}

// optionalNumber parses a number, which may stand in parentheses.
func (p *parser) optionalNumber() (uint32, bool) {
	t := p.peek()
	switch {
	case t.kind == tokNumber:
		p.next()
		return t.num, true
	case t.word() == "(":
		defer p.enter(t)()
		p.next()
		n, ok := p.optionalNumber()
		if !ok {
			failf(p.peek().pos, "a number is missing before %v", p.peek())
		}
		p.expect(")", `")"`)
		return n, true
	}
	return 0, false
}

// relations are the BPF jumps for comparisons; those that BPF has not are the negation of one that it has.
var relations = map[string]struct {
	op     int
	negate bool
}{
	">": {jmpJGT, false}, ">=": {jmpJGE, false}, "=": {jmpJEQ, false},
	"<=": {jmpJGT, true}, "<": {jmpJGE, true}, "!=": {jmpJEQ, true},
}

// operators are the BPF operations and their precedence. "%" and "^" have none in libpcap's grammar, which makes
// them take everything on their right.
var operators = map[string]struct{ op, prec int }{
	"|": {aluOR, 1}, "&": {aluAND, 2}, "<<": {aluLSH, 3}, ">>": {aluRSH, 3}, "+": {aluADD, 4}, "-": {aluSUB, 4},
	"*": {aluMUL, 5}, "/": {aluDIV, 5}, "%": {aluMOD, 0}, "^": {aluXOR, 0},
}

const precUnary = 6

func (p *parser) atOperator() bool {
	_, ok := operators[p.peek().word()]
	return ok
}

// compute parses the operators after l that bind tighter than prec.
func (p *parser) compute(l value, prec int) value {
	for p.atOperator() {
		t := p.peek()
		o := operators[t.word()]
		if o.prec != 0 && o.prec <= prec {
			break
		}
		p.next()
		l = &computation{at(t.pos), o.op, l, p.compute(p.unary(), o.prec)}
	}
	return l
}

func (p *parser) unary() value {
	t := p.next()
	defer p.enter(t)()
	switch w := t.word(); {
	case t.kind == tokNumber:
		return &constant{at(t.pos), t.num}
	case w == "len":
		return &frameLen{at(t.pos)}
	case w == "-":
		return &negative{at(t.pos), p.compute(p.unary(), precUnary)}
	case w == "(":
		v := p.compute(p.unary(), 0)
		p.expect(")", `")"`)
		return v
	case t.kind == tokProto && p.accept("["):
		l := &load{at: at(t.pos), proto: t.proto, index: p.compute(p.unary(), 0), size: 1}
		if p.accept(":") {
			l.size = p.want(tokNumber, "a size").num
		}
		p.expect("]", `"]"`)
		return l
	}
	failf(t.pos, "a number is missing before %v", t)
	panic("unreachable")
}
