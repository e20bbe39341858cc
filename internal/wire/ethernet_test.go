package wire_test

import (
	"encoding/json"
	"net"
	"testing"

	"proxyarpd/internal/wire"
)

func TestParseMAC(t *testing.T) {
	for _, c := range []struct {
		in   string
		want wire.MAC
		ok   bool
	}{
		{"ee:ee:ee:ee:ee:ee", wire.MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}, true},
		{"02:4f:a9:0D:Fc:98", wire.MAC{0x02, 0x4f, 0xa9, 0x0d, 0xfc, 0x98}, true},
		{"00:00:00:00:00:00", wire.MAC{}, true},
		{"", wire.MAC{}, false},
		{"02:4f:a9:0d:fc:9", wire.MAC{}, false},
		{"02:4f:a9:0d:fc:98:", wire.MAC{}, false},
		{"02-4f-a9-0d-fc-98", wire.MAC{}, false},
		{"02:4f:a9:0d:fc-98", wire.MAC{}, false},
		{"024f.a90d.fc98.00", wire.MAC{}, false},
		{"02:4g:a9:0d:fc:98", wire.MAC{}, false},
		{"02:4f:a9:0d:fc:/8", wire.MAC{}, false},
		{"02:4f:a9:0d:fc:9`", wire.MAC{}, false},
		{"02:4f:a9:0d:fc:@8", wire.MAC{}, false},
	} {
		m, err := wire.ParseMAC(c.in)
		if m != c.want || (err == nil) != c.ok {
			t.Errorf("%q: %v, %v", c.in, m, err)
		}
		if c.ok && m.String() != net.HardwareAddr(m[:]).String() {
			t.Errorf("%q is printed as %v", c.in, m)
		}
	}
}

func TestMACText(t *testing.T) {
	type doc struct{ MAC wire.MAC }
	in := doc{wire.MAC{2, 0, 0, 0, 0xab, 1}}
	b, err := json.Marshal(in)
	if err != nil || string(b) != `{"MAC":"02:00:00:00:ab:01"}` {
		t.Fatalf("%s, %v", b, err)
	}
	var out doc
	if err := json.Unmarshal(b, &out); err != nil || out != in {
		t.Errorf("%v, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"MAC":"02:00"}`), &out); err == nil || out != in {
		t.Errorf("of half a MAC: %v, %v", out, err)
	}
}

func TestMACKinds(t *testing.T) {
	for _, c := range []struct {
		m           wire.MAC
		group, zero bool
	}{
		{wire.Broadcast, true, false},
		{wire.MAC{1, 0, 0x5e, 0, 0, 1}, true, false},
		{wire.MAC{2, 0, 0, 0, 0, 1}, false, false}, // locally administered
		{wire.MAC{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff}, false, false},
		{wire.MAC{0, 0, 0, 0, 0, 1}, false, false},
		{wire.MAC{2}, false, false},
		{wire.MAC{}, false, true},
	} {
		if c.m.IsMulticast() != c.group || c.m.IsZero() != c.zero {
			t.Errorf("%v: group %t, zero %t", c.m, c.m.IsMulticast(), c.m.IsZero())
		}
	}
}

func TestEthernet(t *testing.T) {
	b := make([]byte, wire.EthernetLen+3)
	for n := range b {
		if got, want := wire.Ethernet(b[:n]).Valid(), n >= wire.EthernetLen; got != want {
			t.Errorf("%d bytes: %t", n, got)
		}
	}
	dst, src := wire.MAC{1, 2, 3, 4, 5, 6}, wire.MAC{7, 8, 9, 10, 11, 12}
	e := wire.Ethernet(b)
	e.SetDst(dst)
	e.SetSrc(src)
	e.SetType(wire.EtherTypeARP)
	copy(e.Payload(), "abc")
	if want := "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x08\x06abc"; string(b) != want {
		t.Errorf("%x, want %x", b, want)
	}
	if e.Dst() != dst || e.Src() != src || e.Type() != wire.EtherTypeARP {
		t.Errorf("from %v to %v, type %x", e.Src(), e.Dst(), e.Type())
	}
}
