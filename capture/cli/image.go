package cli

import (
	"fmt"

	"proxyarpd/capture/filter"
)

// image is an instruction as tcpdump -d prints it: n is its place in the program.
func image(n int, i filter.Instruction) string {
	const (
		jump    = 5
		classes = 7
		always  = 0x05
	)
	name, operand := mnemonic(i)
	if i.Op&classes == jump && i.Op != always {
		return fmt.Sprintf("(%03d) %-8s %-16s jt %d\tjf %d", n, name, operand, n+1+int(i.Jt), n+1+int(i.Jf))
	}
	if i.Op == always {
		operand = fmt.Sprint(n + 1 + int(int32(i.K)))
	}
	return fmt.Sprintf("(%03d) %-8s %s", n, name, operand)
}

// How operands are written; the verbs take the instruction's K.
const (
	inPacket  = "[%d]"
	behindX   = "[x + %d]"
	immediate = "#0x%x"
	scratch   = "M[%d]"
	none      = ""
)

type form struct{ name, operand string }

// forms are the instructions of classic BPF (linux/filter.h) by code.
var forms = map[uint16]form{
	0x20: {"ld", inPacket}, 0x28: {"ldh", inPacket}, 0x30: {"ldb", inPacket},
	0x40: {"ld", behindX}, 0x48: {"ldh", behindX}, 0x50: {"ldb", behindX},
	0x80: {"ld", "#pktlen"}, 0x81: {"ldx", "#pktlen"}, 0x00: {"ld", immediate}, 0x01: {"ldx", immediate},
	0x60: {"ld", scratch}, 0x61: {"ldx", scratch}, 0xb1: {"ldxb", "4*([%d]&0xf)"}, 0x02: {"st", scratch}, 0x03: {"stx", scratch},
	0x05: {"ja", none}, 0x15: {"jeq", immediate}, 0x25: {"jgt", immediate}, 0x35: {"jge", immediate}, 0x45: {"jset", immediate},
	0x1d: {"jeq", "x"}, 0x2d: {"jgt", "x"}, 0x3d: {"jge", "x"}, 0x4d: {"jset", "x"},
	0x04: {"add", "#%d"}, 0x14: {"sub", "#%d"}, 0x24: {"mul", "#%d"}, 0x34: {"div", "#%d"}, 0x94: {"mod", "#%d"},
	0x44: {"or", immediate}, 0x54: {"and", immediate}, 0xa4: {"xor", immediate}, 0x64: {"lsh", "#%d"}, 0x74: {"rsh", "#%d"},
	0x0c: {"add", "x"}, 0x1c: {"sub", "x"}, 0x2c: {"mul", "x"}, 0x3c: {"div", "x"}, 0x9c: {"mod", "x"},
	0x4c: {"or", "x"}, 0x5c: {"and", "x"}, 0xac: {"xor", "x"}, 0x6c: {"lsh", "x"}, 0x7c: {"rsh", "x"}, 0x84: {"neg", none},
	0x06: {"ret", "#%d"}, 0x16: {"ret", none}, 0x07: {"tax", none}, 0x87: {"txa", none},
}

// metadata are what loads below the packet's first byte get, by offset
// (SKF_AD_OFF of linux/filter.h).
var metadata = map[int32]string{
	-0x1000: "proto", -0x1000 + 4: "type", -0x1000 + 8: "ifidx", -0x1000 + 12: "nla", -0x1000 + 16: "nlan", -0x1000 + 20: "mark",
	-0x1000 + 24: "queue", -0x1000 + 28: "hatype", -0x1000 + 32: "rxhash", -0x1000 + 36: "cpu", -0x1000 + 40: "xor_x",
	-0x1000 + 44: "vlan_tci", -0x1000 + 48: "vlanp", -0x1000 + 52: "poff", -0x1000 + 56: "random", -0x1000 + 60: "vlan_tpid",
}

func mnemonic(i filter.Instruction) (name, operand string) {
	f, known := forms[i.Op]
	if !known {
		return "unimp", fmt.Sprintf("0x%x", i.Op)
	}
	if meta, ok := metadata[int32(i.K)]; ok && f.operand == inPacket {
		return f.name, "[" + meta + "]"
	}
	for _, c := range f.operand {
		if c == '%' {
			return f.name, fmt.Sprintf(f.operand, i.K)
		}
	}
	return f.name, f.operand
}
