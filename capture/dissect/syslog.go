package dissect

var (
	syslogSeverities = []tok{
		{0, "emergency"}, {1, "alert"}, {2, "critical"}, {3, "error"}, {4, "warning"}, {5, "notice"}, {6, "info"},
		{7, "debug"},
	}
	syslogFacilities = []tok{
		{0, "kernel"}, {1, "user"}, {2, "mail"}, {3, "daemon"}, {4, "auth"}, {5, "syslog"}, {6, "lpr"}, {7, "news"},
		{8, "uucp"}, {9, "cron"}, {10, "authpriv"}, {11, "ftp"}, {12, "ntp"}, {13, "security"}, {14, "console"},
		{15, "cron"}, {16, "local0"}, {17, "local1"}, {18, "local2"}, {19, "local3"}, {20, "local4"}, {21, "local5"},
		{22, "local6"}, {23, "local7"},
	}
)

// syslog prints RFC 3164's messages: their priority, and with -v the text.
func (p *Printer) syslog(b []byte, length int) {
	p.proto = "syslog"
	if p.u8(b, 0) != '<' {
		p.invalid()
		return
	}
	pri, n := uint32(0), 1
	for n <= 3 && p.u8(b, n) >= '0' && b[n] <= '9' {
		pri = pri*10 + uint32(b[n]-'0')
		n++
	}
	if p.u8(b, n) != '>' {
		p.invalid()
		return
	}
	n++
	facility, severity := pri>>3&0x7f, pri&7
	facilityName := tokStr(syslogFacilities, "unknown (%d)", facility)
	severityName := tokStr(syslogSeverities, "unknown (%d)", severity)
	if p.opt.Verbose == 0 {
		p.printf("SYSLOG %s.%s, length: %d", facilityName, severityName, length)
		return
	}
	p.printf("SYSLOG, length: %d\n\tFacility %s (%d), Severity %s (%d)\n\tMsg: ",
		length, facilityName, facility, severityName, severity)
	if length > n {
		p.safe(upto(b[n:], length-n))
		p.need(b, length)
	}
	if p.opt.Verbose > 1 {
		p.hexLines("\n\t", upto(b, length), 0)
	}
}
