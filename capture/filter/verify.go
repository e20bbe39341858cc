package filter

import "fmt"

// maxProgram bounds what is verified and executed, in instructions.
const maxProgram = 1 << 16

// verify checks that a program can be executed: known instructions, scratch memory that exists, no division by a
// constant 0, jumps forward to instructions, no word of memory read that may not have been written, no metadata
// loaded but what Meta has, and a return at the end. These are the kernel's rules (bpf_check_classic and check_load_and_stores in net/core/filter.c), but for
// its length.
func verify(prog []Instruction) error {
	if err := check(prog, false); err != nil {
		return err
	}
	for i, ins := range prog {
		if negativeLoad(ins) {
			return fmt.Errorf("instruction %d: load from offset %#x", i, ins.K)
		}
	}
	if i := readsUnset(prog); i >= 0 {
		return fmt.Errorf("instruction %d: word %d of memory may not have been written", i, prog[i].K)
	}
	return nil
}

// negativeLoad reports whether an instruction loads from an offset that the kernel takes as negative, and so as
// something beside the frame, which [Meta] has not. In libpcap such an offset is beyond every frame.
func negativeLoad(ins Instruction) bool {
	op := int(ins.Op)
	switch {
	case opClass(op) != classLD || int32(ins.K) >= 0:
		return false
	case opMode(op) == modeABS:
		_, ok := (&Meta{}).load(ins.K)
		return !ok
	}
	return opMode(op) == modeIND
}

// verifyLoops is verify for what the generator makes, where an unconditional jump may go back.
func verifyLoops(prog []Instruction) error {
	return check(prog, true)
}

func check(prog []Instruction, loops bool) error {
	n := len(prog)
	if n == 0 || n > maxProgram {
		return fmt.Errorf("a program has 1 to %d instructions, not %d", maxProgram, n)
	}
	for i, ins := range prog {
		if err := checkInstruction(ins); err != nil {
			return fmt.Errorf("instruction %d: %w", i, err)
		}
		if opClass(int(ins.Op)) != classJMP {
			continue
		}
		ok := i+1+max(int(ins.Jt), int(ins.Jf)) < n
		if ins.Op == opJA {
			d := int64(ins.K)
			if loops {
				d = int64(int32(ins.K))
			}
			to := int64(i) + 1 + d
			ok = to >= 0 && to < int64(n)
		}
		if !ok {
			return fmt.Errorf("instruction %d: jump out of the program", i)
		}
	}
	if opClass(int(prog[n-1].Op)) != classRET {
		return fmt.Errorf("the program does not end in a return")
	}
	return nil
}

// readsUnset returns the index of the first instruction that may read a word of memory which was not written before;
// -1 if there is none. It is for programs that jump forward only.
func readsUnset(prog []Instruction) int {
	// unset are, for each instruction, the words that are not written on some way to it.
	unset := make([]uint16, len(prog)+1)
	unset[0] = 1<<memWords - 1
	for i, ins := range prog {
		after := unset[i]
		switch op := int(ins.Op); {
		case op == opMem || op == opMemX:
			if after&(1<<ins.K) != 0 {
				return i
			}
		case op == classST || op == classSTX:
			after &^= 1 << ins.K
		case op == opJA:
			unset[i+1+int(ins.K)] |= after
			continue
		case opClass(op) == classJMP:
			unset[i+1+int(ins.Jt)] |= after
			unset[i+1+int(ins.Jf)] |= after
			continue
		case opClass(op) == classRET:
			continue
		}
		unset[i+1] |= after
	}
	return -1
}

func checkInstruction(ins Instruction) error {
	switch ins.Op {
	case classLD | modeABS | sizeW, classLD | modeABS | sizeH, classLD | modeABS | sizeB,
		classLD | modeIND | sizeW, classLD | modeIND | sizeH, classLD | modeIND | sizeB,
		opMSH, opLen, opLenX, opImm, opImmX, opTax, opTxa, opRetK, opRetA, opNeg, opJA:
		return nil
	case opMem, opMemX, classST, classSTX:
		if ins.K >= memWords {
			return fmt.Errorf("there are %d words of memory, not %d", memWords, ins.K)
		}
		return nil
	}
	op := int(ins.Op)
	src := opSrc(op)
	switch op &^ srcX {
	case classJMP | jmpJEQ, classJMP | jmpJGT, classJMP | jmpJGE, classJMP | jmpJSET,
		classALU | aluADD, classALU | aluSUB, classALU | aluMUL, classALU | aluOR, classALU | aluAND, classALU | aluXOR:
		return nil
	case classALU | aluDIV, classALU | aluMOD:
		if src == srcK && ins.K == 0 {
			return fmt.Errorf("division by 0")
		}
		return nil
	case classALU | aluLSH, classALU | aluRSH:
		if src == srcK && ins.K > 31 {
			return fmt.Errorf("shift by %d bits", ins.K)
		}
		return nil
	}
	return fmt.Errorf("unknown code %#x", ins.Op)
}
