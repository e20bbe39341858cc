package source_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"proxyarpd/capture"
	"proxyarpd/capture/filter"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/capture/source"
	"proxyarpd/capture/source/sourcetest"
)

var (
	forwarded = capture.Verdict{Kind: capture.Forward, ID: 1, Out: "cali2"}
	failed    = capture.Verdict{Kind: capture.Drop, Reason: "NEIGH_FAILED", ID: 2, Out: "ens1", Via: netip.MustParseAddr("10.0.0.3"), Route: netip.MustParsePrefix("10.0.0.0/24")}
	malformed = capture.Verdict{Kind: capture.Drop, Reason: "IP_INHDR", ID: 3}
)

// scene is what the daemon of the tests has seen; as a daemon it sends what was asked for.
func scene(s *sourcetest.Session) {
	s.Interface("cali1", 7)
	s.Interface("cali2", 8)
	if !s.Request.Drops {
		s.Packet(0, sourcetest.UDP(2), &forwarded)
	}
	s.Packet(0, sourcetest.UDP(3), &failed)
	s.Packet(1, sourcetest.UDP(4), &malformed)
	s.Statistics(1, 1, 0, 0, true)
	s.Statistics(0, 2, 5, 1, true)
}

// sandbox is a testing.TB for what is made before tests run.
type sandbox struct {
	testing.TB
	undo []func()
}

func (b *sandbox) Helper()             {}
func (b *sandbox) Fatal(args ...any)   { panic(fmt.Sprint(args...)) }
func (b *sandbox) Cleanup(undo func()) { b.undo = append(b.undo, undo) }

