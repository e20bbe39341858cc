package dissect

// Versions of SNMP, as messages have them.
const (
	snmpV1  = 0
	snmpV2c = 1
	snmpV3  = 3
)

// PDUs, RFC 3416 3.
const (
	snmpGet     = 0
	snmpGetNext = 1
	snmpReply   = 2
	snmpSet     = 3
	snmpTrap    = 4
	snmpGetBulk = 5
	snmpInform  = 6
	snmpTrap2   = 7
	snmpReport  = 8

	snmpUserSecurity = 3 // security model, RFC 3414
)

var (
	snmpVersions = map[int32]string{snmpV1: "SNMPv1", snmpV2c: "SNMPv2c", snmpV3: "SNMPv3"}
	snmpErrors   = []string{
		"noError", "tooBig", "noSuchName", "badValue", "readOnly", "genErr", "noAccess", "wrongType", "wrongLength",
		"wrongEncoding", "wrongValue", "noCreation", "inconsistentValue", "resourceUnavailable", "commitFailed",
		"undoFailed", "authorizationError", "notWritable", "inconsistentName",
	}
	snmpTraps = []string{
		"coldStart", "warmStart", "linkDown", "linkUp", "authenticationFailure", "egpNeighborLoss",
		"enterpriseSpecific",
	}
)

const snmpEnterpriseTrap = 6

// snmp prints a message of SNMP.
func (p *Printer) snmp(b []byte, length int) {
	p.proto = "snmp"
	p.char(' ')
	r := &berReader{p: p, b: b, length: length}
	r, ok := r.sequence("init SEQ", " after iSEQ")
	if !ok {
		return
	}
	version, ok := r.integer("version")
	if !ok {
		return
	}
	name := snmpVersions[version]
	if name == "" {
		p.printf("SNMP [version = %d]", version)
		return
	}
	p.verboseStr("{ " + name + " ")
	if version == snmpV3 {
		r.snmp3()
	} else {
		r.snmpCommunity(version)
	}
	p.verboseStr("} ")
}

// wanted reads an element that should be of a kind; if it is another, it complains and prints that.
func (r *berReader) wanted(e *berElement, kind berKind, complaint string) bool {
	if !r.next(e) {
		return false
	}
	if e.kind != kind {
		r.p.printf("[%s]", complaint)
		r.p.ber(e)
		return false
	}
	return true
}

func (r *berReader) integer(name string) (int32, bool) {
	var e berElement
	ok := r.wanted(&e, berInt, name+"!=INT")
	return e.integer, ok
}

func (r *berReader) octets(name string) ([]byte, bool) {
	var e berElement
	ok := r.wanted(&e, berString, name+"!=STR")
	return e.data, ok
}

// sequence reads a sequence and gives what it holds; extra is how to call what follows it, "" if it is not looked at.
func (r *berReader) sequence(name, extra string) (*berReader, bool) {
	var e berElement
	if !r.wanted(&e, berSequence, "!"+name) {
		return nil, false
	}
	if r.length > 0 && extra != "" {
		r.p.printf("[%d extra%s]", r.length, extra)
	}
	return r.descend(&e), true
}

// snmpCommunity prints the rest of a message of version 1 or 2; the usual community is left out.
func (r *berReader) snmpCommunity(version int32) {
	name, ok := r.octets("comm")
	if !ok {
		return
	}
	if string(name) != "public" {
		r.p.str("C=")
		r.p.berString(name)
		r.p.char(' ')
	}
	r.snmpPDU(version)
}

func (r *berReader) snmpPDU(version int32) {
	var e berElement
	p := r.p
	if !r.next(&e) {
		return
	}
	if e.kind != berPDU {
		p.str("[no PDU]")
		return
	}
	if r.length > 0 {
		p.printf("[%d extra after PDU]", r.length)
	}
	p.verboseStr("{ ")
	p.ber(&e)
	p.char(' ')
	if version == snmpV1 && e.id >= snmpGetBulk {
		p.str("[v2 PDU in v1 message]")
		return
	}
	if version == snmpV2c && e.id == snmpTrap {
		p.str("[v1 PDU in v2 message]")
		return
	}
	if in := r.descend(&e); e.id == snmpTrap {
		in.snmpTrap()
	} else {
		in.snmpRequest(e.id)
	}
	p.verboseStr(" } ")
}

// strict says of which PDUs the error fields should be zero.
func snmpStrict(pdu uint8) bool {
	return pdu != snmpReply && pdu != snmpGetBulk && pdu != snmpTrap
}

func (r *berReader) snmpRequest(pdu uint8) {
	p := r.p
	id, ok := r.integer("reqId")
	if !ok {
		return
	}
	if p.opt.Verbose > 0 {
		p.printf("R=%d ", id)
	}
	status, ok := r.integer("errorStatus")
	if !ok {
		return
	}
	failed := false
	switch {
	case pdu == snmpGetBulk:
		p.printf(" N=%d", status)
	case status == 0:
	case snmpStrict(pdu):
		p.printf("[errorStatus(%s)!=0]", snmpError(status))
	default:
		p.printf(" %s", snmpError(status))
		failed = true
	}
	index, ok := r.integer("errorIndex")
	if !ok {
		return
	}
	switch {
	case pdu == snmpGetBulk:
		p.printf(" M=%d", index)
	case index != 0 && snmpStrict(pdu):
		p.printf("[errorIndex(%d)!=0]", index)
	case index != 0 && failed:
		p.printf("@%d", index)
	case index != 0:
		p.printf("[errorIndex(%d) w/o errorStatus]", index)
	case failed:
		p.str("[errorIndex==0]")
	}
	r.snmpBindings(pdu)
}

