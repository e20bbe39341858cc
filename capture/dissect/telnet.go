package dissect

// Bytes of RFC 854 that are no text.
const (
	telnetFirst = 236 // EOF, RFC 1184
	telnetSE    = 240
	telnetSB    = 250
	telnetWill  = 251
	telnetDont  = 254
	telnetIAC   = 255

	telnetAuth    = 37 // options, RFC 2941 and 2946
	telnetEncrypt = 38
)

var (
	telnetCommands = [...]string{
		"EOF", "SUSP", "ABORT", "EOR", "SE", "NOP", "DMARK", "BRK", "IP", "AO", "AYT", "EC", "EL", "GA", "SB", "WILL",
		"WONT", "DO", "DONT", "IAC",
	}
	telnetOptions = [...]string{
		"BINARY", "ECHO", "RCP", "SUPPRESS GO AHEAD", "NAME", "STATUS", "TIMING MARK", "RCTE", "NAOL", "NAOP", "NAOCRD",
		"NAOHTS", "NAOHTD", "NAOFFD", "NAOVTS", "NAOVTD", "NAOLFD", "EXTEND ASCII", "LOGOUT", "BYTE MACRO",
		"DATA ENTRY TERMINAL", "SUPDUP", "SUPDUP OUTPUT", "SEND LOCATION", "TERMINAL TYPE", "END OF RECORD",
		"TACACS UID", "OUTPUT MARKING", "TTYLOC", "3270 REGIME", "X.3 PAD", "NAWS", "TSPEED", "LFLOW", "LINEMODE",
		"XDISPLOC", "OLD-ENVIRON", "AUTHENTICATION", "ENCRYPT", "NEW-ENVIRON",
	}
	telnetQualifiers   = []tok{{0, "IS"}, {1, "SEND"}, {2, "INFO"}}
	telnetAuthCommands = []tok{{0, "IS"}, {1, "SEND"}, {2, "REPLY"}, {3, "NAME"}}
	telnetAuthTypes    = []tok{
		{0, "NULL"}, {1, "KERBEROS_V4"}, {2, "KERBEROS_V5"}, {3, "SPX"}, {4, "MINK"}, {5, "SRP"}, {6, "RSA"}, {7, "SSL"},
		{10, "LOKI"}, {11, "SSA"}, {12, "KEA_SJ"}, {13, "KEA_SJ_INTEG"}, {14, "DSS"}, {15, "NTLM"},
	}
	telnetEncryptCommands = []tok{
		{0, "IS"}, {1, "SUPPORT"}, {2, "REPLY"}, {3, "START"}, {4, "END"}, {5, "REQUEST-START"}, {6, "REQUEST-END"},
		{7, "END_KEYID"}, {8, "DEC_KEYID"},
	}
	telnetEncryptTypes = []tok{
		{0, "NULL"}, {1, "DES_CFB64"}, {2, "DES_OFB64"}, {3, "DES3_CFB64"}, {4, "DES3_OFB64"}, {6, "CAST5_40_CFB64"},
		{7, "CAST5_40_OFB64"}, {8, "CAST128_CFB64"}, {9, "CAST128_OFB64"},
	}
)

// telnet prints the commands at the beginning of a segment.
func (p *Printer) telnet(b []byte, length int) {
	p.proto = "telnet"
	first := true
	for length > 0 && p.u8(b, 0) == telnetIAC {
		text, n := p.telnetCommand(b, length)
		if n < 0 {
			break
		}
		p.str(flagStr(first, " [telnet ", ", "))
		p.str(text)
		first = false
		b, length = b[n:], length-n
	}
	p.sep(!first, "]")
}

// telnetCommand gives the text and the length of a command, -1 if it is none, or not whole.
func (p *Printer) telnetCommand(b []byte, length int) (text string, n int) {
	if length < 2 {
		return "", -1
	}
	c := p.u8(b, 1)
	switch {
	case c == telnetIAC:
		return "IAC IAC", 2
	case c < telnetFirst:
		return "", -1
	}
	text = telnetCommands[c-telnetFirst]
	if c < telnetSB || c > telnetDont {
		return text, 2
	}
	if length < 3 {
		return "", -1
	}
	option := p.u8(b, 2)
	if int(option) < len(telnetOptions) {
		text += " " + telnetOptions[option]
	} else {
		text += " " + sharpHex(uint32(option))
	}
	if c >= telnetWill {
		return text, 3
	}
	return p.telnetSub(text, option, b, length)
}

// telnetSub is telnetCommand for a subnegotiation, which IAC SE ends.
func (p *Printer) telnetSub(text string, option uint8, b []byte, length int) (string, int) {
	end := 3
	for length > end+1 && !(p.u8(b, end) == telnetIAC && p.u8(b, end+1) == telnetSE) {
		end++
	}
	if p.u8(b, end) != telnetIAC {
		return "", -1
	}
	names := [][]tok{telnetQualifiers}
	switch option {
	case telnetAuth:
		names = [][]tok{telnetAuthCommands, telnetAuthTypes}
	case telnetEncrypt:
		names = [][]tok{telnetEncryptCommands, telnetEncryptTypes}
	}
	at := 3
	for ; at < end; at++ {
		if at >= length {
			return "", -1
		}
		v := uint32(p.u8(b, at))
		name := sharpHex(v)
		if i := at - 3; i < len(names) {
			name = tokStr(names[i], name, v)
		}
		text += " " + name
	}
	return text + " SE", at + 2
}
