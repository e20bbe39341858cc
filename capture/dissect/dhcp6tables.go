package dissect

// Options that are printed each in its way; the names are RFC 8415's and others', see IANA's list.
const (
	dhcp6ClientID     = 1
	dhcp6ServerID     = 2
	dhcp6IANA         = 3
	dhcp6IATA         = 4
	dhcp6IAAddr       = 5
	dhcp6Requested    = 6
	dhcp6Preference   = 7
	dhcp6Elapsed      = 8
	dhcp6RelayMessage = 9
	dhcp6Auth         = 11
	dhcp6StatusCode   = 13
	dhcp6InterfaceID  = 18
	dhcp6Reconfigure  = 19
	dhcp6SIPDomains   = 21
	dhcp6SIPServers   = 22
	dhcp6DNSServers   = 23
	dhcp6Domains      = 24
	dhcp6IAPD         = 25
	dhcp6IAPrefix     = 26
	dhcp6NISServers   = 27
	dhcp6NISPServers  = 28
	dhcp6SNTPServers  = 31
	dhcp6Lifetime     = 32
	dhcp6BCMCSServers = 34
	dhcp6RemoteID     = 37
	dhcp6SubscriberID = 38
	dhcp6PANAAgent    = 40
	dhcp6PosixZone    = 41
	dhcp6ZoneName     = 42
	dhcp6EchoRequest  = 43
	dhcp6LeaseQuery   = 44
	dhcp6ClientData   = 45
	dhcp6ClientTime   = 46
	dhcp6RelayData    = 47
	dhcp6ClientLink   = 48
	dhcp6NTPServer    = 56
	dhcp6AFTR         = 64
	dhcp6MUD          = 112
)

// dhcp6Least are the least lengths of options.
var dhcp6Least = map[uint16]int{
	dhcp6ClientID: 2, dhcp6ServerID: 2, dhcp6IANA: 12, dhcp6IATA: 4, dhcp6IAAddr: 24, dhcp6Auth: 11, dhcp6StatusCode: 2,
	dhcp6IAPD: 12, dhcp6IAPrefix: 25, dhcp6RemoteID: 4, dhcp6LeaseQuery: 17, dhcp6RelayData: 16, dhcp6NTPServer: 4,
	dhcp6AFTR: 3, dhcp6PosixZone: 5, dhcp6ZoneName: 5, dhcp6MUD: 5,
}

// dhcp6Odd says whether an option can't have n bytes, because it has but one length or is a list of what has.
func dhcp6Odd(kind uint16, n int) bool {
	switch kind {
	case dhcp6Preference, dhcp6Reconfigure:
		return n != 1
	case dhcp6Elapsed:
		return n != 2
	case dhcp6Lifetime, dhcp6ClientTime:
		return n != 4
	case dhcp6Requested, dhcp6EchoRequest:
		return n%2 != 0
	case dhcp6SIPServers, dhcp6DNSServers, dhcp6SNTPServers, dhcp6NISServers, dhcp6NISPServers, dhcp6BCMCSServers,
		dhcp6PANAAgent, dhcp6ClientLink:
		return n%16 != 0
	}
	return false
}

var (
	dhcp6Options = []tok{
		{1, "client-ID"}, {2, "server-ID"}, {3, "IA_NA"}, {4, "IA_TA"}, {5, "IA_ADDR"}, {6, "option-request"},
		{7, "preference"}, {8, "elapsed-time"}, {9, "relay-message"}, {11, "authentication"},
		{12, "server-unicast"}, {13, "status-code"}, {14, "rapid-commit"}, {15, "user-class"},
		{16, "vendor-class"}, {17, "vendor-specific-info"}, {18, "interface-ID"}, {19, "reconfigure-message"},
		{20, "reconfigure-accept"}, {21, "SIP-servers-domain"}, {22, "SIP-servers-address"}, {23, "DNS-server"},
		{24, "DNS-search-list"}, {25, "IA_PD"}, {26, "IA_PD-prefix"}, {31, "SNTP-servers"}, {32, "lifetime"},
		{27, "NIS-server"}, {28, "NIS+-server"}, {29, "NIS-domain-name"}, {30, "NIS+-domain-name"},
		{33, "BCMCS-domain-name"}, {34, "BCMCS-server"}, {36, "Geoconf-Civic"}, {37, "Remote-ID"},
		{38, "Subscriber-ID"}, {39, "Client-FQDN"}, {40, "PANA-agent"}, {41, "POSIX-timezone"},
		{42, "POSIX-tz-database"}, {43, "Echo-request-option"}, {44, "Lease-query"}, {45, "LQ-client-data"},
		{46, "Clt-time"}, {47, "LQ-relay-data"}, {48, "LQ-client-link"}, {56, "NTP-server"}, {64, "AFTR-Name"},
		{112, "MUD-URL"},
	}
	dhcp6Status = []tok{
		{0, "Success"}, {1, "UnspecFail"}, {2, "NoAddrsAvail"}, {3, "NoBinding"}, {4, "NotOnLink"},
		{5, "UseMulticast"}, {6, "NoPrefixAvail"}, {7, "UnknownQueryType"}, {8, "MalformedQuery"},
		{9, "NotConfigured"}, {10, "NotAllowed"},
	}
)
