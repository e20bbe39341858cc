package pcapfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"proxyarpd/internal/nstest"
)

// run runs a program on a file that it reads from standard input and returns
// what it prints; without the program the test is skipped.
func run(t testing.TB, stdin []byte, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	nstest.Need(t, args[0])
	cmd := exec.Command(args[0], args[1:]...)
	var out, errors bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &errors
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	err = cmd.Run()
	return out.String(), errors.String(), err
}

// must runs a program that must not fail.
func must(t testing.TB, stdin []byte, args ...string) string {
	t.Helper()
	out, errors, err := run(t, stdin, args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, errors)
	}
	return out
}

func lines(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") }

// tcpdumpError returns what tcpdump says of a file that it can't read whole,
// without the function's name that it says it with, and the count of packets.
func tcpdumpError(t *testing.T, file []byte) (packets int, message string) {
	t.Helper()
	out, errors, err := run(t, file, "tcpdump", "-n", "-t", "-r", "-")
	if err == nil {
		return strings.Count(out, "\n"), ""
	}
	said := lines(errors)
	message = strings.TrimPrefix(said[len(said)-1], "tcpdump: ")
	return strings.Count(out, "\n"), strings.TrimPrefix(message, "pcap_loop: ")
}

// tcpdump says the same of damaged files.
func TestDamagedTcpdump(t *testing.T) {
	for _, c := range damaged {
		if !c.tcpdump {
			continue
		}
		for _, order := range orders {
			if _, err := tcpdumpError(t, c.file(&builder{ByteOrder: order}).buf); err != c.err {
				t.Errorf("%s, %v: tcpdump says %q, we %q", c.name, order, err, c.err)
			}
		}
	}
}

// Wherever a file is cut, tcpdump says the same.
func TestCutTcpdump(t *testing.T) {
	pcap := (&builder{ByteOrder: orders[1]}).pcapHeader(magicNano, 2, 4, 100, 1).pcapPacket(1, 2, 5, 50, "abcde").pcapPacket(1, 2, 3, 50, "abc").buf
	b := &builder{ByteOrder: orders[0]}
	ng := b.section(b.option(shbOS, "os")).iface(1, 100, b.option(ifName, "x")).packet(0, 1, "abcde").packet(0, 1, "abc", b.option(optComment, "c")).buf
	for _, file := range [][]byte{pcap, ng} {
		for n := 8; n <= len(file); n += 3 {
			got, _, err := readAll(bytes.NewReader(file[:n]))
			packets, want := tcpdumpError(t, file[:n])
			switch {
			case err == nil && want == "the capture file has no Interface Description Blocks":
				continue // but tcpdump wants an interface before it begins
			case err == nil && want != "", err != nil && err.Error() != want && !strings.Contains(want, "file header bytes"):
				t.Errorf("%d of %d bytes: %v, tcpdump says %q", n, len(file), err, want)
			case err == nil && len(got) != packets:
				t.Errorf("%d of %d bytes: %d packets, tcpdump has %d", n, len(file), len(got), packets)
			}
		}
	}
}

// fields has tshark print fields of a file's packets, separated by |, repeated
// ones by a semicolon.
func fields(t testing.TB, file []byte, names ...string) []string {
	t.Helper()
	args := []string{"tshark", "-n", "-r", "-", "-T", "fields", "-E", "separator=|", "-E", "aggregator=;"}
	for _, n := range names {
		args = append(args, "-e", n)
	}
	return lines(must(t, file, args...))
}

// tshark finds in our pcapng what was put there.
func TestTsharkReadsPcapng(t *testing.T) {
	got := fields(t, sampleFile(t), "frame.time_epoch", "frame.len", "frame.cap_len", "frame.interface_id", "frame.interface_name",
		"frame.interface_description", "frame.comment", "frame.packet_flags_direction", "frame.packet_flags_reception_type",
		"frame.packet_id", "frame.interface_queue", "frame.drop_count", "udp.dstport")
	want := []string{
		"1700000000.123456789|60|46|0|cali12345678901|default/web-0 eth0|verdict=forward out=ens3;sécond|0x00000001|1|8123|2|5|12346",
		"1700000000.123457789|46|46|1|ens3|||0x00000002|0|8123|||12346",
		"1700000000.123458790|1500|33|0|cali12345678901|default/web-0 eth0|||||||",
		"1700000000.123459789|0|0|1|ens3||||||0|0|",
	}
	if !slices.Equal(got, want) {
		t.Errorf("tshark:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// capinfos finds the section's and the interfaces' descriptions and counters.
func TestCapinfosReadsPcapng(t *testing.T) {
	name := filepath.Join(t.TempDir(), "sample.pcapng")
	if err := os.WriteFile(name, sampleFile(t), 0o600); err != nil {
		t.Fatal(err)
	}
	got := must(t, nil, "capinfos", "-M", name)
	for _, want := range []string{
		"amd64", "Linux 6.18", "proxyarpd 1.0", "for a test", "Number of interfaces in file: 2",
		"Name = cali12345678901", "Description = default/web-0 eth0", "Capture length = 262144", "Time precision = nanoseconds (9)",
		"Filter string = udp port 12345", "Operating system = Linux 6.18", "Name = ens3", "Number of stat entries = 1",
		"Number of packets = 2", "2023-11-14 22:13:20.123456789",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q", want)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

// tshark takes the file itself apart: MAC and counters, and nothing is wrong.
func TestTsharkDissectsPcapng(t *testing.T) {
	args := []string{"tshark", "-n", "-r", "-", "-X", "read_format:MIME Files Format", "-T", "fields", "-E", "separator=|", "-E", "aggregator=;"}
	const option = "pcapng.options.option.data."
	for _, f := range []string{option + "mac", option + "interface.filter.string", option + "interface.received", option + "interface.dropped",
		option + "interface.accepted_by_filter", option + "interface.dropped_by_os", option + "interface.delivered_to_user",
		option + "packet.drop_count", "pcapng.block.length_trailer", "_ws.malformed", "_ws.expert"} {
		args = append(args, "-e", f)
	}
	got := strings.TrimSpace(must(t, sampleFile(t), args...))
	want := "ee:ee:ee:ee:ee:ee|udp port 12345|100|7|93|3|90|5;0|96;124;164;40;104;68;56;112||"
	if got != want {
		t.Errorf("tshark:\n%s\nwant:\n%s", got, want)
	}
}

// tcpdump prints our files as it does its own, and writes what it has read of
// them as we do.
func TestTcpdumpReads(t *testing.T) {
	want := []string{
		"1700000000.123456789 IP 10.0.0.1.12345 > 10.0.0.2.12346: UDP, length 4",
		"1700000000.123457789 IP 10.0.0.1.12345 > 10.0.0.2.12346: UDP, length 4",
		"1700000000.123458790 IP  [|ip]",
		"[Invalid header: caplen==0, len==0]",
	}
	for _, nano := range []bool{true, false} {
		var file bytes.Buffer
		w := NewPcapWriter(&file, PcapHeader{LinkType: LinkTypeEthernet, Nano: nano})
		for i := range samples {
			if err := w.WritePacket(&samples[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		precision := "--micro"
		if nano {
			precision = "--nano"
			if got := lines(must(t, file.Bytes(), "tcpdump", "-n", "-tt", precision, "-r", "-")); !slices.Equal(got, want) {
				t.Errorf("pcap:\n%s", strings.Join(got, "\n"))
			}
		}
		if again := must(t, file.Bytes(), "tcpdump", precision, "-r", "-", "-w", "-"); again != file.String() {
			t.Errorf("tcpdump %s writes\n%x, we\n%x", precision, again, file.Bytes())
		}
	}
	if got := lines(must(t, sampleFile(t), "tcpdump", "-n", "-tt", "--nano", "-r", "-")); !slices.Equal(got, want) {
		t.Errorf("pcapng:\n%s", strings.Join(got, "\n"))
	}
}

// tcpdump calls link types the same, refuses the same, and writes the same of
// those that have two numbers.
func TestTcpdumpLinkTypes(t *testing.T) {
	for n := range 300 {
		b := (&builder{ByteOrder: orders[0]}).pcapHeader(magicMicro, 2, 4, 0, n)
		r, err := NewReader(bytes.NewReader(b.buf))
		if err != nil {
			t.Fatal(err)
		}
		link := r.Interfaces()[0].LinkType
		written, said, refused := run(t, b.buf, "tcpdump", "-r", "-", "-w", "-")
		if want := fmt.Sprintf("link-type %s, snapshot length %d\n", link, r.Interfaces()[0].SnapLen); !strings.Contains(said, want) {
			t.Errorf("%d: tcpdump says %q, want %q", n, said, want)
		}
		switch err := link.Check(); {
		case (err != nil) != (refused != nil):
			t.Errorf("%d: tcpdump: %v, we: %v", n, refused, err)
		case err != nil && !strings.Contains(said, "tcpdump: "+err.Error()+"\n"):
			t.Errorf("%d: tcpdump says %q, we %q", n, said, err)
		case err == nil && int(binary.LittleEndian.Uint32([]byte(written)[20:])) != int(link):
			t.Errorf("%d: tcpdump writes %d, we %d", n, written[20], link)
		}
		if got, ok := LinkTypeNamed(strings.ToLower(link.Name())); ok && got != link {
			t.Errorf("%d: the name %s is of %d", n, link.Name(), got)
		}
	}
	if s := LinkType(147).String(); s != "147" {
		t.Errorf("%q", s)
	}
}

// tcpdump reads what is odd, and of the odd times writes the same.
func TestOddTcpdump(t *testing.T) {
	for _, c := range odd {
		for _, order := range orders {
			if packets, err := tcpdumpError(t, c.file(&builder{ByteOrder: order}).buf); packets != 1 || err != "" {
				t.Errorf("%s, %v: tcpdump reads %d packets: %s", c.name, order, packets, err)
			}
		}
	}
	for _, order := range orders {
		b := (&builder{ByteOrder: order}).pcapHeader(magicMicro, 2, 4, 96, 0x14000001)
		for _, v := range [][2]int{{1_700_000_000, 1_000_000}, {-1, 5}, {7, -1}, {0, 0}} {
			b.pcapPacket(v[0], v[1], 3, 3, "abc")
		}
		got, r := mustReadAll(t, b.buf)
		i := r.Interfaces()[0]
		var out bytes.Buffer
		w := NewPcapWriter(&out, PcapHeader{LinkType: i.LinkType, SnapLen: i.SnapLen, FCS: i.FCS, Whole: true})
		for n := range got {
			if err := w.WritePacket(&got[n]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if want := must(t, b.buf, "tcpdump", "-r", "-", "-w", "-"); want != out.String() {
			t.Errorf("%v: tcpdump writes\n%x, we\n%x", order, want, out.String())
		}
	}
}

// tcpdump reads the same of Kuznetzov's format.
func TestModifiedTcpdump(t *testing.T) {
	for _, order := range orders {
		b := (&builder{ByteOrder: order}).pcapHeader(magicModified, 2, 4, 4, 1)
		b.add(1, 2, 3, 60, 3, uint16(0x800), uint16(0), "abc").add(1, 2, 30, 60, 3, uint16(0x800), uint16(0), strings.Repeat("x", 30))
		got, _ := mustReadAll(t, b.buf)
		want, _ := mustReadAll(t, []byte(must(t, b.buf, "tcpdump", "-r", "-", "-w", "-")))
		if len(got) != 2 || len(want) != 2 || !bytes.Equal(got[1].Data, want[1].Data) || want[1].Interface.SnapLen != got[1].Interface.SnapLen {
			t.Errorf("%v: tcpdump reads %+v, we %+v", order, want, got)
		}
	}
}

// mutate changes some bytes where lengths, codes and types are.
func mutate(r *rand.Rand, file []byte, from int) []byte {
	b := bytes.Clone(file)
	for range 1 + r.IntN(3) {
		at := from + r.IntN((len(b)-from)/2)*2
		switch r.IntN(4) {
		case 0:
			b[at] ^= 1 << r.IntN(8)
		case 1:
			copy(b[at:], []byte{byte(r.IntN(12)), 0})
		case 2:
			copy(b[at:], []byte{0xff, 0xff})
		default:
			b[at+1] = byte(r.Uint32())
		}
	}
	return b
}

// What tcpdump reads of a damaged file is read here.
func TestMutatedTcpdump(t *testing.T) {
	b := &builder{ByteOrder: orders[0]}
	b.section(b.option(shbOS, "os"), b.option(optComment, "file"), b.option(optEnd))
	head := len(b.buf)
	b.iface(1, 0, b.option(ifName, "cali1"), b.option(ifMACAddr, "\x02\x00\x00\x00\x00\x01"), b.option(ifFilter, "\x00arp"), b.option(ifTSResol, uint8(9)), b.option(optEnd))
	for n := range 3 {
		b.packet(0, uint64(n), "frame", b.option(optComment, "verdict=drop"), b.option(epbFlags, 1), b.option(epbPacketID, uint64(9)), b.option(optEnd))
		b.block(blockStatistics, 0, 0, 100, b.option(isbIfRecv, uint64(3)), b.option(isbStartTime, 0, 1), b.option(optEnd))
		b.block(blockPacket, uint16(0), uint16(5), 0, 0, 3, 60, "abc\x00", b.option(epbFlags, 1)).block(4, uint16(1), uint16(4), "\x0a\x00\x00\x01", 0)
	}
	r := rand.New(rand.NewPCG(12, 17))
	for range 200 {
		file := mutate(r, b.buf, head)
		packets, said := tcpdumpError(t, file)
		got, _, err := readAll(bytes.NewReader(file))
		if len(got) < packets || said == "" && err != nil {
			t.Errorf("tcpdump reads %d packets, %q, we %d, %v: %x", packets, said, len(got), err, file)
		}
	}
}
