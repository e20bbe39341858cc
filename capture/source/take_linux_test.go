package source

import (
	"math"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/capture/filter"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/internal/pktring"
)

// Which frames of a packet socket are packets that were asked for, without a socket.
func TestTake(t *testing.T) {
	const index, long = 7, 70
	ethernet := &pcapfile.Interface{Name: "a", LinkType: pcapfile.LinkTypeEthernet}
	known := map[socketKey]socketIface{
		{index, true}:     {ethernet, math.MaxInt64},
		{index, false}:    {&pcapfile.Interface{Name: "a", LinkType: pcapfile.LinkTypeRaw}, math.MaxInt64},
		{index + 1, true}: {nil, math.MaxInt64}, // was not asked for
	}
	frame := append([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 6}, make([]byte, long-14)...)
	arrived := pktring.Slot{Data: frame, Len: long, Ifindex: index, Hatype: unix.ARPHRD_ETHER}
	slot := func(change func(*pktring.Slot)) *pktring.Slot {
		s := arrived
		change(&s)
		return &s
	}
	outgoing := func(s *pktring.Slot) { s.PktType = unix.PACKET_OUTGOING }
	for name, c := range map[string]struct {
		o      Options
		cooked bool
		slot   *pktring.Slot
		length int // of the packet; 0: none
	}{
		"one":                 {Options{}, false, &arrived, long},
		"bad":                 {Options{}, false, slot(func(s *pktring.Slot) { s.Bad = true }), 0},
		"another interface":   {Options{}, false, slot(func(s *pktring.Slot) { s.Ifindex++ }), 0},
		"in, arrived":         {Options{Direction: pcapfile.Inbound}, false, &arrived, long},
		"in, sent":            {Options{Direction: pcapfile.Inbound}, false, slot(outgoing), 0},
		"out, arrived":        {Options{Direction: pcapfile.Outbound}, false, &arrived, 0},
		"out, sent":           {Options{Direction: pcapfile.Outbound}, false, slot(outgoing), long},
		"loopback, sent":      {Options{}, false, slot(func(s *pktring.Slot) { s.PktType, s.Hatype = unix.PACKET_OUTGOING, unix.ARPHRD_LOOPBACK }), 0},
		"loopback, arrived":   {Options{}, false, slot(func(s *pktring.Slot) { s.Hatype = unix.ARPHRD_LOOPBACK }), long},
		"filter":              {Options{Filter: "arp"}, false, &arrived, long},
		"filter not":          {Options{Filter: "ip"}, false, &arrived, 0},
		"filter, raw":         {Options{Filter: "arp"}, false, slot(func(s *pktring.Slot) { s.Hatype = unix.ARPHRD_NONE }), 0},
		"outbound":            {Options{Filter: "outbound"}, false, slot(outgoing), long},
		"ifindex":             {Options{Filter: "ifindex 7"}, false, &arrived, long},
		"length":              {Options{Filter: "len = 70"}, false, &arrived, long},
		"length of several":   {Options{Filter: "len = 56"}, true, &arrived, long},
		"tagged":              {Options{Filter: "vlan 5"}, false, slot(func(s *pktring.Slot) { s.Tagged, s.TCI = true, 5 }), long + 4},
		"tagged, another":     {Options{Filter: "vlan 6"}, false, slot(func(s *pktring.Slot) { s.Tagged, s.TCI = true, 5 }), 0},
		"tagged, no filter":   {Options{}, false, slot(func(s *pktring.Slot) { s.Tagged = true }), long + 4},
		"tagged, no Ethernet": {Options{}, false, slot(func(s *pktring.Slot) { s.Tagged, s.Hatype = true, unix.ARPHRD_NONE }), long},
		"cut":                 {Options{SnapLen: 20}, false, &arrived, long},
	} {
		live, err := filter.CompileLive(c.o.Filter)
		if err != nil {
			t.Fatal(err)
		}
		if c.o.SnapLen == 0 {
			c.o.SnapLen = pcapfile.MaxSnapLen
		}
		s := &socket{o: &c.o, filter: live, cooked: c.cooked, ifaces: known, scratch: make([]byte, 256)}
		var p pcapfile.Packet
		taken := s.take(&p, c.slot)
		if taken != (c.length > 0) || taken && (int(p.Len) != c.length || len(p.Data) != min(c.length, c.o.SnapLen)) {
			t.Errorf("%s: %v, %d bytes, %d of them there", name, taken, p.Len, len(p.Data))
		}
		if taken && (p.Flags.Direction() == pcapfile.Outbound) != (c.slot.PktType == unix.PACKET_OUTGOING) {
			t.Errorf("%s: %v", name, p.Flags.Direction())
		}
	}
}
