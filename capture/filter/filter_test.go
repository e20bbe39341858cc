package filter

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
)

// hot is a TCP segment to port 443 in an Ethernet frame of 74 bytes.
func hot() []byte {
	return cat([]byte{0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0x0a, 0x58, 0x0a, 0xe9, 0x40, 0x05, 0x08, 0x00},
		[]byte{0x45, 0, 0, 60, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 233, 64, 5, 10, 96, 0, 1},
		[]byte{0x8d, 0x54, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0, 0xa0, 0x02, 0xff, 0xff, 0, 0, 0, 0}, make([]byte, 20))
}

func mustCompile(t testing.TB, expr string, link LinkType) *Filter {
	t.Helper()
	f, err := Compile(expr, link)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestMatch(t *testing.T) {
	tagged := slices.Insert(hot(), 12, 0x81, 0x00, 0x00, 10)
	dm := cat(hot()[:12], []byte{0, 3, 0x42, 0x43, 0x0f})
	arp := cat(hot()[:12], []byte{0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1}, make([]byte, 20))
	for _, c := range []struct {
		expr string
		data []byte
		len  int
		want bool
	}{
		{"", hot(), 74, true},
		{"tcp port 443", hot(), 74, true},
		{"not tcp port 443", hot(), 74, false},
		{"port 80 or 443", hot(), 74, true},
		{"tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn", hot(), 74, true},
		{"not port 80", hot()[:30], 74, false}, // a load beyond the captured bytes rejects
		{"greater 74", hot()[:30], 74, true},   // the length is that on the wire
		{"less 73", hot()[:30], 74, false},
		{"len = 74", hot()[:14], 74, true},
		{"vlan 10 and tcp", tagged, 78, true},
		{"tcp", tagged, 78, false},
		{"vlan 10 or arp", arp, 36, false}, // "arp" is looked for behind a tag
		{"arp or vlan 10", arp, 36, true},
		{"tcp or udp and port 53", hot(), 74, false}, // from left to right
		{"tcp or (udp and port 53)", hot(), 74, true},
		{"net 10.233.64.0 mask 255.255.255.0 and dst net 10.96", hot(), 74, true},
		{"8 % 3 + 1 = 0", hot(), 74, true}, // "%" takes all on its right
		{"8 - 3 - 1 = 4", hot(), 74, true},
		{"tcp", nil, 0, false},
		{"llc dm", dm, 17, true},
		{"llc disc or llc ua", dm, 17, false},
	} {
		if got := mustCompile(t, c.expr, Ethernet).Match(c.data, c.len); got != c.want {
			t.Errorf("%q: %v, not %v", c.expr, got, c.want)
		}
	}
}

// Each link type has IP where its header ends.
func TestLinks(t *testing.T) {
	ip, ip6 := hot()[14:], slices.Concat([]byte{0x60, 0, 0, 0, 0, 20, 6, 64}, make([]byte, 32), hot()[34:])
	for _, c := range []struct {
		link     LinkType
		ip4, ip6 []byte // headers
	}{
		{Null, []byte{2, 0, 0, 0}, []byte{28, 0, 0, 0}},
		{NullBig, []byte{0, 0, 0, 2}, []byte{0, 0, 0, 24}},
		{Loop, []byte{0, 0, 0, 2}, []byte{0, 0, 0, 30}},
		{PPP, []byte{0xff, 3, 0, 0x21}, []byte{0xff, 3, 0, 0x57}},
		{PPPSerial, []byte{0xff, 3, 0, 0x21}, []byte{0xff, 3, 0, 0x57}},
		{PPPPppd, []byte{1, 3, 0, 0x21}, []byte{0, 3, 0, 0x57}},
		{PPPEther, []byte{0x11, 0, 0, 1, 0, 9, 0, 0x21}, []byte{0x11, 0, 0, 1, 0, 9, 0, 0x57}},
		{IPv4, nil, nil},
		{IPv6, nil, nil},
		{Raw, nil, nil},
	} {
		four, six := cat(c.ip4, ip), cat(c.ip6, ip6)
		both, neither := mustCompile(t, "tcp port 443", c.link), mustCompile(t, "tcp port 80", c.link)
		if c.link != IPv6 && (!both.Match(four, len(four)) || neither.Match(four, len(four))) {
			t.Errorf("%v: the port in IPv4 is not found", c.link)
		}
		if c.link != IPv4 && (!both.Match(six, len(six)) || neither.Match(six, len(six))) {
			t.Errorf("%v: the port in IPv6 is not found", c.link)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		expr string
		link LinkType
		at   string // the word that the error points at; "" for the end
		msg  string
	}{
		{"10.96.0.10", Ethernet, "10.96.0.10", "needs a qualifier"},
		{"tcp and 80", Ethernet, "80", "needs a qualifier"},
		{"foo", Ethernet, "foo", "needs a qualifier"},
		{"host", Ethernet, "", "is missing before the end"},
		{"tcp and", Ethernet, "", "is missing before the end"},
		{"tcp and mask", Ethernet, "mask", "a primitive is missing"},
		{"tcp udp", Ethernet, "udp", `"and" or "or" is missing`},
		{"(tcp or udp", Ethernet, "", `")" is missing`},
		{"tcp)", Ethernet, ")", "cannot stand here"},
		{"host 10.0.0.1 10.0.0.2", Ethernet, "10.0.0.2", "is missing"},
		{"net 10.0.0.1/8", Ethernet, "8", "non-network bits set"},
		{"net 10.0.0.0/33", Ethernet, "33", "<= 32"},
		{"host 10.0.0.0/8", Ethernet, "8", "for networks only"},
		{"host 10.0.0.256", Ethernet, "10.0.0.256", "invalid IPv4 address"},
		{"ip6 net fe80::/129", Ethernet, "129", "<= 128"},
		{"ether host 10.0.0.1", Ethernet, "10.0.0.1", "modifier applied to host"},
		{"host ee:ee:ee:ee:ee:ee", Ethernet, "ee:ee:ee:ee:ee:ee", "ether host"},
		{"icmp port 5", Ethernet, "5", "has no ports"},
		{"port 70000", Ethernet, "70000", "> 65535"},
		{"port nosuchport", Ethernet, "nosuchport", "unknown port"},
		{"host no.such.host.invalid", Ethernet, "no.such.host.invalid", "DNS is not asked"},
		{"port 1.2.3.4", Ethernet, "1.2.3.4", "modifier applied to ip host"},
		{"gateway foo", Ethernet, "foo", "not supported in this"},
		{"ip proto tcp", Ethernet, "tcp", "is missing"},
		{"ip proto \\nosuch", Ethernet, "\\nosuch", "unknown ip proto"},
		{"tcp[0:3] = 1", Ethernet, "tcp[0:3]", "1, 2, or 4"},
		{"esp[0] = 1", Ethernet, "esp", "cannot be indexed"},
		{"tcp[0] & 1", Ethernet, "", "a comparison is missing"},
		{"ip[0] / 0 = 1", Ethernet, "/", "division by zero"},
		{"ip[0] << 32 = 1", Ethernet, "<<", "more than 31 bits"},
		{"inbound", Ethernet, "inbound", "when reading savefiles"},
		{"ifindex 3", LinuxSLL, "ifindex", "when reading savefiles"},
		{"vlan 10", LinuxSLL2, "vlan", "no VLAN support"},
		{"vlan 4096", Ethernet, "vlan", "maximum 4095"},
		{"ether host 1:2:3:4:5:6", Raw, "1:2:3:4:5:6", "ethernet addresses supported only on"},
		{"wlan type mgt", Ethernet, "type", "802.11"},
		{"tcp and lane", Ethernet, "lane", "ATM"},
		{"port 80 ; reboot", Ethernet, ";", "cannot stand here"},
		{"port 09", Ethernet, "09", "octal"},
		{"less 0x100000000", Ethernet, "0x100000000", "32 bits"},
		{"ether host 1:::2:3", Ethernet, "1:::2:", "not an Ethernet address"},
		{"arp and ip", Ethernet, "arp", "rejects all packets"},
		{"llc foo", Ethernet, "foo", "LLC"},
		{strings.Repeat("(", 500) + "tcp" + strings.Repeat(")", 500), Ethernet, "(", "deeper"},
	} {
		_, err := Compile(c.expr, c.link)
		var e *SyntaxError
		if !errors.As(err, &e) {
			t.Errorf("%.40q: %v, not a SyntaxError", c.expr, err)
			continue
		}
		if e.Expr != c.expr || !strings.Contains(e.Msg, c.msg) || !strings.HasPrefix(c.expr[e.Pos:], c.at) || c.at == "" && e.Pos != len(c.expr) {
			t.Errorf("%.40q: %v\n%s\nnot at %q: %s", c.expr, e, e.Caret(), c.at, c.msg)
		}
	}
	if _, err := Compile("tcp", 105); err == nil {
		t.Error("an unknown link type is taken")
	}
}

func TestCaret(t *testing.T) {
	_, err := Compile("host ä\tor tcp", Ethernet)
	var e *SyntaxError
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	if got, want := e.Caret(), "host ä or tcp\n     ^"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
	if got, want := e.Error(), "filter: column 6: 'ä' cannot stand here"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
}

// A packet socket has the outer tag beside the bytes.
func TestMatchMeta(t *testing.T) {
	tagged := slices.Insert(hot(), 12, 0x81, 0x00, 0x00, 10)
	for _, c := range []struct {
		expr string
		data []byte
		meta Meta
		want bool
	}{
		{"vlan", hot(), Meta{}, false},
		{"vlan", hot(), Meta{HasVLAN: true}, true},
		{"vlan 10 and tcp", hot(), Meta{HasVLAN: true, VLANTCI: 0x600a}, true},
		{"vlan 11 and tcp", hot(), Meta{HasVLAN: true, VLANTCI: 0x600a}, false},
		{"vlan 10 and tcp port 443", tagged, Meta{}, true},
		{"vlan 20 and vlan 10 and tcp", tagged, Meta{HasVLAN: true, VLANTCI: 20}, true},
		{"ip6 or ip and vlan 10", hot(), Meta{HasVLAN: true, VLANTCI: 10}, true},
		{"outbound", hot(), Meta{Outgoing: true}, true},
		{"inbound", hot(), Meta{Outgoing: true}, false},
		{"inbound and ifindex 3", hot(), Meta{Ifindex: 3}, true},
		{"ifindex 4", hot(), Meta{Ifindex: 3}, false},
	} {
		f, err := CompileSocket(c.expr, Ethernet)
		if err != nil {
			t.Errorf("%s: %v", c.expr, err)
			continue
		}
		if got := f.MatchMeta(c.data, len(c.data), c.meta); got != c.want {
			t.Errorf("%s with %+v: %v, not %v", c.expr, c.meta, got, c.want)
		}
	}
}

func TestParseProgram(t *testing.T) {
	f := mustCompile(t, "tcp port 443", Ethernet)
	parsed, err := ParseProgram(strings.NewReader(program(f)))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(parsed.Program(), f.Program()) || !parsed.Match(hot(), 74) {
		t.Error("it is another program")
	}
	for text, msg := range map[string]string{
		"":                                    "ends after 0",
		"0\n":                                 "number of instructions",
		"x\n":                                 "number of instructions",
		"-1\n":                                "number of instructions",
		"99999\n":                             "number of instructions",
		"1 1\n6 0 0 1\n":                      "number of instructions",
		"2\n6 0 0 1\n":                        "ends after 1",
		"1\n6 0 0 1\n6 0 0 1\n":               "more than the 1",
		"1\n6 0 0\n":                          "not an instruction",
		"1\n6 0 256 1\n":                      "not an instruction",
		"1\n6 0 0 4294967296\n":               "not an instruction",
		"1\n6 0 0 0x10\n":                     "not an instruction",
		"1\n0 0 0 1\n":                        "does not end in a return",
		"2\n21 0 1 5\n6 0 0 1\n":              "jump out",
		"2\n5 0 0 1\n6 0 0 1\n":               "jump out",
		"2\n5 0 0 4294967295\n6 0 0 1\n":      "jump out",
		"2\n52 0 0 0\n6 0 0 1\n":              "division by 0",
		"2\n100 0 0 32\n6 0 0 1\n":            "shift",
		"2\n2 0 0 16\n6 0 0 1\n":              "words of memory",
		"2\n96 0 0 3\n6 0 0 1\n":              "not have been written",
		"2\n255 0 0 0\n6 0 0 1\n":             "unknown code",
		"2\n32 0 0 4294963220\n6 0 0 1\n":     "load from offset",
		"1\n" + strings.Repeat("6 ", 1000):    "reading",
		"3\n21 1 0 1\n2 0 0 0\n96 0 0 0\n":    "does not end",
		"4\n21 1 0 1\n2 0 0 0\n96 0 0 0\n6 0": "not an instruction",
	} {
		if _, err := ParseProgram(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), msg) {
			t.Errorf("%.40q: %v, not %q", text, err, msg)
		}
	}
}

func TestProgram(t *testing.T) {
	for expr, ok := range map[string]bool{"": true, "tcp": true, "ip protochain 6": false, "ether[-1] = 0": false, "geneve 1 or not ip": false} {
		if got := mustCompile(t, expr, Ethernet).Program() != nil; got != ok {
			t.Errorf("%q: %v, not %v", expr, got, ok)
		}
	}
	f := mustCompile(t, "tcp", Ethernet)
	f.Program()[0].Op = 0
	if !f.Match(hot(), 74) {
		t.Error("Program gives the filter's own instructions")
	}
}

// AH after itself at the same place: libpcap loops for ever.
func TestProtoChainEnds(t *testing.T) {
	packet := make([]byte, 60)
	packet[0], packet[9] = 0x45, ipAH
	packet[20], packet[21] = ipAH, 3 // the next is at 4 * (3 + 2)
	if mustCompile(t, "ip protochain 6", Raw).Match(packet, 60) {
		t.Error("a header was found that is not there")
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	frame := hot()
	f := mustCompile(t, "tcp port 443 and host 10.96.0.1 and tcp[13] & 2 != 0", Ethernet)
	socket, err := CompileSocket("vlan 10 and tcp", Ethernet)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		f.Match(frame, 74)
		socket.MatchMeta(frame, 74, Meta{HasVLAN: true, VLANTCI: 10})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestConcurrent(t *testing.T) {
	f := mustCompile(t, "tcp port 443", Ethernet)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				if !f.Match(hot(), 74) {
					t.Error("not selected")
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkMatch(b *testing.B) {
	for _, expr := range []string{"arp", "tcp port 443", "host 10.96.0.1 and tcp port 443", "host 1.2.3.4 or arp",
		"tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", "(host 10.233.64.5 or host 10.233.65.21) and not port 53"} {
		b.Run(expr, func(b *testing.B) {
			f := mustCompile(b, expr, Ethernet)
			frame := hot()
			for b.Loop() {
				f.Match(frame, 74)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		mustCompile(b, "(host 10.233.64.5 or host 10.233.65.21) and not port 53", Ethernet)
	}
}

// What Compile takes must run: within the bytes, to an end, and as its own text says.
func FuzzCompile(f *testing.F) {
	g := newExprGen(1, Ethernet)
	for range 100 {
		f.Add(g.expr(2), uint8(g.IntN(5)), hot())
	}
	f.Add("geneve 5 and vlan 10 or mpls and pppoes or \\tcp", uint8(0), []byte{})
	links := []LinkType{Ethernet, RawDLT, Raw, LinuxSLL, LinuxSLL2}
	f.Fuzz(func(t *testing.T, expr string, link uint8, data []byte) {
		for _, compile := range []func(string, LinkType) (*Filter, error){Compile, CompileSocket} {
			fi, err := compile(expr, links[int(link)%len(links)])
			if err != nil {
				var e *SyntaxError
				if !errors.As(err, &e) || e.Pos < 0 || e.Pos > len(expr) {
					t.Fatalf("%v", err)
				}
				_ = e.Caret()
				continue
			}
			if len(fi.prog) > maxProgram {
				t.Fatalf("%d instructions", len(fi.prog))
			}
			match := fi.Match(data, len(data))
			if fi.Program() == nil {
				continue
			}
			parsed, err := ParseProgram(strings.NewReader(program(fi)))
			if err != nil || parsed.Match(data, len(data)) != match {
				t.Fatalf("the same program decides differently: %v", err)
			}
		}
	})
}

func FuzzParseProgram(f *testing.F) {
	f.Add("4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n", hot())
	f.Add("3\n128 0 0 0\n22 0 0 0\n6 0 0 0", []byte{1})
	f.Fuzz(func(t *testing.T, text string, data []byte) {
		fi, err := ParseProgram(strings.NewReader(text))
		if err != nil {
			return
		}
		fi.Match(data, len(data))
		fi.MatchMeta(data, len(data), Meta{})
		if again, err := ParseProgram(strings.NewReader(program(fi))); err != nil || !slices.Equal(again.prog, fi.prog) {
			t.Fatalf("it does not read what it wrote: %v", err)
		}
	})
}
