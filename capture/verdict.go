package capture

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// The kinds of a Verdict. Each packet ends in one of them.
const (
	Forward   = "forward"   // sent on
	Answer    = "answer"    // an ARP request that was answered
	Local     = "local"     // for the host itself
	Punt      = "punt"      // left to the kernel by --punt
	Ignore    = "ignore"    // not ours
	Queue     = "queue"     // waits; the end bears the same id
	Originate = "originate" // made here: ARP reply, ICMP error
	Drop      = "drop"
)

// Kinds are all of them.
var Kinds = []string{Forward, Answer, Local, Punt, Ignore, Queue, Originate, Drop}

// Verdict is what became of a packet, and why. Zero fields were not found out.
type Verdict struct {
	Kind   string
	Reason string // of a drop or an ignore
	// ID is the same for a packet as it came, each copy that left, its wait
	// and the ICMP error about it.
	ID uint64
	// Again says that the packet has been told of before, when it began to
	// wait: this is how that ended.
	Again bool
	In    string     // interface it came from, of a copy that left
	Out   string     // interface it left by, or would have
	Via   netip.Addr // gateway, or neighbour that was not reached
	// Route is the prefix that matched.
	Route netip.Prefix
	IsAt  net.HardwareAddr // the MAC that was answered
	// ICMP is type/code of the error or redirect that was sent about it.
	ICMP string

	Rule      string // priority of the policy rule
	Table     uint32
	Metric    uint32
	Neighbour string // its state, in the words of ip-neighbour(8)
	Src       string // MACs that it left with
	Dst       string
	TTL       string // before>after
	MTU       int    // of the way out, bytes
	Took      time.Duration
}

// AppendSuffix appends what ends a line: " => forward ens192 via 192.168.1.16
// route 10.20.1.3/32 #8123". It is ASCII whatever an interface is called.
func (v *Verdict) AppendSuffix(b []byte) []byte {
	b = append(b, " => "...)
	b = append(b, v.Kind...)
	word := func(key, value string) {
		if value == "" {
			return
		}
		if key != "" {
			b = append(append(b, ' '), key...)
		}
		b = appendWord(append(b, ' '), value)
	}
	word("", v.Reason)
	if v.IsAt != nil {
		word("is-at", v.IsAt.String())
	}
	word("", v.Out)
	word("from", v.In)
	if v.Via.IsValid() {
		key := "via"
		if v.Kind == Drop || v.Kind == Queue {
			key = "nh"
		}
		word(key, v.Via.String())
	}
	if v.Route.IsValid() {
		word("route", v.Route.String())
	}
	word("icmp", v.ICMP)
	if v.ID != 0 {
		b = strconv.AppendUint(append(b, " #"...), v.ID, 10)
	}
	return b
}

// AppendDetail appends what -v adds, a line of its own without its end: rule,
// table, neighbour, rewrite. Nothing is appended where nothing is known.
func (v *Verdict) AppendDetail(b []byte) []byte {
	start := len(b)
	word := func(key, value string) {
		if value == "" || value == "0" {
			return
		}
		if len(b) > start {
			b = append(b, ", "...)
		}
		b = appendWord(append(append(b, key...), ' '), value)
	}
	word("rule", v.Rule)
	word("table", tableName(v.Table))
	word("metric", strconv.FormatUint(uint64(v.Metric), 10))
	word("neigh", v.Neighbour)
	word("mac", v.Src)
	if v.Dst != "" {
		b = appendWord(append(b, " > "...), v.Dst)
	}
	word("ttl", v.TTL)
	word("mtu", strconv.Itoa(v.MTU))
	if v.Took > 0 {
		word("took", strconv.FormatFloat(float64(v.Took)/1e3, 'f', 1, 64))
		b = append(b, " us"...)
	}
	return b
}

// tableName is iproute2's name of a routing table (/etc/iproute2/rt_tables).
func tableName(id uint32) string {
	switch id {
	case 253:
		return "default"
	case 254:
		return "main"
	case 255:
		return "local"
	}
	return strconv.FormatUint(uint64(id), 10)
}