// withExamples makes what the examples read.
func withExamples(run func() int) int {
	box := &sandbox{}
	defer func() {
		for _, undo := range box.undo {
			undo()
		}
	}()
	control = sourcetest.Serve(box, capture.Reply{}, scene)
	captured = filepath.Join(filepath.Dir(control), "captured.pcapng")
	if err := os.WriteFile(captured, sourcetest.File(box, scene), 0o600); err != nil {
		panic(err)
	}
	return run()
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func written(t *testing.T, b []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// all reads a source to its end.
func all(s source.Source) (packets []*source.Ancillary, infos []gopacket.CaptureInfo, err error) {
	for {
		data, info, err := s.ReadPacketData()
		if err != nil {
			return packets, infos, err
		}
		a := source.AncillaryOf(info)
		if !bytes.Equal(a.Data, data) {
			return packets, infos, errors.New("Ancillary has other data")
		}
		packets, infos = append(packets, a), append(infos, info)
	}
}

// reasons are those of packets, one a word; a packet that is there again has a +.
func reasons(packets []*source.Ancillary) string {
	var b []string
	for _, a := range packets {
		word := "none"
		if a.Verdict != nil {
			word = a.Verdict.Kind
			if a.Verdict.Reason != "" {
				word = a.Verdict.Reason
			}
		}
		if a.Again {
			word += "+"
		}
		b = append(b, word)
	}
	return strings.Join(b, " ")
}

// What a daemon says of a packet is in the ancillary data, and what gopacket has a place for in CaptureInfo.
func TestDial(t *testing.T) {
	asked := make(chan capture.Request, 1)
	path := sourcetest.Serve(t, capture.Reply{Interfaces: []string{"cali1"}, HostTraffic: true}, func(s *sourcetest.Session) {
		asked <- s.Request
		scene(s)
	})
	s := must[*source.Stream](t)(source.Dial(t.Context(), path, source.Options{Interfaces: []string{"cali1"}, Filter: "udp", SnapLen: 96,
		Direction: pcapfile.Inbound, Reasons: []string{"*"}, Buffer: 1 << 20}))
	defer s.Close()
	want := capture.Request{Interfaces: []string{"cali1"}, Filter: "udp", Snap: 96, Direction: "in", Reasons: []string{"*"}, Buffer: 1 << 20, Promiscuous: true}
	if got := <-asked; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("asked %+v, not %+v", got, want)
	}
	if r := s.Reply(); !r.HostTraffic || len(r.Interfaces) != 1 {
		t.Errorf("%+v", r)
	}
	packets, infos, err := all(s)
	if err != io.EOF || s.Err() != nil || reasons(packets) != "forward NEIGH_FAILED IP_INHDR" {
		t.Fatalf("%s, %v, %v", reasons(packets), err, s.Err())
	}
	a, ci := packets[1], infos[1]
	if v := a.Verdict; v.Out != "ens1" || v.ID != 2 || v.Via != failed.Via || v.Route != failed.Route {
		t.Errorf("%+v", v)
	}
	if a.Interface.Name != "cali1" || a.Flags.Direction() != pcapfile.Inbound || a.LinkType != pcapfile.LinkTypeEthernet {
		t.Errorf("%+v", a.Packet)
	}
	if ci.InterfaceIndex != 7 || infos[2].InterfaceIndex != 8 || ci.CaptureLength != 47 || ci.Length != 47 || ci.Timestamp.UnixNano() != sourcetest.Time+1e6 {
		t.Errorf("%+v", ci)
	}
	if st := s.Statistics(); st != (source.Statistics{Received: 3, Dropped: 5, Lost: 1, Verdicts: 3}) {
		t.Errorf("%+v", st)
	}
	if len(s.Interfaces()) != 2 || s.Interfaces()[1].Name != "cali2" {
		t.Errorf("%d interfaces", len(s.Interfaces()))
	}
}

// What is asked for by options is what the daemon is asked for.
func TestRequests(t *testing.T) {
	asked := make(chan capture.Request, 1)
	path := sourcetest.Serve(t, capture.Reply{}, func(s *sourcetest.Session) { asked <- s.Request })
	for _, c := range []struct {
		o    source.Options
		want capture.Request
	}{
		{source.Options{}, capture.Request{Interfaces: []string{"any"}, Snap: pcapfile.MaxSnapLen}},
		{source.Options{Interfaces: []string{"a"}, Direction: pcapfile.Outbound, NoPromiscuous: true}, capture.Request{Interfaces: []string{"a"}, Snap: pcapfile.MaxSnapLen, Direction: "out"}},
		{source.Options{Interfaces: []string{"a", "b"}, Drops: true, SnapLen: 1 << 30}, capture.Request{Interfaces: []string{"a", "b"}, Snap: pcapfile.MaxSnapLen, Drops: true}},
		{source.Options{Interfaces: []string{"a*"}, SnapLen: 1}, capture.Request{Interfaces: []string{"a*"}, Snap: 1}},
	} {
		s := must[*source.Stream](t)(source.Dial(t.Context(), path, c.o))
		if got := <-asked; fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%+v\nasked %+v\n not  %+v", c.o, got, c.want)
		}
		s.Close()
	}
}

