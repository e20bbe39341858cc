package forward

import (
	"slices"
	"testing"

	"proxyarpd/forward/route"
)

// Every frame of a known interface gives its place in the ring back, in
// particular one of which nothing else is known than that it was lost.
func TestSlotOfEveryFrame(t *testing.T) {
	table := testBuilder(route.Policy{}).Publish()
	good := packet("10.65.0.1", "10.65.0.2", 20)
	for name, f := range map[string]Frame{
		"forwarded":    {Buf: good, Ethernet: true},
		"no route":     {Buf: packet("10.65.0.1", "10.99.0.2", 20), Ethernet: true},
		"empty":        {Buf: make([]byte, VnetLen), Ethernet: true},
		"tagged":       {Buf: good, Ethernet: true, Tagged: true},
		"a bad slot":   {Lost: route.DropGSO},
		"copy missing": {Buf: good[:VnetLen+14], Ethernet: true, Lost: route.DropNoMem},
	} {
		f.Ifindex = ifPod1
		var r result
		if step(table, &f, &r); f.Slot != 1 || f.Lost != route.NotSpecified && r.Verdict != f.Lost {
			t.Errorf("%s: slot %d, want 1; verdict %v", name, f.Slot, r.Verdict)
		}
	}
}

// What waited too long in a ring that nobody read is lost where the kernel had
// what came behind it, and nowhere else.
func TestLateFrame(t *testing.T) {
	for _, kernel := range []bool{false, true} {
		b := testBuilder(route.Policy{})
		in := *b.Publish().Link(ifPod1)
		if kernel {
			in.Flags |= route.LinkKernelForwards
		}
		b.SetLink(in)
		table := b.Publish()
		want := route.Forward
		if kernel {
			want = route.DropStalled
		}
		f := Frame{Buf: packet("10.65.0.1", "10.65.0.2", 20), Ethernet: true, Ifindex: ifPod1, Late: true}
		var r result
		if step(table, &f, &r); r.Verdict != want || f.Slot != 1 || r.ICMP.Type != 0 {
			t.Errorf("the kernel forwards: %t: %v, slot %d, ICMP %d", kernel, r.Verdict, f.Slot, r.ICMP.Type)
		}
	}
}

// The kernel may forward one family and not the other.
func TestLateFrameOfFamily(t *testing.T) {
	for _, c := range []struct {
		flags  route.LinkFlags
		v4, v6 route.Verdict
	}{
		{0, route.Forward, route.Forward},
		{route.LinkKernelForwards, route.DropStalled, route.Forward},
		{route.LinkKernelForwards6, route.Forward, route.DropStalled},
	} {
		b := builder6(route.Policy{})
		in := *b.Publish().Link(ifPod1)
		in.Flags |= c.flags
		b.SetLink(in)
		table := b.Publish()
		for _, p := range []struct {
			buf  []byte
			want route.Verdict
		}{{packet("10.65.0.1", "10.65.0.2", 20), c.v4}, {packet6("2001:db8::1", "2001:db8::2", 20), c.v6}} {
			f := Frame{Buf: p.buf, Ethernet: true, Ifindex: ifPod1, Late: true}
			var r result
			if step(table, &f, &r); r.Verdict != p.want {
				t.Errorf("flags %b, IPv6 %t: %v, want %v", c.flags, r.v6, r.Verdict, p.want)
			}
			f = Frame{Buf: p.buf, Ethernet: true, Ifindex: ifPod1, Received: 77}
			s := &sink{}
			l := NewLoop(s, Options{})
			l.Publish(table)
			l.turn.begin(nil)
			l.handle(&f, 0)
			l.emit.flush()
			want := int64(0)
			if p.want == route.DropStalled {
				want = 77
			}
			if !slices.Equal(s.received, []int64{want}) {
				t.Errorf("flags %b, IPv6 %t: sent as received at %v, want %d", c.flags, f.isIPv6(), s.received, want)
			}
		}
	}
}

// sink keeps when what it was given to send had come in.
type sink struct {
	Conn
	received []int64
}

func (s *sink) Send(out []Out) {
	for i := range out {
		s.received = append(s.received, out[i].Received)
		out[i].Err = route.Forward
	}
}

// The Conn learns when a frame came in where the kernel forwards, too, and of
// nothing else: errors and what it could not give to the kernel are always sent.
func TestReceivedOfOut(t *testing.T) {
	b := testBuilder(route.Policy{})
	in := *b.Publish().Link(ifPod1)
	in.Flags |= route.LinkKernelForwards
	b.SetLink(in)
	s := &sink{}
	l := NewLoop(s, Options{})
	l.Publish(b.Publish())
	l.turn.begin(nil)
	for _, f := range []Frame{
		{Buf: packet("10.65.0.1", "10.65.0.2", 20), Ethernet: true, Ifindex: ifPod1, Received: 77},
		{Buf: packet("10.65.0.1", "10.65.0.2", 20, ttl(1)), Ethernet: true, Ifindex: ifPod1, Received: 78},
		{Buf: packet("10.65.0.2", "10.65.0.1", 20), Ethernet: true, Ifindex: ifPod2, Received: 79},
	} {
		l.handle(&f, 0)
	}
	l.emit.flush()
	if want := []int64{77, 0, 0}; !slices.Equal(s.received, want) {
		t.Errorf("received %v, want %v", s.received, want)
	}
}
