package hostpolicy

import (
	"encoding/binary"
	"slices"
	"testing"
)

// attr builds one netlink attribute.
func attr(typ uint16, parts ...[]byte) []byte {
	v := slices.Concat(parts...)
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(v)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, v...)
	return append(b, make([]byte, -len(v)&3)...)
}

func num(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// The test machine's kernel has no flowtables, and no chains with a prefix: the messages stand in for it.
func TestFlowtable(t *testing.T) {
	in := &inspector{ifs: []Interface{{"veth0", 2}}}
	message := func(family byte, device string) []byte {
		devices := attr(nftaFlowtableHookDevs, attr(nftaDeviceName, []byte(device+"\x00")))
		return slices.Concat([]byte{family, 0, 0, 0}, attr(nftaFlowtableTable, []byte("t\x00")),
			attr(nftaFlowtableName, []byte("ft\x00")), attr(nftaFlowtableHook|0x8000, devices))
	}
	f, ok := in.judgeFlowtable(message(1, "veth0"))
	if want := "nft table inet t flowtable ft (device veth0)"; !ok || f.String() != want {
		t.Errorf("got %q, %t, want %q", f, ok, want)
	}
	if f, ok := in.judgeFlowtable(message(1, "other")); ok {
		t.Errorf("another device's flowtable is a finding: %s", f)
	}
	if f, ok := in.judgeFlowtable(message(10, "veth0")); !ok || f.Family != IPv6 {
		t.Errorf("a flowtable of IPv6: %+v, %t", f, ok)
	}
	if f, ok := in.judgeFlowtable(message(7, "veth0")); ok {
		t.Errorf("a flowtable of bridges is a finding: %s", f)
	}
}

func TestDevicePrefix(t *testing.T) {
	in := &inspector{ifs: []Interface{{"cali1", 2}, {"ens192", 3}, {"cali2", 4}}}
	for name, device := range map[string][]byte{
		"a name without NUL": attr(nftaDeviceName, []byte("cali")),
		"a prefix attribute": attr(nftaDevicePrefix, []byte("cali\x00")),
	} {
		c := parseChain(slices.Concat([]byte{5, 0, 0, 0}, attr(1, []byte("t\x00")), attr(3, []byte("c\x00")),
			attr(4|0x8000, attr(1, num(0)), attr(nftaHookDevs|0x8000, device)), attr(6, num(3))))
		got := in.judgeChain(c)
		if len(got) != 2 || got[0].Interface != "cali1" || got[1].Interface != "cali2" || got[0].Count != 3 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{5, 0, 0, 0, 8, 0, 1, 0, 't', 0, 0, 0})
	f.Add(slices.Concat([]byte{1, 0, 0, 0}, attr(4, attr(1, num(0)), attr(4, attr(1, []byte("x"))))))
	f.Add(slices.Concat(make([]byte, 8), []byte{1, 0, 0, 0}, make([]byte, 8), attr(1, []byte("bpf\x00")), attr(2, attr(11, num(1)))))
	f.Fuzz(func(t *testing.T, m []byte) {
		in := &inspector{ifs: []Interface{{"veth0", 2}}}
		parseTable(m)
		in.judgeChain(parseChain(m))
		in.judgeFlowtable(m)
		parseQdisc(m)
		parseFilter(m)
		policyDir(m)
	})
}

func FuzzIPTables(f *testing.F) {
	f.Add(make([]byte, iptInfoLen), make([]byte, 400))
	f.Fuzz(func(t *testing.T, info, entries []byte) {
		if i, err := parseIPTInfo(info); err == nil {
			_, _ = xtables4.judge("filter", i, entries)
			_, _ = xtables6.judge("filter", i, entries)
		}
	})
}

func TestIPVSServices(t *testing.T) {
	const some = "IP Virtual Server version 1.2.1 (size=4096)\n" +
		"Prot LocalAddress:Port Scheduler Flags\n" +
		"  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n" +
		"TCP  0A60000A:0050 rr\n" +
		"  -> 0A410002:1F90      Masq    1      0          0         \n" +
		"UDP  0A60000A:0035 rr  persistent 10800\n" +
		"FWM  00000007 wlc\n" +
		"TCP  [fd00:0096:0000:0000:0000:0000:0000:000a]:0050 rr\n" +
		"  -> [fd00:0065:0000:0000:0000:0000:0000:0002]:1F90      Masq    1      0          0         \n"
	for text, want := range map[string][2]int{some: {1, 4}, "": {}, some[:44]: {}, "TCP": {}} {
		if v6, all := ipvsServices([]byte(text)); v6 != want[0] || all != want[1] {
			t.Errorf("%q: %d services, %d of them of IPv6, want %v", text, all, v6, want)
		}
	}
}