// appendWord keeps a word from ending the line, or being two.
func appendWord(b []byte, s string) []byte {
	for i := range len(s) {
		if raw(s[i]) {
			return appendEscaped(append(b, s[:i]...), s[i:])
		}
	}
	return append(b, s...)
}

func raw(c byte) bool { return c <= ' ' || c >= 0x7f }

func appendEscaped(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; raw(c) {
			b = fmt.Appendf(b, "\\x%02x", c)
		} else {
			b = append(b, c)
		}
	}
	return b
}

// A packet's comment in a capture file is its Verdict as key=value words in
// this order; verdict comes first and is always there.

// againWord is in the comment of a Verdict with Again set.
var againWord = []byte(" again=1")

// IsAgain reports whether a comment is that of a Verdict with Again set.
func IsAgain(comment []byte) bool {
	return bytes.HasPrefix(comment, verdictWord) && bytes.Contains(comment, againWord)
}

var verdictWord = []byte("verdict=")

// AppendComment appends the Verdict as the comment of a packet.
func (v *Verdict) AppendComment(b []byte) []byte {
	b = append(append(b, verdictWord...), v.Kind...)
	word := func(key, value string) {
		if value != "" {
			b = append(append(append(b, ' '), key...), '=')
			b = appendWord(b, value)
		}
	}
	number := func(key string, n uint64) {
		if n != 0 {
			b = strconv.AppendUint(append(append(append(b, ' '), key...), '='), n, 10)
		}
	}
	word("reason", v.Reason)
	number("id", v.ID)
	if v.Again {
		b = append(b, againWord...)
	}
	word("in", v.In)
	word("out", v.Out)
	if v.Via.IsValid() {
		word("nh", v.Via.String())
	}
	if v.Route.IsValid() {
		word("route", v.Route.String())
	}
	if v.IsAt != nil {
		word("is-at", v.IsAt.String())
	}
	word("icmp", v.ICMP)
	word("rule", v.Rule)
	number("table", uint64(v.Table))
	number("metric", uint64(v.Metric))
	word("neigh", v.Neighbour)
	word("src", v.Src)
	word("dst", v.Dst)
	word("ttl", v.TTL)
	number("mtu", uint64(v.MTU))
	number("took_ns", uint64(max(v.Took, 0)))
	return b
}

// ParseComment reads a Verdict from a packet's comment. ok is false if the
// comment is another's; words that a later version added are passed over.
func ParseComment(s string) (v Verdict, ok bool) {
	rest, ours := strings.CutPrefix(s, string(verdictWord))
	if !ours {
		return v, false
	}
	v.Kind, rest, _ = strings.Cut(rest, " ")
	if !known(v.Kind) {
		return Verdict{}, false
	}
	for word := range strings.FieldsSeq(rest) {
		key, value, _ := strings.Cut(word, "=")
		v.set(key, value)
	}
	return v, true
}

func known(kind string) bool {
	for _, k := range Kinds {
		if k == kind {
			return true
		}
	}
	return false
}

// set takes a word of a comment; a value that makes no sense is left out.
func (v *Verdict) set(key, value string) {
	number := func(bits int) uint64 {
		n, err := strconv.ParseUint(value, 10, bits)
		if err != nil {
			return 0
		}
		return n
	}
	switch key {
	case "reason":
		v.Reason = value
	case "id":
		v.ID = number(64)
	case "again":
		v.Again = value == "1"
	case "in":
		v.In = value
	case "out":
		v.Out = value
	case "nh":
		v.Via, _ = netip.ParseAddr(value)
	case "route":
		v.Route, _ = netip.ParsePrefix(value)
	case "is-at":
		v.IsAt, _ = net.ParseMAC(value)
	case "icmp":
		v.ICMP = value
	case "rule":
		v.Rule = value
	case "table":
		v.Table = uint32(number(32))
	case "metric":
		v.Metric = uint32(number(32))
	case "neigh":
		v.Neighbour = value
	case "src":
		v.Src = value
	case "dst":
		v.Dst = value
	case "ttl":
		v.TTL = value
	case "mtu":
		v.MTU = int(number(31))
	case "took_ns":
		v.Took = time.Duration(number(63))
	}
}
