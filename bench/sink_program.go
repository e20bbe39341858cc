package bench

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

func nativeUint64(b []byte) uint64 { return binary.NativeEndian.Uint64(b) }

// mostNumbered is how many datagrams a sink tells apart: a bitmap of 128 MB.
const mostNumbered = 1 << 30

// load makes the maps and the filter that writes them.
//
// Of each flow the filter keeps a bitmap of the numbers that have come, which tells what comes twice, and the number
// that is to come next, which tells what comes late (RFC 4737). The words of a flow are only written without loss while
// one CPU at a time receives the flow, as any receiver in the kernel does that keeps a flow in order.
func (m *sinkMaps) load(flows int, perFlow uint64) (*ebpf.Program, error) {
	words := perFlow/64 + 1
	if flows < 1 || words*uint64(flows) > mostNumbered/64 {
		return nil, fmt.Errorf("bench: sink: %d flows of %d datagrams: at most %d datagrams can be told apart", flows, perFlow, mostNumbered)
	}
	for _, one := range []struct {
		at      **ebpf.Map
		name    string
		entries uint64
	}{
		{&m.counters, "counters", uint64(len(sinkCounts{}))}, {&m.next, "next", uint64(flows)},
		{&m.seen, "seen", words * uint64(flows)}, {&m.times, "times", buckets},
	} {
		const mmapable = 1 << 10 // BPF_F_MMAPABLE
		made, err := ebpf.NewMap(&ebpf.MapSpec{Name: one.name, Type: ebpf.Array, KeySize: 4, ValueSize: 8,
			MaxEntries: uint32(one.entries), Flags: mmapable})
		if err != nil {
			return nil, fmt.Errorf("bench: sink: eBPF map: %w", err)
		}
		*one.at = made
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "sink", Type: ebpf.SocketFilter, License: "Apache-2.0",
		Instructions: m.program(flows, words)})
	if err != nil {
		return nil, fmt.Errorf("bench: sink: load the counting filter: %w", err)
	}
	return prog, nil
}

// program is the filter. R6 is the context and later the counter to raise, R7 the time of arrival and later how long it
// took, R8 the flow, R9 the number.
func (m *sinkMaps) program(flows int, words uint64) asm.Instructions {
	const (
		payload = -24 // on the stack
		key     = -32
	)
	// slot leaves the address of a map's entry, whose key is in R1, in R0.
	slot := func(of *ebpf.Map) asm.Instructions {
		return asm.Instructions{
			asm.StoreMem(asm.RFP, key, asm.R1, asm.Word),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, key),
			asm.LoadMapPtr(asm.R1, of.FD()),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "drop"),
		}
	}
	var p asm.Instructions
	add := func(more ...asm.Instruction) { p = append(p, more...) }
	add(
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.FnKtimeGetNs.Call(),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, udpLen),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, payload),
		asm.Mov.Imm(asm.R4, payloadFix),
		asm.FnSkbLoadBytes.Call(),
		asm.Mov.Imm(asm.R6, countCorrupt),
		asm.JNE.Imm(asm.R0, 0, "count"), // shorter than any that was sent
		asm.LoadMem(asm.R8, asm.RFP, payload+payloadFlow, asm.Half),
		asm.HostTo(asm.BE, asm.R8, asm.Half),
		asm.JGE.Imm(asm.R8, int32(flows), "count"),
	)
	// The number and the time don't stand at multiples of their sizes.
	add(loadBytes(asm.R9, payload+payloadNumber, 2)...)
	add(asm.Mov.Reg(asm.R1, asm.R9), asm.RSh.Imm(asm.R1, 6), asm.JGE.Imm(asm.R1, int32(words), "count"))
	add(loadBytes(asm.R2, payload+payloadTime, 4)...)
	add(asm.Sub.Reg(asm.R7, asm.R2))

	// The bit of the number: R1 was its word in the flow.
	add(asm.Mov.Reg(asm.R2, asm.R8), asm.Mul.Imm(asm.R2, int32(words)), asm.Add.Reg(asm.R1, asm.R2))
	add(slot(m.seen)...)
	add(
		asm.Mov.Reg(asm.R3, asm.R9),
		asm.And.Imm(asm.R3, 63),
		asm.Mov.Imm(asm.R1, 1),
		asm.LSh.Reg(asm.R1, asm.R3),
		asm.LoadMem(asm.R2, asm.R0, 0, asm.DWord),
		asm.Mov.Reg(asm.R3, asm.R2),
		asm.And.Reg(asm.R3, asm.R1),
		asm.Mov.Imm(asm.R6, countDuplicated),
		asm.JNE.Imm(asm.R3, 0, "count"),
		asm.Or.Reg(asm.R2, asm.R1),
		asm.StoreMem(asm.R0, 0, asm.R2, asm.DWord),
	)
	// Is a later one here already?
	add(asm.Mov.Reg(asm.R1, asm.R8))
	add(slot(m.next)...)
	add(
		asm.Mov.Imm(asm.R6, countReordered),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.JLT.Reg(asm.R9, asm.R1, "time"),
		asm.Mov.Imm(asm.R6, countInOrder),
		asm.Add.Imm(asm.R9, 1),
		asm.StoreMem(asm.R0, 0, asm.R9, asm.DWord),
	)
	add(
		asm.RSh.Imm(asm.R7, bucketShift).WithSymbol("time"),
		asm.JLE.Imm(asm.R7, buckets-1, "bucket"),
		asm.Mov.Imm(asm.R7, buckets-1),
		asm.Mov.Reg(asm.R1, asm.R7).WithSymbol("bucket"),
	)
	add(slot(m.times)...)
	add(asm.Mov.Imm(asm.R1, 1), asm.StoreXAdd(asm.R0, asm.R1, asm.DWord))
	add(asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("count"))
	add(slot(m.counters)...)
	add(
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("drop"),
		asm.Return(),
	)
	return p
}

// loadBytes puts together a number of half words in network byte order; it uses R0.
func loadBytes(dst asm.Register, at int16, halves int16) (p asm.Instructions) {
	p = append(p, asm.Mov.Imm(dst, 0))
	for i := range halves {
		p = append(p,
			asm.LoadMem(asm.R0, asm.RFP, at+2*i, asm.Half),
			asm.HostTo(asm.BE, asm.R0, asm.Half),
			asm.LSh.Imm(dst, 16),
			asm.Or.Reg(dst, asm.R0))
	}
	return p
}
