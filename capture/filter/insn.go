package filter

// Instruction is one of classic BPF: struct sock_filter of linux/filter.h, in host byte order. It converts to
// golang.org/x/net/bpf.RawInstruction.
type Instruction struct {
	Op uint16
	Jt uint8
	Jf uint8
	K  uint32
}

// Codes of linux/bpf_common.h and linux/filter.h.
const (
	classLD   = 0x00
	classLDX  = 0x01
	classST   = 0x02
	classSTX  = 0x03
	classALU  = 0x04
	classJMP  = 0x05
	classRET  = 0x06
	classMISC = 0x07

	sizeW = 0x00
	sizeH = 0x08
	sizeB = 0x10

	modeIMM = 0x00
	modeABS = 0x20
	modeIND = 0x40
	modeMEM = 0x60
	modeLEN = 0x80
	modeMSH = 0xa0

	aluADD = 0x00
	aluSUB = 0x10
	aluMUL = 0x20
	aluDIV = 0x30
	aluOR  = 0x40
	aluAND = 0x50
	aluLSH = 0x60
	aluRSH = 0x70
	aluNEG = 0x80
	aluMOD = 0x90
	aluXOR = 0xa0

	jmpJA   = 0x00
	jmpJEQ  = 0x10
	jmpJGT  = 0x20
	jmpJGE  = 0x30
	jmpJSET = 0x40

	srcK = 0x00
	srcX = 0x08

	retA = 0x10

	miscTAX = 0x00
	miscTXA = 0x80
)

// The instructions that have one form only.
const (
	opRetK = classRET
	opRetA = classRET | retA
	opImm  = classLD | modeIMM
	opImmX = classLDX | modeIMM
	opLen  = classLD | modeLEN
	opLenX = classLDX | modeLEN
	opMem  = classLD | modeMEM
	opMemX = classLDX | modeMEM
	opMSH  = classLDX | modeMSH | sizeB
	opTax  = classMISC | miscTAX
	opTxa  = classMISC | miscTXA
	opNeg  = classALU | aluNEG
	opJA   = classJMP | jmpJA
)

// memWords is the number of words of scratch memory (BPF_MEMWORDS).
const memWords = 16

func opClass(op int) int { return op & 0x07 }
func opSize(op int) int  { return op & 0x18 }
func opMode(op int) int  { return op & 0xe0 }
func opALU(op int) int   { return op & 0xf0 }
func opSrc(op int) int   { return op & 0x08 }
