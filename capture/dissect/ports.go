package dissect

// Ports that tell what a payload is.
const (
	portFTP            = 21
	portSSH            = 22
	portTelnet         = 23
	portSMTP           = 25
	portWhois          = 43
	portDomain         = 53
	portBOOTPServer    = 67
	portBOOTPClient    = 68
	portTFTP           = 69
	portHTTP           = 80
	portNTP            = 123
	portSNMP           = 161
	portSNMPTrap       = 162
	portBGP            = 179
	portRPKI           = 323
	portIKE            = 500
	portSyslog         = 514
	portRIP            = 520
	portRIPng          = 521
	portDHCP6Client    = 546
	portDHCP6Server    = 547
	portRTSP           = 554
	portMSDP           = 639
	portLDP            = 646
	portRADIUS         = 1645
	portRADIUSAcct     = 1646
	portRADIUSCiscoCoA = 1700
	portPPTP           = 1723
	portRADIUSNew      = 1812
	portRADIUSNewAcct  = 1813
	portNFS            = 2049
	portBFD            = 3784
	portBFDEcho        = 3785
	portRADIUSCoA      = 3799
	portIKENAT         = 4500
	portBFDMultihop    = 4784
	portVXLAN          = 4789
	portSIP            = 5060
	portMDNS           = 5353
	portGeneve         = 6081
	portSFlow          = 6343
	portRESP           = 6379
	portOpenFlowOld    = 6633
	portOpenFlow       = 6653
	portBFDLAG         = 6784
	portIKEUser1       = 7500
	portHTTPAlt        = 8080
	portOTV            = 8472
	portIKEUser2       = 8500
	portRTSPAlt        = 8554
	portBEEP           = 10288
)
