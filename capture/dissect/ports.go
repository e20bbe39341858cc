package dissect

// Ports that tell what a payload is.
const (
	portFTP         = 21
	portSSH         = 22
	portTelnet      = 23
	portSMTP        = 25
	portWhois       = 43
	portDomain      = 53
	portTFTP        = 69
	portHTTP        = 80
	portBGP         = 179
	portRPKI        = 323
	portRTSP        = 554
	portMSDP        = 639
	portLDP         = 646
	portPPTP        = 1723
	portNFS         = 2049
	portVXLAN       = 4789
	portSIP         = 5060
	portGeneve      = 6081
	portRESP        = 6379
	portOpenFlowOld = 6633
	portOpenFlow    = 6653
	portHTTPAlt     = 8080
	portOTV         = 8472
	portRTSPAlt     = 8554
	portBEEP        = 10288
)