func snmpError(status int32) string {
	if status >= 0 && int(status) < len(snmpErrors) {
		return snmpErrors[status]
	}
	return sprintf1("err=%d", uint32(status))
}

// snmpTrap prints a trap of version 1, RFC 1157 4.1.6.
func (r *berReader) snmpTrap() {
	var e berElement
	p := r.p
	p.char(' ')
	if !r.wanted(&e, berOID, "enterprise!=OID") {
		return
	}
	p.ber(&e)
	p.char(' ')
	if !r.wanted(&e, berAddress, "agent-addr!=INETADDR") {
		return
	}
	p.ber(&e)
	generic, ok := r.integer("generic-trap")
	if !ok {
		return
	}
	if generic >= 0 && int(generic) < len(snmpTraps) {
		p.printf(" %s", snmpTraps[generic])
	} else {
		p.printf(" gt=%d", generic)
	}
	specific, ok := r.integer("specific-trap")
	if !ok {
		return
	}
	if generic == snmpEnterpriseTrap {
		p.printf(" s=%d", specific)
	} else if specific != 0 {
		p.printf("[specific-trap(%d)!=0]", specific)
	}
	p.char(' ')
	if !r.wanted(&e, berUnsigned, "time-stamp!=TIMETICKS") {
		return
	}
	p.ber(&e)
	r.snmpBindings(snmpTrap)
}

// snmpBindings prints the variables and their values.
func (r *berReader) snmpBindings(pdu uint8) {
	p := r.p
	list, ok := r.sequence("SEQ of varbind", " after SEQ of varbind")
	for ok && list.length > 0 {
		p.char(' ')
		in, ok := list.sequence("varbind", "")
		if !ok || !in.snmpBinding(pdu) {
			return
		}
	}
}

func (r *berReader) snmpBinding(pdu uint8) bool {
	var e berElement
	p := r.p
	if !r.wanted(&e, berOID, "objName!=OID") {
		return false
	}
	p.ber(&e)
	asks := pdu == snmpGet || pdu == snmpGetNext || pdu == snmpGetBulk
	p.sep(!asks, "=")
	if !r.next(&e) {
		return false
	}
	if e.kind != berNull {
		p.sep(asks, "[objVal!=NULL]")
		p.ber(&e)
	}
	return true
}

// snmp3 prints the rest of a message of version 3, RFC 3412 6.
func (r *berReader) snmp3() {
	p, whole := r.p, *r
	in, ok := r.sequence("message", "")
	if !ok {
		return
	}
	p.verboseStr("{ ")
	for _, name := range []string{"msgID", "msgMaxSize"} {
		if _, ok := in.integer(name); !ok {
			return
		}
	}
	flags, ok := in.octets("msgFlags")
	if !ok || !p.snmpFlags(flags) {
		return
	}
	was := in.length
	model, ok := in.integer("msgSecurityModel")
	if !ok {
		return
	}
	if size := was - in.length; size < in.length {
		p.printf("[%d extra after message SEQ]", in.length-size)
	}
	p.verboseStr("} ")
	if model != snmpUserSecurity {
		p.printf("[security model %d]", model)
		return
	}
	p.verboseStr("{ USM ")
	rest := &berReader{p: p, b: in.b, length: whole.length - (len(whole.b) - len(in.b))}
	var params berElement
	if !rest.wanted(&params, berString, "msgSecurityParameters!=STR") {
		return
	}
	rest.descend(&params).snmpUser()
	p.verboseStr("} { ScopedPDU ")
	rest.snmpScoped()
	p.verboseStr("} ")
}

// snmpFlags prints who is sure of whom: authentication, privacy, and whether a report is wanted.
func (p *Printer) snmpFlags(b []byte) bool {
	if len(b) != 1 {
		p.printf("[msgFlags size %d]", len(b))
		return false
	}
	f := b[0]
	if f > 7 || f&3 == 2 {
		p.printf("[msgFlags=0x%02X]", f)
		return false
	}
	p.printf("F=%s%s%s ", flagStr(f&1 != 0, "a", ""), flagStr(f&2 != 0, "p", ""), flagStr(f&4 != 0, "r", ""))
	return true
}

// snmpUser prints the parameters of the user-based security model.
func (r *berReader) snmpUser() {
	p := r.p
	in, ok := r.sequence("usm", "")
	if !ok {
		return
	}
	if _, ok = in.octets("msgAuthoritativeEngineID"); !ok {
		return
	}
	for _, field := range [][2]string{{"msgAuthoritativeEngineBoots", "B"}, {"msgAuthoritativeEngineTime", "T"}} {
		v, ok := in.integer(field[0])
		if !ok {
			return
		}
		if p.opt.Verbose > 0 {
			p.printf("%s=%d ", field[1], v)
		}
	}
	name, ok := in.octets("msgUserName")
	if !ok {
		return
	}
	p.str("U=")
	p.berString(name)
	p.char(' ')
	if _, ok = in.octets("msgAuthenticationParameters"); !ok {
		return
	}
	was := in.length
	if _, ok = in.octets("msgPrivacyParameters"); !ok {
		return
	}
	if size := was - in.length; size < in.length {
		p.printf("[%d extra after usm SEQ]", in.length-size)
	}
}

func (r *berReader) snmpScoped() {
	p := r.p
	in, ok := r.sequence("scoped PDU", "")
	if !ok {
		return
	}
	engine, ok := in.octets("contextEngineID")
	if !ok {
		return
	}
	p.str("E=")
	p.berOctets(engine)
	p.char(' ')
	name, ok := in.octets("contextName")
	if !ok {
		return
	}
	p.str("C=")
	p.berString(name)
	p.char(' ')
	in.snmpPDU(snmpV3)
}
