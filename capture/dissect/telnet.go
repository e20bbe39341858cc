package dissect

// Commands of RFC 854 that lead on.
const (
	telnetFirst = 236
	telnetSE    = 240
	telnetSB    = 250
	telnetWill  = 251
	telnetDont  = 254
	telnetIAC   = 255
)

var telnetCommands = [...]string{
	"EOF", "SUSP", "ABORT", "EOR", "SE", "NOP", "DMARK", "BRK", "IP", "AO", "AYT", "EC", "EL", "GA", "SB", "WILL",
	"WONT", "DO", "DONT", "IAC",
}

var telnetOptions = [...]string{
	"BINARY", "ECHO", "RCP", "SUPPRESS GO AHEAD", "NAME", "STATUS", "TIMING MARK", "RCTE", "NAOL", "NAOP", "NAOCRD",
	"NAOHTS", "NAOHTD", "NAOFFD", "NAOVTS", "NAOVTD", "NAOLFD", "EXTEND ASCII", "LOGOUT", "BYTE MACRO",
	"DATA ENTRY TERMINAL", "SUPDUP", "SUPDUP OUTPUT", "SEND LOCATION", "TERMINAL TYPE", "END OF RECORD", "TACACS UID",
	"OUTPUT MARKING", "TTYLOC", "3270 REGIME", "X.3 PAD", "NAWS", "TSPEED", "LFLOW", "LINEMODE", "XDISPLOC",
	"OLD-ENVIRON", "AUTHENTICATION", "ENCRYPT", "NEW-ENVIRON",
}

// Options whose subnegotiation has words of its own.
const (
	telnetAuthentication = 37
	telnetEncrypt        = 38
)

var (
	telnetWords     = []string{"IS", "SEND", "INFO"}
	telnetAuthWords = []string{"IS", "SEND", "REPLY", "NAME"}
	telnetAuthTypes = []string{
		"NULL", "KERBEROS_V4", "KERBEROS_V5", "SPX", "MINK", "SRP", "RSA", "SSL", "", "", "LOKI", "SSA", "KEA_SJ",
		"KEA_SJ_INTEG", "DSS", "NTLM",
	}
	telnetCryptWords = []string{
		"IS", "SUPPORT", "REPLY", "START", "END", "REQUEST-START", "REQUEST-END", "END_KEYID", "DEC_KEYID",
	}
	telnetCryptTypes = []string{
		"NULL", "DES_CFB64", "DES_OFB64", "DES3_CFB64", "DES3_OFB64", "", "CAST5_40_CFB64", "CAST5_40_OFB64",
		"CAST128_CFB64", "CAST128_OFB64",
	}
)

// telnet prints the commands that a segment begins with.
func (p *Printer) telnet(b []byte, length int) {
	p.proto = "telnet"
	first := true
	for length > 0 && p.u8(b, 0) == telnetIAC {
		n := p.telnetLength(b, length)
		if n < 0 {
			break
		}
		if first {
			p.str(" [telnet ")
		} else {
			p.str(", ")
		}
		p.telnetCommand(b, n)
		p.need(b, n)
		b, length, first = b[n:], length-n, false
	}
	if !first {
		p.char(']')
	}
}

// telnetLength is how long the command is that b begins with; -1 is that there is none, or not all of it.
func (p *Printer) telnetLength(b []byte, length int) int {
	if length < 2 {
		return -1
	}
	switch c := p.u8(b, 1); {
	case c == telnetIAC:
		return 2
	case c < telnetFirst:
		return -1
	case c < telnetSB:
		return 2
	case length < 3:
		return -1
	case c != telnetSB:
		p.need(b, 3)
		return 3
	}
	p.need(b, 3)
	end := 3
	for ; length > end+1; end++ {
		p.need(b, end+2)
		if b[end] == telnetIAC && b[end+1] == telnetSE {
			break
		}
	}
	if p.u8(b, end) != telnetIAC {
		return -1
	}
	return end + 2 // the last byte may be missing
}

// telnetCommand prints a command of n bytes.
func (p *Printer) telnetCommand(b []byte, n int) {
	c := b[1]
	if c == telnetIAC {
		p.str("IAC IAC")
		return
	}
	p.str(telnetCommands[c-telnetFirst])
	if c < telnetSB {
		return
	}
	p.char(' ')
	p.telnetWord(telnetOptions[:], b[2])
	if c == telnetSB {
		p.telnetNegotiation(b[2], b[3:n-2])
	}
}

// telnetNegotiation prints what a subnegotiation says of an option (RFC 855).
func (p *Printer) telnetNegotiation(option uint8, b []byte) {
	words := [][]string{telnetWords}
	switch option {
	case telnetAuthentication:
		words = [][]string{telnetAuthWords, telnetAuthTypes}
	case telnetEncrypt:
		words = [][]string{telnetCryptWords, telnetCryptTypes}
	}
	for i, c := range b {
		p.char(' ')
		if i < len(words) {
			p.telnetWord(words[i], c)
		} else {
			p.telnetWord(nil, c)
		}
	}
	p.str(" SE")
}

// telnetWord prints the word for c, or its number as C's %#x does.
func (p *Printer) telnetWord(words []string, c uint8) {
	if int(c) < len(words) && words[c] != "" {
		p.str(words[c])
	} else {
		p.str(sharpHex(uint32(c)))
	}
}
