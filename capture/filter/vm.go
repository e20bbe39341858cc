package filter

import "encoding/binary"

// maxLoops is how often a program may jump back; only "protochain" does.
const maxLoops = 256

// Offsets of the loads that read what the kernel knows beside the bytes (SKF_AD_OFF of linux/filter.h).
const (
	adOff            = 0xfffff000
	adPktType        = adOff + 4
	adIfindex        = adOff + 8
	adVLANTag        = adOff + 44
	adVLANTagPresent = adOff + 48
)

// run executes a verified program. The rules are those of libpcap's bpf_filter.c and, but for the metadata, of the
// kernel: a load out of bounds, a division by 0 reject.
func run(prog []Instruction, data []byte, wireLen uint32, meta *Meta) uint32 {
	var (
		a, x  uint32
		mem   [memWords]uint32
		loops int
		n     = uint32(len(data))
	)
	for pc := 0; pc < len(prog); {
		ins := &prog[pc]
		pc++
		k := ins.K
		switch ins.Op {
		case classLD | modeABS | sizeW:
			if k > n || n-k < 4 {
				v, ok := meta.load(k)
				if !ok {
					return 0
				}
				a = v
				continue
			}
			a = binary.BigEndian.Uint32(data[k:])
		case classLD | modeABS | sizeH:
			if k > n || n-k < 2 {
				v, ok := meta.load(k)
				if !ok {
					return 0
				}
				a = v
				continue
			}
			a = uint32(binary.BigEndian.Uint16(data[k:]))
		case classLD | modeABS | sizeB:
			if k >= n {
				v, ok := meta.load(k)
				if !ok {
					return 0
				}
				a = v
				continue
			}
			a = uint32(data[k])
		case classLD | modeIND | sizeW:
			if k > n || x > n-k || n-k-x < 4 {
				return 0
			}
			a = binary.BigEndian.Uint32(data[k+x:])
		case classLD | modeIND | sizeH:
			if k > n || x > n-k || n-k-x < 2 {
				return 0
			}
			a = uint32(binary.BigEndian.Uint16(data[k+x:]))
		case classLD | modeIND | sizeB:
			if k >= n || x >= n-k {
				return 0
			}
			a = uint32(data[k+x])
		case opMSH:
			if k >= n {
				return 0
			}
			x = uint32(data[k]&0x0f) << 2
		case opLen:
			a = wireLen
		case opLenX:
			x = wireLen
		case opImm:
			a = k
		case opImmX:
			x = k
		case opMem:
			a = mem[k&(memWords-1)]
		case opMemX:
			x = mem[k&(memWords-1)]
		case classST:
			mem[k&(memWords-1)] = a
		case classSTX:
			mem[k&(memWords-1)] = x
		case opTax:
			x = a
		case opTxa:
			a = x
		case opRetK:
			return k
		case opRetA:
			return a
		case opJA:
			if int32(k) < 0 {
				if loops++; loops > maxLoops {
					return 0
				}
			}
			pc += int(int32(k))
		case classJMP | jmpJEQ | srcK:
			pc += jump(a == k, ins)
		case classJMP | jmpJGT | srcK:
			pc += jump(a > k, ins)
		case classJMP | jmpJGE | srcK:
			pc += jump(a >= k, ins)
		case classJMP | jmpJSET | srcK:
			pc += jump(a&k != 0, ins)
		case classJMP | jmpJEQ | srcX:
			pc += jump(a == x, ins)
		case classJMP | jmpJGT | srcX:
			pc += jump(a > x, ins)
		case classJMP | jmpJGE | srcX:
			pc += jump(a >= x, ins)
		case classJMP | jmpJSET | srcX:
			pc += jump(a&x != 0, ins)
		case opNeg:
			a = -a
		default: // arithmetic: verify admits nothing else
			v := k
			if opSrc(int(ins.Op)) == srcX {
				v = x
			}
			var ok bool
			if a, ok = arithmetic(opALU(int(ins.Op)), a, v); !ok {
				return 0
			}
		}
	}
	return 0
}

func jump(cond bool, ins *Instruction) int {
	if cond {
		return int(ins.Jt)
	}
	return int(ins.Jf)
}

// arithmetic computes a op b; it is false for a division by 0. A shift by more than 31 bits gives 0.
func arithmetic(op int, a, b uint32) (uint32, bool) {
	switch op {
	case aluADD:
		return a + b, true
	case aluSUB:
		return a - b, true
	case aluMUL:
		return a * b, true
	case aluDIV:
		if b == 0 {
			return 0, false
		}
		return a / b, true
	case aluMOD:
		if b == 0 {
			return 0, false
		}
		return a % b, true
	case aluAND:
		return a & b, true
	case aluOR:
		return a | b, true
	case aluXOR:
		return a ^ b, true
	case aluLSH:
		return a << b, true
	case aluRSH:
		return a >> b, true
	}
	return 0, false
}
