package cli

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"proxyarpd/capture/pcapfile"
	"proxyarpd/internal/nstest"
)

// udp is an IPv4 packet to UDP port 2222.
var udp = []byte{0x45, 0, 0, 33, 0, 1, 0, 0, 64, 17, 0x66, 0xc9, 10, 0, 0, 1, 10, 0, 0, 2, 0x04, 0x57, 0x08, 0xae, 0, 13, 0, 0, 'h', 'e', 'l', 'l', 'o'}

// frames are udp in frames of link types.
var frames = map[pcapfile.LinkType][]byte{
	pcapfile.LinkTypeEthernet: append([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0}, udp...),
	pcapfile.LinkTypeRaw:      udp,
	pcapfile.LinkTypePPP:      append([]byte{0xff, 3, 0, 0x21}, udp...),
	pcapfile.LinkTypeNull:     append([]byte{2, 0, 0, 0}, udp...),
	pcapfile.LinkTypeNFLOG:    append([]byte{2, 0, 0, 5, 37, 0, 9, 0}, append(slices.Clone(udp), 0, 0, 0)...),
}

const udpText = "IP 10.0.0.1.1111 > 10.0.0.2.2222: UDP, length 5\n"

// pcapOf is a little-endian pcap file of a frame at second 1, whatever its header says.
func pcapOf(link, snap uint32, frame []byte) []byte {
	var b []byte
	for _, v := range []uint32{0xa1b2c3d4, 4<<16 | 2, 0, 0, snap, link, 1, 0, uint32(len(frame)), uint32(len(frame))} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return append(b, frame...)
}

func fileOf(t *testing.T, name string, b []byte) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// tcpdump runs the tcpdump whose text and programs are the right ones.
func tcpdump(t *testing.T, args ...string) (out string, err error) {
	t.Helper()
	nstest.NeedTcpdump(t)
	b, err := exec.Command("tcpdump", args...).Output()
	return string(b), err
}

// Files of the link types that are printed are, of those that are not there is a word, and those that tcpdump refuses are refused.
func TestLinkTypes(t *testing.T) {
	for link, frame := range frames {
		text, err := printed("-nt", "-r", fileOf(t, "x", pcapOf(uint32(link), 0, frame)))
		if err != nil || !strings.HasPrefix(text, udpText) {
			t.Errorf("%v: %v: %s", link, err, text)
		}
	}
	for _, c := range []struct {
		link uint32
		want string
	}{
		{105, "packets of link-type IEEE802_11 (802.11) are not printed here"},
		{12345, "unknown data link type 12345 (min 104, max 289)"},
		{14, "unknown data link type 14 (min 104, max 289)"},
		{112, "packets of link-type 112 are not printed here"},
		{103, "packets of link-type PPP_BSDOS (BSD/OS PPP) are not printed here"},
	} {
		file := fileOf(t, "x", pcapOf(c.link, 0, udp))
		text, err := printed("-n", "-r", file)
		var usage Usage
		if err == nil || errors.As(err, &usage) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d: %v", c.link, err)
		}
		if lines := strings.Count(text, "\n"); lines != 1 {
			t.Errorf("%d: %q", c.link, text)
		}
		refused := strings.Contains(c.want, "unknown")
		for _, args := range [][]string{{"--count"}, {"-w", os.DevNull}, {"--summary"}} {
			if text, err := printed(append(args, "-r", file)...); (err != nil) != refused {
				t.Errorf("%d %v: %v: %s", c.link, args, err, text)
			}
		}
	}
}

