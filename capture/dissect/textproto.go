package dissect

import "strings"

// textCommands are the requests of a protocol of lines: a packet that begins with none of them, nor with a reply, is
// the rest of one.
type textCommands struct {
	names       []string
	replySecond bool // the code of a reply is its second word: HTTP/1.1 200 OK
}

var (
	httpCommands = textCommands{[]string{
		"GET", "PUT", "COPY", "HEAD", "LOCK", "MOVE", "POLL", "POST", "BCOPY", "BMOVE", "MKCOL", "TRACE", "LABEL",
		"MERGE", "DELETE", "SEARCH", "UNLOCK", "REPORT", "UPDATE", "NOTIFY", "BDELETE", "CONNECT", "OPTIONS", "CHECKIN",
		"PROPFIND", "CHECKOUT", "CCM_POST", "SUBSCRIBE", "PROPPATCH", "BPROPFIND", "BPROPPATCH", "UNCHECKOUT",
		"MKACTIVITY", "MKWORKSPACE", "UNSUBSCRIBE", "RPC_CONNECT", "VERSION-CONTROL", "BASELINE-CONTROL",
	}, true}
	rtspCommands = textCommands{[]string{
		"OPTIONS", "DESCRIBE", "ANNOUNCE", "GET_PARAMETER", "PAUSE", "PLAY", "RECORD", "REDIRECT", "SET_PARAMETER",
		"SETUP", "TEARDOWN",
	}, true}
	sipCommands = textCommands{[]string{
		"ACK", "BYE", "CANCEL", "DO", "INFO", "INVITE", "MESSAGE", "NOTIFY", "OPTIONS", "PRACK", "QAUTH", "REFER",
		"REGISTER", "SPRACK", "SUBSCRIBE", "UPDATE", "PUBLISH",
	}, true}
)

// textProtocol prints the first line of a protocol of lines, with -v all of them. Every packet is printed if commands
// is nil.
func (p *Printer) textProtocol(name string, b []byte, length int, commands *textCommands) {
	p.proto = name
	begins := commands == nil || commands.begin(upto(b, length), length)
	p.str(strings.ToUpper(name))
	if !begins {
		return
	}
	if p.opt.Verbose == 0 {
		p.textLine(": ", b, 0, length)
		return
	}
	p.str(", length: ")
	p.num(length)
	for i := 0; i < length; {
		if i = p.textLine("\n\t", b, i, length); i == 0 {
			return
		}
	}
}

// begin says whether b, of which there are length bytes in the packet, begins with a request or a reply.
func (c *textCommands) begin(b []byte, length int) bool {
	word, rest := textWord(b, length)
	if word == nil {
		return false
	}
	for _, name := range c.names {
		if strings.EqualFold(string(word), name) {
			return true
		}
	}
	if c.replySecond {
		word, _ = textWord(rest, length-(len(b)-len(rest)))
	}
	return len(word) == 3 && isDigit(word[0]) && isDigit(word[1]) && isDigit(word[2])
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isPrint(c byte) bool { return c >= ' ' && c < 0x7f }

// textWord cuts the first word and the blanks after it off b; the word is nil if b begins with none, or with one that
// is too long, not text or not captured to its end.
func textWord(b []byte, length int) (word, rest []byte) {
	const longest = 127
	n := 0
	for ; n < len(b) && b[n] != ' ' && b[n] != '\t' && b[n] != '\r' && b[n] != '\n'; n++ {
		if !isPrint(b[n]) || n >= longest {
			return nil, nil
		}
	}
	if n == 0 || n == len(b) && n < length {
		return nil, nil
	}
	rest = b[n:]
	for len(rest) > 0 && rest[0] == ' ' {
		rest = rest[1:]
	}
	return b[:n], rest
}

// textLine prints prefix and the line of b that begins at i, if it is text, and returns where the next one begins; 0
// is that there is none.
func (p *Printer) textLine(prefix string, b []byte, i, length int) int {
	start, next := i, 0
	for ; i < length; i++ {
		c := p.u8(b, i)
		if c == '\n' {
			next = i + 1
			break
		}
		if c == '\r' {
			if i+1 >= length || p.u8(b, i+1) != '\n' {
				return 0
			}
			next = i + 2
			break
		}
		if !isPrint(c) && c != '\t' {
			return 0
		}
	}
	p.str(prefix)
	p.out = append(p.out, b[start:i]...)
	if next == 0 {
		p.trunc() // the end of the line is in another packet
	}
	return next
}

// ssh prints the line that a connection begins with (RFC 4253, section 4.2).
func (p *Printer) ssh(b []byte, length int) {
	p.proto = "ssh"
	for i, c := range []byte("SSH-") {
		if p.u8(b, i) != c {
			return
		}
	}
	for i := 4; i < length; i++ {
		c := p.u8(b, i)
		if c == '\n' || c == '\r' && i+1 < length && p.u8(b, i+1) == '\n' {
			p.str(": SSH: ")
			p.out = append(p.out, b[:i]...)
			return
		}
		if !isPrint(c) {
			return
		}
	}
}
