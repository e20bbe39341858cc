package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"proxyarpd/capture"
	"proxyarpd/capture/dissect"
	"proxyarpd/capture/pcapfile"
)

// documented reads the fields of the tables in docs/CAPTURE-JSON.md and their types.
func documented(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "CAPTURE-JSON.md"))
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (\\w+) \\|").FindAllStringSubmatch(string(text), -1) {
		fields[m[1]] = m[2]
	}
	return fields
}

func jsonType(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "boolean"
	case []any:
		return "array"
	case nil:
		return "null"
	}
	return "object"
}

// verdicts have each of what a verdict may have.
var verdicts = []capture.Verdict{
	{Kind: capture.Forward, ID: 1, Out: "ens192", Via: netip.MustParseAddr("192.168.1.16"), Route: netip.MustParsePrefix("10.65.1.0/24"), Rule: "32766", Table: 254,
		Metric: 20, Neighbour: "REACHABLE", Src: "02:00:00:00:00:01", Dst: "02:00:00:00:00:02", TTL: "64>63", MTU: 1500, Took: time.Microsecond, Again: true},
	{Kind: capture.Forward, ID: 1, In: "cali1"},
	{Kind: capture.Drop, Reason: "NEIGH_FAILED", ID: 2, ICMP: "3/1", Rule: "0"},
	{Kind: capture.Answer, ID: 3, IsAt: net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}},
	{Kind: capture.Queue, ID: 4, Rule: "none", TTL: "64", ICMP: "x/"}, // from a file: no numbers
}