// A file of several link types: an expression that makes no sense for one of them selects none of its packets.
func TestSeveralLinkTypes(t *testing.T) {
	write := func(links ...pcapfile.LinkType) string {
		var b bytes.Buffer
		w := pcapfile.NewWriter(&b, &pcapfile.Section{})
		for _, link := range links {
			i := &pcapfile.Interface{LinkType: link, SnapLen: 262144}
			if err := w.WritePacket(&pcapfile.Packet{Data: frames[link], Len: uint32(len(frames[link])), Interface: i}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		return fileOf(t, "x.pcapng", b.Bytes())
	}
	file := write(pcapfile.LinkTypeEthernet, pcapfile.LinkTypeRaw, pcapfile.LinkTypePPP, pcapfile.LinkTypeNFLOG)
	for _, c := range []struct {
		args    string
		packets int
	}{{"", 4}, {"udp", 3}, {"ether src 2:0:0:0:0:1", 1}, {"not arp", 3}, {"len > 0", 4}} {
		text, err := printed(append([]string{"-r", file, "--count"}, strings.Fields(c.args)...)...)
		if err != nil || !strings.HasPrefix(text, fmt.Sprint(c.packets, " packet")) {
			t.Errorf("%q: %v: %s", c.args, err, text)
		}
	}
	file = write(pcapfile.LinkTypeRaw, pcapfile.LinkTypePPP)
	if _, err := printed("-r", file, "--count", "ether src 2:0:0:0:0:1"); err == nil {
		t.Error("an expression that makes sense for no packet is no error")
	}
}

// -d is for the link type, the snapshot length and the origin of what is captured or read.
func TestDump(t *testing.T) {
	const program = "(000) ldb      [0]\n(001) and      #0xf0\n(002) jeq      #0x40            jt 3\tjf 4\n(003) ret      #96\n(004) ret      #0\n"
	file := fileOf(t, "x", pcapOf(101, 96, udp))
	if text, err := printed("-r", file, "-d", "ip"); err != nil || !strings.HasPrefix(text, program) || !strings.Contains(text, "link-type RAW") {
		t.Errorf("%v: %s", err, text)
	}
	if text, err := printed("-y", "raw", "-s", "96", "-d", "ip"); err != nil || text != program {
		t.Errorf("%v: %s", err, text)
	}
	if text, err := printed("-d", "-r", file+".gone", "ip"); !errors.Is(err, os.ErrNotExist) || strings.Contains(text, "(000)") {
		t.Errorf("%v: %s", err, text)
	}
	if text, err := printed("-d", "-i", "gone0", "ip"); err == nil || err.Error() != "gone0: No such device exists" || strings.Contains(text, "(000)") {
		t.Errorf("%v: %s", err, text)
	}
	if text, err := printed("-d"); err != nil || !strings.HasSuffix(text, "Warning: assuming Ethernet\n") {
		t.Errorf("%v: %s", err, text)
	}
	if text, err := printed("-d", "-i", "any", "ip", "and", "ifindex", "7"); err != nil || !strings.HasPrefix(text, "(000) ldh      [0]\n") {
		t.Errorf("%v: %s", err, text)
	}
	if text, err := printed("-d", "-i", "lo", "vlan"); err != nil || !strings.HasPrefix(text, "(000) ldb      [vlanp]\n") {
		t.Errorf("%v: %s", err, text)
	}
	if _, err := printed("-d", "-r", fileOf(t, "x", pcapOf(105, 0, udp)), "ip"); err == nil {
		t.Error("there is a filter for 802.11")
	}
}

// The programs are those of tcpdump -d.
func TestDumpAsTcpdump(t *testing.T) {
	var places [][]string
	for link, frame := range frames {
		places = append(places, []string{"-r", fileOf(t, "x", pcapOf(uint32(link), 77, frame))}, []string{"-y", link.Name()})
	}
	big := pcapOf(0, 0, frames[pcapfile.LinkTypeNull])
	for at := 0; at < 40; { // its numbers are big-endian
		size := 4
		if at == 4 || at == 6 {
			size = 2
		}
		slices.Reverse(big[at : at+size])
		at += size
	}
	places = append(places, []string{"-r", fileOf(t, "big", big)}, nil, []string{"-s", "100"}, []string{"-O"}, []string{"-i", "lo"}, []string{"-i", "any"})
	for _, place := range places {
		for _, expr := range []string{"", "ip", "ip6 or arp", "vlan and ip", "inbound", "ifindex 3", "tcp port 80 and not host 10.0.0.1", "len > 60", "protochain 6"} {
			args := append(append([]string{"-d"}, place...), strings.Fields(expr)...)
			if expr == "ip" {
				args[0] = "-dd"
			}
			want, refused := tcpdump(t, args...)
			var out bytes.Buffer
			err := Run(t.Context(), args, Env{Out: &out, Err: new(bytes.Buffer)})
			if (refused != nil) != (err != nil) || out.String() != want {
				t.Errorf("%v: tcpdump: %v\n%s here: %v\n%s", args, refused, want, err, out.String())
			}
		}
	}
}

// What a # begins in a file is no expression.
func TestExpressionFile(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"# DNS\nudp port 2222   # ours\n or arp\n", "1 packet\n"},
		{"#\n#udp\n not udp#", "0 packets\n"},
		{"# nothing", "1 packet\n"},
		{"", "1 packet\n"},
	} {
		text, err := printed("--count", "-r", fileOf(t, "x", pcapOf(1, 0, frames[1])), "-F", fileOf(t, "f", []byte(c.file)), "tcp")
		if err != nil || !strings.HasPrefix(text, c.want) {
			t.Errorf("%q: %v: %s", c.file, err, text)
		}
	}
	if _, err := printed("-F", filepath.Join(t.TempDir(), "gone"), "-d"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// Values that make no sense are refused, whatever else is asked for.
func TestValues(t *testing.T) {
	file := fileOf(t, "x", pcapOf(1, 0, frames[1]))
	for _, c := range []struct{ args, want string }{
		{"-W 0", "invalid number of output files 0"},
		{"-W -1", "invalid number of output files -1"},
		{"-W 0 -w " + os.DevNull, "invalid number of output files 0"},
		{"-G -1", "invalid number of seconds -1"},
		{"-G -1 -w " + os.DevNull, "invalid number of seconds -1"},
		{"-C 0", `invalid file size "0"`},
		{"-C x -w " + os.DevNull, `invalid file size "x"`},
		{"-C 99999999999999 -w " + os.DevNull, "file size 99999999999999 is too large"},
		{"-C 99999999999999999999", "file size 99999999999999999999 is too large"},
		{"-y PPPP", "invalid data link type PPPP"},
		{"-y 1", "invalid data link type 1"},
	} {
		var usage Usage
		if _, err := printed(append(strings.Fields(c.args), "-r", file)...); !errors.As(err, &usage) || err.Error() != c.want {
			t.Errorf("%s: %v", c.args, err)
		}
	}
	for _, args := range []string{"-y EN10MB", "-y raw", "-O", "-G 0", "-s 20"} {
		if text, err := printed(append(strings.Fields(args), "-nt", "-r", file)...); err != nil || !strings.HasPrefix(text, udpText) {
			t.Errorf("%s: %v: %s", args, err, text)
		}
	}
	if _, err := printed("-i", "lo", "-y", "RAW"); err == nil || !strings.HasPrefix(err.Error(), "RAW is not one of the DLTs supported by this device") {
		t.Error(err)
	}
}

// What is written of a file is what tcpdump writes: with its snapshot length, and what it says of frame check sequences.
func TestCopyAsTcpdump(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.pcap")
	for name, b := range map[string][]byte{
		"snapshot length": pcapOf(1, 96, frames[1]),
		"FCS":             pcapOf(0x24000001, 0, frames[1]),
		"longer than it":  pcapOf(1, 20, frames[1]),
		"another number":  pcapOf(12, 65535, udp),
		"not printed":     pcapOf(189, 1<<30, udp),
	} {
		file := fileOf(t, "x", b)
		for _, args := range [][]string{{}, {"-s", "10"}, {"-C", "1"}, {"--nano"}} {
			if _, err := printed(append(args, "-r", file, "-w", out)...); err != nil {
				t.Fatal(name, err)
			}
			got, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if want, err := tcpdump(t, append(args, "-r", file, "-w", "-")...); err == nil && want != string(got) {
				t.Errorf("%s %v:\n%x, not\n%x", name, args, got, want)
			}
		}
	}
}

// A pcapng file's interface keeps what it says of frames.
func TestCopyPcapng(t *testing.T) {
	var b bytes.Buffer
	w := pcapfile.NewWriter(&b, &pcapfile.Section{})
	i := &pcapfile.Interface{LinkType: pcapfile.LinkTypeEthernet, SnapLen: 96, FCSLen: []byte{4}}
	if err := errors.Join(w.WritePacket(&pcapfile.Packet{Data: frames[1], Len: 100, Interface: i}), w.Flush()); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := printed("-r", fileOf(t, "x", b.Bytes()), "-w", out); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapfile.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var p pcapfile.Packet
	if err := r.Next(&p); err != nil || p.Interface.SnapLen != 96 || !bytes.Equal(p.Interface.FCSLen, []byte{4}) {
		t.Errorf("%v: %+v", err, p.Interface)
	}
}

// Where nothing is known of a packet, nothing is said of it.
func TestUnknown(t *testing.T) {
	file := fileOf(t, "x", pcapOf(1, 0, frames[1]))
	if text, err := printed("-r", file, "--summary"); err != nil || !strings.Contains(text, "\n1                   -    -        \n") {
		t.Errorf("%v: %q", err, text)
	}
	for _, args := range []string{"--drops", "--reason *", "--drops --count"} {
		text, err := printed(append(strings.Fields(args), "-r", file)...)
		if err != nil || strings.Contains(text, "2222") || !strings.Contains(text, "no packet has a verdict\n") {
			t.Errorf("%s: %v: %s", args, err, text)
		}
	}
	if text, _ := printed("-r", file); strings.Contains(text, "verdict") {
		t.Error(text)
	}
	var b bytes.Buffer
	w := pcapfile.NewWriter(&b, &pcapfile.Section{Application: "proxyarpd", Comments: []string{"interfaces=any"}})
	i := &pcapfile.Interface{Name: "cali1", Description: "ifindex 7", LinkType: pcapfile.LinkTypeEthernet, SnapLen: 262144}
	for _, p := range []pcapfile.Packet{{}, {Has: pcapfile.HasFlags}, {Has: pcapfile.HasFlags, Flags: pcapfile.MakeFlags(pcapfile.Inbound, 0)}} {
		p.Data, p.Len, p.Interface = frames[1], uint32(len(frames[1])), i
		if err := w.WritePacket(&p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	text, err := printed("-nt", "-r", fileOf(t, "x", b.Bytes()))
	if err != nil || !strings.HasPrefix(text, "cali1 ?   "+udpText+"cali1 ?   "+udpText+"cali1 In  "+udpText) {
		t.Errorf("%v: %s", err, text)
	}
}

// Where several interfaces are shown, VLAN tags go with the Ethernet header, as
// with tcpdump: of what is received the outer one, of what is sent all. In what
// is written as pcapng nothing is lost.
func TestTagsOfSeveral(t *testing.T) {
	tag := func(tags string) []byte {
		return slices.Concat(frames[1][:12], []byte(tags), frames[1][12:])
	}
	var b bytes.Buffer
	w := pcapfile.NewWriter(&b, &pcapfile.Section{Application: "proxyarpd", Comments: []string{"interfaces=any"}})
	i := &pcapfile.Interface{Name: "cali1", Description: "ifindex 7", LinkType: pcapfile.LinkTypeEthernet, SnapLen: 262144}
	tagged := [][]byte{
		tag("\x81\x00\x00\x0a"), tag("\x81\x00\xe0\x00"), tag("\x88\xa8\x00\x0a"), // 802.1Q, a priority tag, 802.1ad
		tag("\x88\xa8\x00\x0a\x81\x00\x00\x14"), tag("\x91\x00\x00\x0a"), // QinQ, and no tag to the kernel
		tag("\x81\x00\x00\x0a")[:16], // cut in the tag
	}
	write := func(data []byte, d pcapfile.Direction) {
		p := pcapfile.Packet{Data: data, Len: uint32(len(data)), Interface: i, Has: pcapfile.HasFlags, Flags: pcapfile.MakeFlags(d, 0)}
		if err := w.WritePacket(&p); err != nil {
			t.Fatal(err)
		}
	}
	write(tagged[3], pcapfile.Outbound)
	for _, data := range tagged {
		write(data, pcapfile.Inbound)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	file := fileOf(t, "x", b.Bytes())
	const head = "cali1 In  ifindex 7 02:00:00:00:00:01 ethertype "
	const once = head + "IPv4 (0x0800), length 53: 10.0.0.1.1111 > 10.0.0.2.2222: UDP, length 5\n"
	want := strings.Replace(once, "In ", "Out", 1) + once + once + once +
		head + "802.1Q (0x8100), length 57: vlan 20, p 0, ethertype IPv4, 10.0.0.1.1111 > 10.0.0.2.2222: UDP, length 5\n" +
		head + "802.1Q-9100 (0x9100), length 57: \n\t0x0000:  000a 0800 4500 0021 0001 0000 4011 66c9  ....E..!....@.f.\n"
	text, err := printed("-ent", "-r", file)
	if err != nil || !strings.HasPrefix(text, want) || !strings.Contains(text, head+"802.1Q (0x8100), length 22:  [|vlan]\n") {
		t.Errorf("%v: %s", err, text)
	}
	name := filepath.Join(t.TempDir(), "copy.pcapng")
	if _, err := printed("-r", file, "-w", name); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(name)
	for _, data := range tagged {
		if err != nil || !bytes.Contains(written, data) {
			t.Errorf("%v: a copy is without % x", err, data[:16])
		}
	}
}