// Why nothing can be captured through a daemon.
func TestDialErrors(t *testing.T) {
	_, err := source.Dial(t.Context(), filepath.Join(t.TempDir(), "none"), source.Options{})
	if !errors.Is(err, capture.ErrNoDaemon) {
		t.Error(err)
	}
	var bad capture.BadExpression
	if _, err := source.Dial(t.Context(), sourcetest.Refuse(t, "syntax error", true), source.Options{}); !errors.As(err, &bad) || bad != "syntax error" {
		t.Error(err)
	}
	if _, err := source.Dial(t.Context(), sourcetest.Refuse(t, "8 captures are under way", false), source.Options{}); err == nil || errors.As(err, &bad) || err.Error() != "8 captures are under way" {
		t.Error(err)
	}
	for _, o := range []source.Options{{Interfaces: []string{"["}}, {Reasons: []string{"["}}} {
		if _, err := source.Dial(t.Context(), control, o); err == nil {
			t.Errorf("%+v is no error", o)
		}
	}
	silent := sourcetest.Answer(t, func(s *sourcetest.Session) { s.Told() })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := source.Dial(ctx, silent, source.Options{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	headless := sourcetest.Answer(t, func(s *sourcetest.Session) {
		s.Write([]byte(`{"capture":{}}` + "\n"))
		s.Told()
	})
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := source.Dial(ctx, headless, source.Options{}); err == nil {
		t.Error("a stream without a header has begun")
	}
}

// How a daemon's stream ends.
func TestStreamEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*sourcetest.Session)
		want error
		says string
	}{
		"whole":      {func(s *sourcetest.Session) { s.Statistics(0, 1, 0, 0, true) }, io.EOF, "EOF"},
		"killed":     {func(*sourcetest.Session) {}, source.ErrHungUp, "hung up"},
		"asked":      {func(s *sourcetest.Session) { s.Statistics(0, 1, 0, 0, false) }, source.ErrHungUp, "hung up"},
		"cut":        {func(s *sourcetest.Session) { s.Write([]byte{6, 0, 0, 0, 100}) }, source.ErrHungUp, "hung up"},
		"rubbish":    {func(s *sourcetest.Session) { s.Write(bytes.Repeat([]byte{6}, 100)) }, source.ErrHungUp, "hung up"},
		"gone":       {func(s *sourcetest.Session) { s.End(capture.Disappeared); s.Statistics(0, 1, 0, 0, true) }, source.ErrDisappeared, "a, b: The interface disappeared"},
		"other":      {func(s *sourcetest.Session) { s.End("why not"); s.Statistics(0, 1, 0, 0, true) }, nil, "a, b: why not"},
		"gone, both": {func(s *sourcetest.Session) { s.End("why not"); s.End(capture.Disappeared) }, source.ErrDisappeared, ""},
	} {
		path := sourcetest.Serve(t, capture.Reply{}, func(s *sourcetest.Session) {
			s.Interface("cali1", 7)
			s.Packet(0, sourcetest.UDP(2), nil)
			c.end(s)
		})
		s := must[*source.Stream](t)(source.Dial(t.Context(), path, source.Options{Interfaces: []string{"a", "b"}}))
		packets, _, err := all(s)
		if len(packets) != 1 || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %d packets, %v", name, len(packets), err)
		}
		if sticky := s.Err(); (sticky == nil) != (err == io.EOF) || sticky != nil && sticky != err {
			t.Errorf("%s: Err is %v", name, sticky)
		}
		if _, _, err := s.ReadPacketData(); err != io.EOF { // what gopacket's channel ends by
			t.Errorf("%s: then %v", name, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Stop has the daemon say its last.
func TestStreamStop(t *testing.T) {
	path := sourcetest.Serve(t, capture.Reply{}, func(s *sourcetest.Session) {
		s.Interface("cali1", 7)
		s.Packet(0, sourcetest.UDP(2), nil)
		if s.Told() != 0 {
			return
		}
		s.Packet(0, sourcetest.UDP(3), nil)
		s.Statistics(0, 2, 0, 0, true)
	})
	s := must[*source.Stream](t)(source.Dial(t.Context(), path, source.Options{}))
	defer s.Close()
	if _, _, err := s.ZeroCopyReadPacketData(); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(5*time.Millisecond, s.Stop)
	s.Statistics() // while a read waits
	if packets, _, err := all(s); len(packets) != 1 || err != io.EOF {
		t.Errorf("%d packets, %v", len(packets), err)
	}
	s.Stop()
}

// Close ends a read that waits, of each source.
func TestClose(t *testing.T) {
	hungUp := make(chan bool, 1)
	path := sourcetest.Serve(t, capture.Reply{}, func(s *sourcetest.Session) { hungUp <- s.Told() == 0 && s.HungUp() })
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	feed := must[*os.File](t)(os.OpenFile(fifo, os.O_RDWR, 0))
	defer feed.Close()
	b := sourcetest.File(t, func(s *sourcetest.Session) {
		s.Interface("cali1", 7)
		s.Packet(0, sourcetest.UDP(2), nil)
	})
	if _, err := feed.Write(b); err != nil {
		t.Fatal(err)
	}
	stream := must[*source.Stream](t)(source.Dial(t.Context(), path, source.Options{}))
	file := must[*source.File](t)(source.OpenFile(t.Context(), fifo, source.Options{}))
	for _, s := range []source.Source{stream, file} {
		time.AfterFunc(5*time.Millisecond, func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		if packets, _, err := all(s); err != io.EOF || s.Err() != nil || len(packets) > 1 {
			t.Errorf("%T: %d packets, %v, %v", s, len(packets), err, s.Err())
		}
		if err := s.Close(); err != nil {
			t.Errorf("%T: %v", s, err)
		}
		if _, _, err := s.ZeroCopyReadPacketData(); err != io.EOF {
			t.Errorf("%T: %v", s, err)
		}
		s.Stop()
		s.Statistics()
	}
	if !<-hungUp {
		t.Error("the daemon still has the session")
	}
	if _, err := feed.Write(b); err != nil {
		t.Fatal(err)
	}
	file = must[*source.File](t)(source.OpenFile(t.Context(), fifo, source.Options{}))
	defer file.Close()
	time.AfterFunc(5*time.Millisecond, file.Stop)
	if packets, _, err := all(file); err != io.EOF || len(packets) > 1 {
		t.Errorf("Stop: %d packets, %v", len(packets), err)
	}
}

// A file that is not fed is opened no longer than until ctx ends.
func TestOpenFileContext(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	feed := must[*os.File](t)(os.OpenFile(fifo, os.O_RDWR, 0))
	defer feed.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(5*time.Millisecond, cancel)
	if _, err := source.OpenFile(ctx, fifo, source.Options{}); !errors.Is(err, os.ErrClosed) || !strings.HasPrefix(err.Error(), fifo+": ") {
		t.Error(err)
	}
}

// Statistics that are asked for come with the packets.
func TestAskStatistics(t *testing.T) {
	path := sourcetest.Serve(t, capture.Reply{}, func(s *sourcetest.Session) {
		s.Interface("cali1", 7)
		s.Interface("cali2", 8)
		for n := uint64(1); s.Told() == capture.AskStatistics; n++ {
			s.Packet(0, sourcetest.UDP(2), &forwarded)
			s.Statistics(1, 10, 0, 0, false)
			s.Statistics(0, n, 1, 1, false)
		}
		s.Statistics(1, 10, 0, 0, false)
		s.Statistics(0, 8, 1, 1, false) // that nobody asked for any more
		s.Statistics(0, 9, 1, 1, true)
	})
	s := must[*source.Stream](t)(source.Dial(t.Context(), path, source.Options{}))
	defer s.Close()
	var told []source.Statistics
	for range 2 { // the second waits for the answer to the first
		s.AskStatistics(func(st source.Statistics) { told = append(told, st) })
	}
	time.AfterFunc(10*time.Millisecond, s.Stop)
	if packets, _, err := all(s); err != io.EOF || len(packets) != 1 {
		t.Fatalf("%d packets, %v", len(packets), err)
	}
	want := source.Statistics{Received: 11, Dropped: 1, Lost: 1, Verdicts: 1}
	if len(told) != 2 || told[0] != want || told[1] != want {
		t.Errorf("%+v", told)
	}
}

// Idle is called before a read waits, and its error ends the source as it is.
func TestIdle(t *testing.T) {
	wake := make(chan bool)
	path := sourcetest.Serve(t, capture.Reply{}, func(s *sourcetest.Session) {
		s.Interface("cali1", 7)
		s.Packet(0, sourcetest.UDP(2), nil)
		<-wake
		s.Packet(0, sourcetest.UDP(3), nil)
		<-wake
	})
	full := errors.New("disk full")
	got := 0
	s := must[*source.Stream](t)(source.Dial(t.Context(), path, source.Options{Idle: func() error {
		switch got {
		case 1:
			select {
			case wake <- true:
			case <-time.After(10 * time.Second):
			}
		case 2:
			return full
		}
		return nil
	}}))
	defer s.Close()
	for ; ; got++ {
		if _, _, err := s.ZeroCopyReadPacketData(); err != nil {
			if err != full || got != 2 || s.Err() != full {
				t.Errorf("%v after %d packets", err, got)
			}
			break
		}
	}
	close(wake)
	called := 0
	f := must[*source.File](t)(source.OpenFile(t.Context(), captured, source.Options{Idle: func() error { called++; return full }}))
	defer f.Close()
	if packets, _, err := all(f); err != io.EOF || called != 0 {
		t.Errorf("%d packets of a regular file, %v, and Idle was called %d times", len(packets), err, called)
	}
}

// A file's packets are selected as a daemon's are.
func TestFileSelection(t *testing.T) {
	queued, later := capture.Verdict{Kind: capture.Queue, ID: 9}, capture.Verdict{Kind: capture.Drop, Reason: "NEIGH_FAILED", ID: 9, Again: true}
	name := written(t, sourcetest.File(t, func(s *sourcetest.Session) {
		s.Interface("cali1", 7)
		s.Packet(0, sourcetest.UDP(2), &forwarded)
		s.Packet(0, sourcetest.UDP(3), &malformed)
		s.Packet(0, sourcetest.UDP(4), nil)
		s.Packet(0, sourcetest.UDP(5), &queued)
		s.Packet(0, sourcetest.UDP(5), &later)
	}))
	for _, c := range []struct {
		o        source.Options
		want     string
		verdicts uint64
	}{
		{source.Options{}, "forward IP_INHDR none queue NEIGH_FAILED+", 4},
		{source.Options{Drops: true}, "IP_INHDR NEIGH_FAILED", 4},
		{source.Options{Drops: true, Reasons: []string{"NEIGH*"}}, "NEIGH_FAILED", 4},
		{source.Options{Reasons: []string{"forward", "IP*"}}, "forward IP_INHDR", 4},
		{source.Options{Reasons: []string{"*"}}, "forward IP_INHDR queue NEIGH_FAILED+", 4},
		{source.Options{Reasons: []string{"?"}}, "", 4},
		{source.Options{Reasons: []string{""}}, "", 4}, // what has no reason is not asked for by it
		{source.Options{NoVerdicts: true}, "none none none none none+", 0},
		{source.Options{NoVerdicts: true, Drops: true}, "IP_INHDR NEIGH_FAILED", 4},
		{source.Options{Filter: "dst host 10.0.0.3 or dst host 10.0.0.4"}, "IP_INHDR none", 4},
		{source.Options{Filter: "dst host 10.0.0.3", Drops: true}, "IP_INHDR", 4},
		{source.Options{Filter: "arp"}, "", 4},
		{source.Options{Direction: pcapfile.Inbound}, "forward IP_INHDR none queue NEIGH_FAILED+", 4},
		{source.Options{Direction: pcapfile.Outbound}, "", 4},
	} {
		f := must[*source.File](t)(source.OpenFile(t.Context(), name, c.o))
		packets, _, err := all(f)
		if got := reasons(packets); got != c.want || err != io.EOF {
			t.Errorf("%+v: %q, not %q; %v", c.o, got, c.want, err)
		}
		if n := f.Statistics().Verdicts; n != c.verdicts {
			t.Errorf("%+v: %d verdicts", c.o, n)
		}
		f.Close()
	}
	f := must[*source.File](t)(source.OpenFile(t.Context(), name, source.Options{SnapLen: 20}))
	defer f.Close()
	data, ci, err := f.ZeroCopyReadPacketData()
	if err != nil || len(data) != 20 || cap(data) != 20 || ci.CaptureLength != 20 || ci.Length != 47 {
		t.Errorf("%d bytes, %+v, %v", len(data), ci, err)
	}
	if err := f.SetFilter("nonsense [", filter.Options{}); !errors.As(err, new(capture.BadExpression)) {
		t.Error(err)
	}
	f.SetProgram(must[*filter.Filter](t)(filter.Compile("dst host 10.0.0.4", filter.Ethernet)))
	if packets, _, _ := all(f); reasons(packets) != "none" {
		t.Errorf("a program selects %q", reasons(packets))
	}
}

// What a file says of itself, and what is none.
func TestFile(t *testing.T) {
	f := must[*source.File](t)(source.OpenFile(t.Context(), captured, source.Options{}))
	if f.Format() != pcapfile.Pcapng || f.Section().Application != "proxyarpd test" || f.First().Name != "cali1" || f.LinkType() != pcapfile.LinkTypeEthernet {
		t.Errorf("%v %+v %+v", f.Format(), f.Section(), f.First())
	}
	if n := len(f.Interfaces()); n != 2 {
		t.Errorf("%d interfaces before the first packet", n)
	}
	f.AskStatistics(func(source.Statistics) { t.Error("a file was asked") })
	f.Stop()
	if _, _, err := f.ReadPacketData(); err != io.EOF {
		t.Errorf("after Stop: %v", err)
	}
	f.Close()
	f = must[*source.File](t)(source.OpenFile(t.Context(), captured, source.Options{}))
	all(f)
	if st := f.Statistics(); st.Received != 3 || st.Dropped != 5 || st.Lost != 1 {
		t.Errorf("%+v", st)
	}
	f.Close()
	f = must[*source.File](t)(source.OpenFile(t.Context(), written(t, sourcetest.File(t, func(s *sourcetest.Session) {
		s.Interface("cali1", 7)
		s.Interface("cali2", 8)
		s.Statistics(0, 2, 0, 0, true)
		s.Statistics(1, 3, 0, 0, true) // behind the first interface's
	})), source.Options{}))
	all(f)
	if st := f.Statistics(); st.Received != 5 {
		t.Errorf("%+v", st)
	}
	f.Close()
	raw := pcapfile.AppendSectionHeader(nil, &pcapfile.Section{})
	empty := must[*source.File](t)(source.OpenFile(t.Context(), written(t, raw), source.Options{}))
	if empty.LinkType() != pcapfile.LinkTypeEthernet {
		t.Error(empty.LinkType())
	}
	empty.Close()
	raw = pcapfile.AppendInterface(raw, &pcapfile.Interface{LinkType: pcapfile.LinkTypeRaw})
	empty = must[*source.File](t)(source.OpenFile(t.Context(), written(t, raw), source.Options{}))
	if empty.LinkType() != pcapfile.LinkTypeRaw {
		t.Error(empty.LinkType())
	}
	empty.Close()
	if _, err := source.OpenFile(t.Context(), filepath.Join(t.TempDir(), "gone"), source.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	name := written(t, []byte("no capture file"))
	if _, err := source.OpenFile(t.Context(), name, source.Options{}); err == nil || err.Error() != name+": unknown file format" {
		t.Error(err)
	}
	if _, err := source.OpenFile(t.Context(), captured, source.Options{Filter: "host ["}); !errors.As(err, new(capture.BadExpression)) {
		t.Error(err)
	}
	if _, err := source.OpenFile(t.Context(), captured, source.Options{Reasons: []string{"["}}); err == nil {
		t.Error("a bad glob is no error")
	}
	b, err := os.ReadFile(captured)
	if err != nil {
		t.Fatal(err)
	}
	cut := must[*source.File](t)(source.OpenFile(t.Context(), written(t, b[:len(b)/2]), source.Options{}))
	defer cut.Close()
	if _, _, err := all(cut); !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(cut.Err(), io.ErrUnexpectedEOF) {
		t.Errorf("a file that is cut: %v, %v", err, cut.Err())
	}
}

// What ReadPacketData gives stays, what ZeroCopyReadPacketData gives need not, and costs no memory.
func TestOwnership(t *testing.T) {
	f := must[*source.File](t)(source.OpenFile(t.Context(), captured, source.Options{}))
	defer f.Close()
	packets, infos, _ := all(f)
	for i, a := range packets {
		if want := sourcetest.UDP(byte(2 + i)); !bytes.Equal(a.Data, want) || len(a.Comments) != 1 || !bytes.HasPrefix(a.Comments[0], []byte("verdict="+a.Verdict.Kind)) {
			t.Errorf("packet %d: % x, %q", i, a.Data, a.Comments)
		}
		if source.AncillaryOf(infos[i]) != a || len(infos[i].AncillaryData) != 1 {
			t.Errorf("%v", infos[i].AncillaryData)
		}
	}
	if source.AncillaryOf(gopacket.CaptureInfo{AncillaryData: []any{1}}) != nil {
		t.Error("there is something of somebody else")
	}
	var b bytes.Buffer
	w := pcapfile.NewPcapWriter(&b, pcapfile.PcapHeader{LinkType: pcapfile.LinkTypeEthernet, SnapLen: 96})
	for range 2000 {
		if err := w.WritePacket(&pcapfile.Packet{Data: sourcetest.UDP(2), Len: 47, LinkType: pcapfile.LinkTypeEthernet}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	f = must[*source.File](t)(source.OpenFile(t.Context(), written(t, b.Bytes()), source.Options{Filter: "udp"}))
	defer f.Close()
	if n := testing.AllocsPerRun(1000, func() {
		if _, ci, err := f.ZeroCopyReadPacketData(); err != nil || source.AncillaryOf(ci) == nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}

// A verdict without a time, a name, or all bytes is no less a packet to gopacket.
func TestPacketSource(t *testing.T) {
	s := must[*source.Stream](t)(source.Dial(t.Context(), control, source.Options{}))
	defer s.Close()
	n := 0
	for p := range gopacket.NewPacketSource(s, layers.LayerTypeEthernet).Packets() {
		n++
		udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok || udp.DstPort != 2222 || source.AncillaryOf(p.Metadata().CaptureInfo).Verdict == nil {
			t.Errorf("%v", p)
		}
	}
	if n != 3 || s.Err() != nil {
		t.Errorf("%d packets, %v", n, s.Err())
	}
}

// The program of examples/drops prints a daemon's drops, and the same of a file.
func TestDropsProgram(t *testing.T) {
	want := map[string]string{
		"-control": "22:13:20.000000 cali1 => drop NEIGH_FAILED ens1 nh 10.0.0.3 route 10.0.0.0/24 #2\n22:13:20.001000 cali2 => drop IP_INHDR #3\n",
		"-r":       "22:13:20.001000 cali1 => drop NEIGH_FAILED ens1 nh 10.0.0.3 route 10.0.0.0/24 #2\n22:13:20.002000 cali2 => drop IP_INHDR #3\n",
	}
	bin := filepath.Join(t.TempDir(), "drops")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", bin, "../../examples/drops").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, args := range [][]string{{"-control", control, "udp"}, {"-r", captured, "udp"}} {
		out, err := exec.Command(bin, args...).CombinedOutput()
		if err != nil || string(out) != want[args[0]] {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if out, err := exec.Command(bin, "-control", control+".none").CombinedOutput(); err == nil || !strings.Contains(string(out), "no daemon listens") {
		t.Errorf("%v: %s", err, out)
	}
}
