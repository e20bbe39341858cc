package pcapfile

// The block types of pcapng that matter here.
const (
	blockSection        = 0x0a0d0d0a // the same in both byte orders
	blockInterface      = 1
	blockPacket         = 2 // obsolete
	blockSimplePacket   = 3
	blockStatistics     = 5
	blockEnhancedPacket = 6
)

const (
	byteOrderMagic = 0x1a2b3c4d

	blockHeaderLen  = 8 // type, total length
	blockTrailerLen = 4 // total length

	// Lengths of what stands between header and options.
	sectionLen        = 16
	interfaceLen      = 8
	packetLen         = 20 // of the obsolete and the enhanced one
	simplePacketLen   = 4
	statisticsLen     = 12
	optionHeaderLen   = 4
	maxOptionLen      = 1<<16 - 1
	maxBlockLen       = 16 << 20
	maxOptionsLen     = 32 + 128<<10 // of a packet block, and the rest of it but the packet
	maxSectionLen     = 1 << 20
	unknownDropCount  = 1<<16 - 1 // of the obsolete block
	defaultResolution = 6         // if_tsresol
)

// The options.
const (
	optEnd     = 0
	optComment = 1

	shbHardware = 2
	shbOS       = 3
	shbUserAppl = 4

	ifName        = 2
	ifDescription = 3
	ifMACAddr     = 6
	ifTSResol     = 9
	ifFilter      = 11
	ifOS          = 12
	ifFCSLen      = 13
	ifTSOffset    = 14

	epbFlags     = 2 // and pack_flags
	epbDropCount = 4
	epbPacketID  = 5
	epbQueue     = 6

	isbStartTime    = 2
	isbEndTime      = 3
	isbIfRecv       = 4
	isbIfDrop       = 5
	isbFilterAccept = 6
	isbOSDrop       = 7
	isbUsrDeliv     = 8
)

// ifFilterString is the first byte of an if_filter that is an expression, and
// no program.
const ifFilterString = 0

// padded returns n rounded up to a multiple of four.
func padded(n int) int { return (n + 3) &^ 3 }