// withVerdicts makes a capture file of the packets of the dissectors' captures, each with a verdict or none.
func withVerdicts(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "x.pcapng")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := pcapfile.NewWriter(f, &pcapfile.Section{})
	files, err := filepath.Glob(filepath.Join("..", "dissect", "testdata", "*.pcap"))
	if err != nil || len(files) == 0 {
		t.Fatal("no captures: ", err)
	}
	n := 0
	for _, file := range files {
		in, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		r, err := pcapfile.NewReader(in)
		if err != nil {
			t.Fatal(err)
		}
		var iface *pcapfile.Interface
		for p := (pcapfile.Packet{}); ; n++ {
			if err := r.Next(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if iface == nil {
				iface = &pcapfile.Interface{Name: "cali1", Description: capture.IfindexText(7), LinkType: p.LinkType, SnapLen: pcapfile.MaxSnapLen}
			}
			p.Interface, p.Has, p.Flags = iface, p.Has|pcapfile.HasFlags, pcapfile.FlagsOfPacketType(uint8(n%5))
			if v := n % (len(verdicts) + 1); v > 0 {
				p.Comments = [][]byte{verdicts[v-1].AppendComment(nil)}
			}
			if err := w.WritePacket(&p); err != nil {
				t.Fatal(err)
			}
		}
		in.Close()
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestJSONDocumented: the document has each field that there is, no other, and of that type.
func TestJSONDocumented(t *testing.T) {
	fields := documented(t)
	var out bytes.Buffer
	if err := Run(t.Context(), []string{"-nr", withVerdicts(t), "--verdict", "json"}, Env{Out: &out, Err: io.Discard}); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(out.String()) {
		var o map[string]any
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		for key, value := range o {
			seen[key] = true
			if got := jsonType(value); got != fields[key] && !(key == "verdict" && got == "null") {
				t.Fatalf("%s is of type %s, and documented as %q: %s", key, got, fields[key], line)
			}
		}
		if _, has := o["verdict"]; !has {
			t.Fatalf("no verdict: %s", line)
		}
		if stamp, _ := o["time"].(string); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$`).MatchString(stamp) {
			t.Fatalf("time: %s", line)
		}
	}
	for key := range fields {
		if !seen[key] && key != "packets" {
			t.Errorf("%s is documented, and in no packet", key)
		}
	}
}

// TestJSONFields: what stands in a packet's bytes stands in the fields.
func TestJSONFields(t *testing.T) {
	ip := func(proto byte, rest ...byte) []byte {
		h := []byte{0x45, 0xb8, 0, byte(20 + len(rest)), 0, 9, 0x40, 0, 63, proto, 0, 0, 10, 65, 0, 2, 10, 65, 0, 3}
		return append(h, rest...)
	}
	eth := func(kind uint16, rest ...byte) []byte {
		return append([]byte{0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 2, 0, 0, 0, 0, 1, byte(kind >> 8), byte(kind)}, rest...)
	}
	six := append([]byte{0x6b, 0x80, 0, 0, 0, 24, 44, 64}, bytes.Repeat([]byte{0xfd}, 32)...)
	for _, c := range []struct {
		link pcapfile.LinkType
		data []byte
		want string
	}{
		{pcapfile.LinkTypeEthernet, eth(0x0800, ip(6, 4, 1, 0, 80, 0, 0, 0, 5, 0, 0, 0, 6, 0x50, 0x12, 2, 0, 0, 0, 0, 0, 'x')...), `{"src_mac":"02:00:00:00:00:01","dst_mac":"ee:ee:ee:ee:ee:ee","ethertype":2048,
"ip_version":4,"src":"10.65.0.2","dst":"10.65.0.3","protocol":"tcp","ip_protocol":6,"ttl":63,"tos":184,"ip_length":41,"ip_id":9,"ip_flags":["DF"],"fragment_offset":0,
"src_port":1025,"dst_port":80,"tcp_flags":["SYN","ACK"],"seq":5,"ack":6,"window":512,"payload_length":1}`},
		{pcapfile.LinkTypeRaw, ip(17, 0, 53, 0, 54, 0, 9, 0, 0, 1), `{"ethertype":2048,"ip_version":4,"src":"10.65.0.2","dst":"10.65.0.3","protocol":"udp","ip_protocol":17,"ttl":63,"tos":184,"ip_length":29,"ip_id":9,
"ip_flags":["DF"],"fragment_offset":0,"src_port":53,"dst_port":54,"payload_length":1}`},
		{pcapfile.LinkTypeRaw, append(six, 17, 0, 0, 0x11, 0, 0, 0, 0, 0, 53, 0, 54, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8), `{"ethertype":34525,"ip_version":6,"src":"fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd",
"dst":"fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd","protocol":"udp","ip_protocol":17,"ttl":64,"tos":184,"ip_length":64,"fragment_offset":16}`},
		{pcapfile.LinkTypeEthernet, eth(0x8100, append([]byte{0xa0, 10, 0x08, 6, 0, 1, 8, 0, 6, 4, 0, 1}, make([]byte, 20)...)...), `{"src_mac":"02:00:00:00:00:01","dst_mac":"ee:ee:ee:ee:ee:ee","vlan":[{"id":10,"priority":5}],
"ethertype":2054,"protocol":"arp","arp_operation":1,"arp_sender_mac":"00:00:00:00:00:00","src":"0.0.0.0","arp_target_mac":"00:00:00:00:00:00","dst":"0.0.0.0"}`},
		{pcapfile.LinkTypeEthernet, eth(38, 0x42, 0x42), `{"src_mac":"02:00:00:00:00:01","dst_mac":"ee:ee:ee:ee:ee:ee","protocol":"llc"}`},
		{pcapfile.LinkTypeEthernet, eth(0x0800, 0x45), `{"src_mac":"02:00:00:00:00:01","dst_mac":"ee:ee:ee:ee:ee:ee","ethertype":2048}`},
		{pcapfile.LinkTypeRaw, ip(253), `{"ethertype":2048,"ip_version":4,"src":"10.65.0.2","dst":"10.65.0.3","protocol":"ip-253","ip_protocol":253,"ttl":63,"tos":184,"ip_length":20,"ip_id":9,"ip_flags":["DF"],"fragment_offset":0}`},
		{pcapfile.LinkTypeRaw, ip(1, 8, 0, 0, 0, 0, 7, 0, 8), `{"ethertype":2048,"ip_version":4,"src":"10.65.0.2","dst":"10.65.0.3","protocol":"icmp","ip_protocol":1,"ttl":63,"tos":184,"ip_length":28,"ip_id":9,
"ip_flags":["DF"],"fragment_offset":0,"icmp_type":8,"icmp_code":0,"icmp_id":7,"icmp_seq":8}`},
	} {
		o := object{}
		o.open()
		o.packet(&pcapfile.Packet{Data: c.data, LinkType: c.link})
		o.close()
		if want := strings.ReplaceAll(c.want, "\n", ""); string(o.b) != want {
			t.Errorf("%x\n%s\nwant\n%s", c.data, o.b, want)
		}
	}
}

// FuzzJSON: whatever a packet and its comment are, there is one line of valid JSON in ASCII, of documented fields.
func FuzzJSON(f *testing.F) {
	f.Add([]byte{0x45}, uint16(101), "verdict=drop reason=\xff\x1b\u009b icmp=3/999999999999999999999 rule=-1 ttl=>>", "cali\x07\xff\U0001f600")
	f.Add(make([]byte, 100), uint16(1), "verdict=answer is-at=zz", "")
	f.Add(bytes.Repeat([]byte{0x81, 0x00}, 60), uint16(276), "", "x")
	f.Add(append([]byte{0x60, 0, 0, 0, 0xff, 0xff, 0, 1}, make([]byte, 100)...), uint16(101), "", "x")
	f.Fuzz(func(t *testing.T, data []byte, link uint16, comment, name string) {
		if !dissect.Prints(link) {
			return // an error
		}
		p := pcapfile.Packet{Data: data, Len: uint32(len(data)), LinkType: pcapfile.LinkType(link), Interface: &pcapfile.Interface{Name: name, LinkType: pcapfile.LinkType(link)}, Has: pcapfile.HasFlags, Flags: pcapfile.Flags(link)}
		var told *capture.Verdict
		if v, ok := capture.ParseComment(comment); ok {
			told = &v
		}
		var out bytes.Buffer
		text := newText(&options{verdict: "json", numeric: 1}, &out, false)
		if err := errors.Join(text.packet(&p, told, false), text.close()); err != nil {
			t.Fatal(err)
		}
		var o map[string]any
		if err := json.Unmarshal(out.Bytes(), &o); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 1 {
			t.Fatalf("%v: %s", err, out.Bytes())
		}
		if at := obeyed(out.String()); at >= 0 {
			t.Fatalf("%q", out.Bytes())
		}
	})
}

// TestSummaryJSON: the rows are objects, and a packet that waited is one.
func TestSummaryJSON(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.pcapng")
	writeWait(t, name)
	rows := func(args ...string) (all []map[string]any) {
		var out bytes.Buffer
		if err := Run(t.Context(), append(args, "-nr", name, "--summary", "--verdict", "json"), Env{Out: &out, Err: io.Discard}); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			var o map[string]any
			if err := json.Unmarshal([]byte(line), &o); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			all = append(all, o)
		}
		return all
	}
	drop := map[string]any{"packets": 1.0, "interface": "cali1", "direction": "in", "verdict": "drop", "reason": "NEIGH_FAILED"}
	sent := map[string]any{"packets": 2.0, "interface": "cali1", "direction": "in", "verdict": "forward"}
	left := map[string]any{"packets": 1.0, "interface": "cali1", "direction": "out", "verdict": "forward"}
	waits := map[string]any{"packets": 1.0, "interface": "cali1", "direction": "in", "verdict": "queue"}
	same := func(got []map[string]any, want ...map[string]any) bool {
		return slices.EqualFunc(got, want, maps.Equal)
	}
	if got := rows(); !same(got, sent, drop, waits, left) {
		t.Errorf("%v", got)
	}
	if got := rows("--drops"); !same(got, drop) {
		t.Errorf("--drops: %v", got)
	}
	for k := range drop {
		if documented(t)[k] == "" && k != "packets" {
			t.Errorf("%s is not documented", k)
		}
	}
}

// writeWait writes a file of four packets that waited: one was dropped, one was sent, one goes on waiting, and one is
// there as it left.
func writeWait(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := pcapfile.NewWriter(f, &pcapfile.Section{})
	iface := &pcapfile.Interface{Name: "cali1", LinkType: pcapfile.LinkTypeEthernet, SnapLen: pcapfile.MaxSnapLen}
	for i, v := range []capture.Verdict{{Kind: capture.Queue, ID: 1}, {Kind: capture.Queue, ID: 2}, {Kind: capture.Queue, ID: 3}, {Kind: capture.Queue, ID: 4},
		{Kind: capture.Drop, Reason: "NEIGH_FAILED", ID: 1, Again: true}, {Kind: capture.Forward, ID: 2, Again: true}, {Kind: capture.Forward, ID: 4, In: "cali1"}} {
		p := &pcapfile.Packet{Time: int64(i) * 1e9, Data: make([]byte, 60), Len: 60, LinkType: iface.LinkType, Interface: iface,
			Has: pcapfile.HasFlags | pcapfile.HasTime, Flags: pcapfile.FlagsOfPacketType(0), Comments: [][]byte{v.AppendComment(nil)}}
		if v.In != "" {
			p.Flags = pcapfile.MakeFlags(pcapfile.Outbound, 0)
		}
		if err := w.WritePacket(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
}

// TestOnePacket: a packet that waited is one where events are not told apart, and two events where they are.
func TestOnePacket(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "x.pcapng")
	writeWait(t, name)
	lines := func(args ...string) int {
		var out bytes.Buffer
		if err := Run(t.Context(), args, Env{Out: &out, Err: io.Discard}); err != nil {
			t.Errorf("%v: %v", args, err)
		}
		return strings.Count(out.String(), " 00:00:00:00:00:00 >")
	}
	plain, again := filepath.Join(dir, "y.pcap"), filepath.Join(dir, "y.pcapng")
	for _, c := range []struct {
		args string
		want int
	}{
		{"-ner FILE", 7}, {"-ner FILE --verdict off", 5}, {"-nec 5 -r FILE", 7}, {"-nec 4 -r FILE --verdict off", 4}, {"-ner FILE --drops", 1}, {"-ner FILE --drops --verdict off", 1},
		{"-ner FILE --reason forward --verdict line", 2}, {"-r FILE -w " + plain, 0}, {"-ner " + plain, 5}, {"-r FILE -w " + again, 0}, {"-ner " + again, 7},
		{"-r FILE --drops -w " + plain, 0}, {"-ner " + plain, 1},
	} {
		if got := lines(strings.Fields(strings.ReplaceAll(c.args, "FILE", name))...); got != c.want {
			t.Errorf("%s: %d lines, want %d", c.args, got, c.want)
		}
	}
	var out bytes.Buffer
	if err := Run(t.Context(), []string{"-r", name, "--count"}, Env{Out: &out, Err: io.Discard}); err != nil || out.String() != "5 packets\n" {
		t.Errorf("--count: %q, %v", out.String(), err)
	}
}
