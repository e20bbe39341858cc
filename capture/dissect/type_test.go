package dissect_test

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"proxyarpd/capture/dissect"
	"proxyarpd/internal/nstest"
)

// forced are payloads of types of -T, on ports that do not tell what they are.
var forced = []generator{
	{name: "carp", proto: 112, make: makeCARP},
	{name: "domain", proto: 17, port: 9999, make: makeDNS},
	{name: "domain", proto: 6, port: 9999, make: makeDNSOverTCP},
	{name: "lmp", proto: 17, port: 9999, make: makeBytes(0, 40)},
	{name: "pgm", proto: 17, port: 9999, make: makeBytes(0, 40)},
	{name: "ptp", proto: 17, port: 9999, make: makePTP},
	{name: "radius", proto: 17, port: 9999, make: makeRADIUS},
	{name: "resp", proto: 6, port: 9999, make: makeRESP},
	{name: "resp", proto: 17, port: 9999, make: makeRESP},
	{name: "snmp", proto: 17, port: 9999, make: makeSNMP},
	{name: "snmp", proto: 6, port: 9999, make: makeSNMP},
	{name: "someip", proto: 17, port: 9999, make: makeBytes(0, 40)},
	{name: "tftp", proto: 17, port: 9999, make: makeTFTP},
	{name: "vat", proto: 17, port: 9999, make: makeBytes(0, 20)},
	{name: "vxlan", proto: 17, port: 8472, make: makeVXLAN},
}

func makeCARP(r *rand.Rand) []byte {
	b := join([]byte{oneOf[byte](r, 0x21, 0x21, 0x21, 0x22, 0x31), 1, 0, 7, 0, 1, 0, 0}, someBytes(r, 28))
	if r.IntN(3) > 0 {
		binary.BigEndian.PutUint16(b[6:], sum(b))
	}
	return b
}

func makeRESP(r *rand.Rand) []byte {
	return []byte(oneOf(r, "+OK\r\n", "*2\r\n$3\r\nGET\r\n$1\r\na\r\n", "-ERR no\r\n", ":7\r\n", "PING\r\n", "$-1\r\n", ""))
}

func makeVXLAN(r *rand.Rand) []byte {
	g := generator{proto: 17, port: 53, make: makeDNS}
	inner := g.packet(r)
	return join([]byte{0x08, 0, 0, 0, 0, 0, 7, 0}, inner.Data)
}

// TestTypes compares -T with the installed tcpdump's, for what it names and what it does not.
func TestTypes(t *testing.T) {
	nstest.NeedTcpdump(t)
	for _, name := range dissect.Types {
		for _, a := range []struct {
			args string
			o    dissect.Options
		}{
			{"-nn", dissect.Options{Numeric: 2}},
			{"-nn -q", dissect.Options{Numeric: 2, Quiet: 1}},
			{"-nn -e -vv", dissect.Options{Numeric: 2, Link: true, Verbose: 2}},
		} {
			if a.o.Verbose > 0 && slices.Contains([]string{"radius", "lmp", "pgm"}, name) {
				continue // one line is all that is printed of it
			}
			var sets []made
			for i, g := range forced {
				n := 100
				if g.name != name {
					if n = 20; a.args != "-nn" {
						continue
					}
				}
				sets = append(sets, made{g.name, g.packets(uint64(i), n)})
			}
			a.o.TimeStamp, a.o.Type = 2, name
			for i, same := range sameAsTcpdump(t, a.args+" -T "+name, a.o, sets...) {
				if n := len(sets[i].packets); same < n {
					t.Errorf("%s %s -T %s: %d of %d packets are as tcpdump prints them", sets[i].name, a.args, name, same, n)
				}
			}
		}
	}
}

// TestRarePrinting compares -b and -u with the installed tcpdump's.
func TestRarePrinting(t *testing.T) {
	nstest.NeedTcpdump(t)
	for i, g := range generators {
		if g.name != "bgp" && g.name != "nfs" && g.name != "nfs over tcp" {
			continue
		}
		for verbose := range 3 {
			const n = 500
			o := dissect.Options{Numeric: 2, TimeStamp: 2, Verbose: verbose, ASDot: true, RawHandles: true}
			args := "-nn -b -u" + []string{"", " -v", " -vv"}[verbose]
			same := sameAsTcpdump(t, args, o, made{g.name, g.packets(uint64(i), n)})[0]
			if same < n*99/100 { // a few have what is not printed here, with -b or without
				t.Errorf("%s %s: %d of %d packets are as tcpdump prints them", g.name, args, same, n)
			}
		}
	}
}
