package dissect

import "bytes"

// Procedures of NFS version 3; those of version 2 are told by nfsOldProcs.
const (
	nfsGetAttr     = 1
	nfsSetAttr     = 2
	nfsLookup      = 3
	nfsAccess      = 4
	nfsReadLink    = 5
	nfsRead        = 6
	nfsWrite       = 7
	nfsCreate      = 8
	nfsMkdir       = 9
	nfsSymlink     = 10
	nfsMknod       = 11
	nfsRemove      = 12
	nfsRmdir       = 13
	nfsRename      = 14
	nfsLink        = 15
	nfsReadDir     = 16
	nfsReadDirPlus = 17
	nfsFSStat      = 18
	nfsFSInfo      = 19
	nfsPathConf    = 20
	nfsCommit      = 21
	nfsNoop        = 25
	nfsOldHandle   = 32 // octets of a file handle of version 2
	nfsAttrs       = 84 // and of a file's attributes
	nfsOldAttrs    = 68
	nfsCalls       = 64
)

var (
	nfsOldProcs = [26]uint32{
		0, nfsGetAttr, nfsSetAttr, nfsNoop, nfsLookup, nfsReadLink, nfsRead, nfsNoop, nfsWrite, nfsCreate, nfsRemove,
		nfsRename, nfsLink, nfsSymlink, nfsMkdir, nfsRmdir, nfsReadDir, nfsFSStat, nfsNoop, nfsNoop, nfsNoop, nfsNoop,
		nfsNoop, nfsNoop, nfsNoop, nfsNoop,
	}
	nfsProcs = []tok{
		{nfsNoop, "nop"}, {0, "null"}, {nfsGetAttr, "getattr"}, {nfsSetAttr, "setattr"}, {nfsLookup, "lookup"},
		{nfsAccess, "access"}, {nfsReadLink, "readlink"}, {nfsRead, "read"}, {nfsWrite, "write"},
		{nfsCreate, "create"}, {nfsMkdir, "mkdir"}, {nfsSymlink, "symlink"}, {nfsMknod, "mknod"},
		{nfsRemove, "remove"}, {nfsRmdir, "rmdir"}, {nfsRename, "rename"}, {nfsLink, "link"},
		{nfsReadDir, "readdir"}, {nfsReadDirPlus, "readdirplus"}, {nfsFSStat, "fsstat"}, {nfsFSInfo, "fsinfo"},
		{nfsPathConf, "pathconf"}, {nfsCommit, "commit"},
	}
	nfsErrors = []tok{
		{1, "Operation not permitted"}, {2, "No such file or directory"}, {5, "Input/output error"},
		{6, "Device not configured"}, {11, "Resource deadlock avoided"}, {12, "Cannot allocate memory"},
		{13, "Permission denied"}, {17, "File exists"}, {18, "Cross-device link"},
		{19, "Operation not supported by device"}, {20, "Not a directory"}, {21, "Is a directory"},
		{22, "Invalid argument"}, {26, "Text file busy"}, {27, "File too large"}, {28, "No space left on device"},
		{30, "Read-only file system"}, {31, "Too many links"}, {45, "Operation not supported"},
		{62, "Too many levels of symbolic links"}, {63, "File name too long"}, {66, "Directory not empty"},
		{69, "Disc quota exceeded"}, {70, "Stale NFS file handle"}, {71, "Too many levels of remote in path"},
		{99, "Write cache flushed to disk"}, {10001, "Illegal NFS file handle"},
		{10002, "Update synchronization mismatch"}, {10003, "READDIR/READDIRPLUS cookie is stale"},
		{10004, "Operation not supported"}, {10005, "Buffer or request is too small"},
		{10006, "Unspecified error on server"}, {10007, "Object of that type not supported"},
		{10008, "Request couldn't be completed in time"},
	}
	nfsWriteModes = []tok{{0, "unstable"}, {1, "datasync"}, {2, "filesync"}}
	nfsFileTypes  = []tok{{0, "NON"}, {1, "REG"}, {2, "DIR"}, {3, "BLK"}, {4, "CHR"}, {5, "LNK"}, {7, "FIFO"}}
	nfsAccesses   = []string{"READ", "LOOKUP", "MODIFY", "EXTEND", "DELETE", "EXECUTE"}
	rpcAccepts    = []tok{
		{1, "PROG_UNAVAIL"}, {2, "PROG_MISMATCH"}, {3, "PROC_UNAVAIL"}, {4, "GARBAGE_ARGS"}, {5, "SYSTEM_ERR"},
	}
	rpcAuthErrors = []tok{
		{0, "OK"}, {1, "Bogus Credentials (seal broken)"},
		{2, "Rejected Credentials (client should begin new session)"}, {3, "Bogus Verifier (seal broken)"},
		{4, "Verifier expired or was replayed"}, {5, "Credentials are too weak"}, {6, "Bogus response verifier"},
		{7, "Unknown failure"},
	}
)

// nfsCache are the last calls, by which the answers are understood.
type nfsCache struct {
	calls      [nfsCalls]nfsCall
	next, hint int
}

type nfsCall struct {
	xid            uint32
	ipVersion      int
	client, server [16]byte
	proc, version  uint32
}

func (c *nfsCache) add(xid, proc, version uint32, h *ipHeader) {
	call := &c.calls[c.next]
	c.next = (c.next + 1) % nfsCalls
	*call = nfsCall{xid: xid, ipVersion: h.version, proc: proc, version: version}
	copy(call.client[:], h.src)
	copy(call.server[:], h.dst)
}

// find is the call that an answer with the header h answers, nil if it is not remembered.
func (c *nfsCache) find(xid uint32, h *ipHeader) *nfsCall {
	for n := range c.calls {
		i := (c.hint + n) % nfsCalls
		call := &c.calls[i]
		if call.ipVersion == h.version && call.xid == xid && bytes.Equal(call.server[:len(h.src)], h.src) &&
			bytes.Equal(call.client[:len(h.dst)], h.dst) {
			c.hint = i
			return call
		}
	}
	return nil
}

// nfsReader reads the words of a message one after the other. Its methods that return a bool tell whether there was
// all that they read; where tcpdump's macros jump out of the packet, they do as well.
type nfsReader struct {
	*Printer
	b      []byte
	off    int
	v3     bool
	failed bool // the server's answer is an error: that its rest is missing is not told
}

func (r *nfsReader) word() uint32 {
	v := r.u32(r.b, r.off)
	r.off += 4
	return v
}

func (r *nfsReader) at(i int) uint32 { return r.u32(r.b, r.off+i) }

func (r *nfsReader) has(n int) bool { return r.off+n <= len(r.b) }

// nfs prints a call to an NFS server or its answer, and says whether b is one.
func (p *Printer) nfs(before string, sport, dport uint16, b []byte, length int, h *ipHeader) bool {
	if sport != portNFS && dport != portNFS || len(b) < 8 {
		return false
	}
	r := nfsReader{Printer: p, b: b}
	switch kind := p.u32(b, 4); {
	case dport == portNFS && kind == 0:
		p.proto = "nfs"
		p.printf("%sNFS request xid %d %d", before, p.u32(b, 0), length)
		if !r.call(length, h) {
			p.trunc()
		}
	case sport == portNFS && kind == 1:
		p.proto = "nfs"
		p.printf("%sNFS reply xid %d ", before, p.u32(b, 0))
		if !r.reply(length, h) && !r.failed {
			p.trunc()
		}
	default:
		return false
	}
	return true
}

// procedure names a procedure, and is its number in version 3.
func (r *nfsReader) procedure(proc, version uint32) uint32 {
	r.v3 = version == 3
	if !r.v3 && int(proc) < len(nfsOldProcs) {
		proc = nfsOldProcs[proc]
	}
	r.str(" " + tokStr(nfsProcs, "proc-%d", proc))
	return proc
}

func (r *nfsReader) call(length int, h *ipHeader) bool {
	if len(r.b) < 24 {
		return false
	}
	version, proc := r.u32(r.b, 16), r.u32(r.b, 20)
	r.nfsCache.add(r.u32(r.b, 0), proc, version, h)
	proc = r.procedure(proc, version)
	if proc < nfsGetAttr || proc > nfsCommit {
		return true
	}
	if !r.credentials(length) || !r.handle(r.v3) {
		return false
	}
	v3, verbose := r.v3, r.opt.Verbose > 0
	switch proc {
	case nfsLookup, nfsCreate, nfsMkdir, nfsRemove, nfsRmdir:
		return r.name()
	case nfsAccess:
		r.access(r.word())
	case nfsRead:
		if v3 {
			r.printf(" %d bytes @ %d", r.at(8), r.u64(r.b, r.off))
		} else {
			r.printf(" %d bytes @ %d", r.at(4), r.at(0))
		}
	case nfsWrite:
		if !v3 {
			r.printf(" %d (%d) bytes @ %d (%d)", r.at(12), r.at(8), r.at(4), r.at(0))
			break
		}
		r.printf(" %d (%d) bytes @ %d", r.at(16), r.at(8), r.u64(r.b, r.off))
		if verbose {
			r.str(" <" + tokStr(nfsWriteModes, "", r.at(12)) + ">")
		}
	case nfsSymlink:
		if !r.name() {
			return false
		}
		r.str(" ->")
		var attrs nfsSetAttrs
		if v3 {
			attrs = r.setAttrs()
		}
		if !r.text() {
			return false
		}
		r.printSetAttrs(&attrs)
	case nfsMknod:
		if !r.name() {
			return false
		}
		kind := r.word()
		attrs := r.setAttrs()
		r.str(" " + tokStr(nfsFileTypes, "unk-ft %d", kind))
		if verbose && (kind == 3 || kind == 4) {
			r.printf(" %d/%d", r.at(0), r.at(4))
		}
		r.printSetAttrs(&attrs)
	case nfsRename:
		if !r.name() {
			return false
		}
		r.str(" ->")
		return r.handle(v3) && r.name()
	case nfsLink:
		r.str(" ->")
		return r.handle(v3) && r.name()
	case nfsReadDir, nfsReadDirPlus:
		if !v3 && proc == nfsReadDir {
			r.printf(" %d bytes @ %d", r.at(4), r.at(0))
			break
		}
		r.printf(" %d bytes @ %d", r.at(16), int64(r.u64(r.b, r.off)))
		if verbose && proc == nfsReadDirPlus {
			r.printf(" max %d", r.at(20))
		}
		if verbose {
			r.printf(" verf %08x%08x", r.at(8), r.at(12))
		}
	case nfsCommit:
		r.printf(" %d bytes @ %d", r.at(8), r.u64(r.b, r.off))
	}
	return true
}

// credentials goes to the arguments of a call, which lie behind credentials and verifier.
func (r *nfsReader) credentials(length int) bool {
	r.off = 24
	for i := range 2 {
		if length < 8 {
			return false
		}
		n := r.at(4)
		rounded := int((n + 3) &^ 3)
		if !r.has(8+rounded) || 8+rounded > length || i == 1 && 8+rounded == length {
			return false
		}
		r.off += (int(n) + 11) &^ 3
		length -= 8 + rounded
	}
	return true
}

// name prints a space and a file's name, text the name.
func (r *nfsReader) name() bool {
	r.char(' ')
	return r.text()
}

func (r *nfsReader) text() bool {
	n := r.word()
	if n > 0xfffffffc {
		r.str("[cannot pad to 32-bit boundaries]")
		r.invalid()
		return false
	}
	rounded := int((n + 3) &^ 3)
	if !r.has(rounded) {
		return false
	}
	r.char('"')
	r.safe(r.b[r.off : r.off+int(n)])
	r.char('"')
	r.off += rounded
	return true
}

func (r *nfsReader) access(flags uint32) {
	switch {
	case flags > 0x3f:
		r.printf(" %04x", flags)
	case flags == 0x3f:
		r.str(" NFS_ACCESS_FULL")
	default:
		sep := byte(' ')
		for i, name := range nfsAccesses {
			if flags>>i&1 != 0 {
				r.char(sep)
				r.str("NFS_ACCESS_" + name)
				sep = '|'
			}
		}
	}
}

// nfsSetAttrs are the attributes that a new file is to have: mode, owner, group, size, and the times of access and
// modification.
type nfsSetAttrs struct {
	set   [4]bool
	value [4]uint32
	times [2]bool
	time  [2][2]uint32
}

func (r *nfsReader) setAttrs() (a nfsSetAttrs) {
	for i := range a.set {
		if a.set[i] = r.word() != 0; a.set[i] {
			a.value[i] = r.word()
		}
	}
	for i := range a.times {
		if a.times[i] = r.word() == 2; a.times[i] {
			a.time[i] = [2]uint32{r.word(), r.word()}
		}
	}
	return a
}

func (r *nfsReader) printSetAttrs(a *nfsSetAttrs) {
	if r.opt.Verbose == 0 {
		return
	}
	for i, format := range [...]string{" mode %o", " uid %d", " gid %d"} {
		if a.set[i] {
			r.printf(format, a.value[i])
		}
	}
	for i, name := range [...]string{"atime", "mtime"} {
		if a.times[i] && r.opt.Verbose > 1 {
			r.printf(" %s %d.%06d", name, a.time[i][0], a.time[i][1])
		}
	}
}

func (r *nfsReader) reply(length int, h *ipHeader) bool {
	if len(r.b) < 12 {
		return false
	}
	switch stat := r.u32(r.b, 8); stat {
	case 0:
		r.printf("reply ok %d", length)
		if call := r.nfsCache.find(r.u32(r.b, 0), h); call != nil {
			return r.answer(r.procedure(call.proc, call.version), length)
		}
	case 1:
		r.printf("reply ERR %d: ", length)
		if len(r.b) < 16 {
			return false
		}
		switch why := r.u32(r.b, 12); {
		case why > 1:
			r.printf("Unknown reason for rejecting rpc message %d", why)
		case why == 0 && len(r.b) < 24 || len(r.b) < 20:
			return false
		case why == 0:
			r.printf("RPC Version mismatch (%d-%d)", r.u32(r.b, 16), r.u32(r.b, 20))
		default:
			r.str("Auth " + tokStr(rpcAuthErrors, "Invalid failure code %d", r.u32(r.b, 16)))
		}
	default:
		r.printf("reply Unknown rpc response code=%d %d", stat, length)
	}
	return true
}

// answer prints the results of a procedure.
func (r *nfsReader) answer(proc uint32, length int) bool {
	if proc < nfsGetAttr || proc > nfsCommit {
		return true
	}
	n := int(r.u32(r.b, 16))
	if n >= length {
		return false
	}
	r.off = 12 + (n+11)&^3
	if stat := r.word(); stat != 0 {
		r.str(" " + tokStr(rpcAccepts, "ar_stat %d", stat))
		return true
	}
	if status := r.word(); status != 0 {
		r.str(" ERROR: " + tokStr(nfsErrors, "unk %d", status))
		r.failed = true
	}
	verbose := r.opt.Verbose
	if !r.v3 {
		return r.oldAnswer(proc)
	}
	switch proc {
	case nfsGetAttr:
		return r.failed || r.attrs(1, true)
	case nfsSetAttr, nfsRemove, nfsRmdir:
		return r.change()
	case nfsLookup:
		if !r.failed && !(r.handle(true) && r.after()) {
			return false
		}
		if verbose > 1 {
			r.str(" post dattr:")
			return r.after()
		}
	case nfsAccess:
		r.verboseStr(" attr:")
		if !r.after() {
			return false
		}
		if !r.failed {
			r.printf(" c %04x", r.at(0))
		}
	case nfsReadLink:
		return r.failed || r.after() && r.name()
	case nfsRead:
		if !r.after() {
			return false
		}
		if !r.failed && verbose > 0 {
			r.printf(" %d bytes", r.at(0))
			r.sep(r.at(4) != 0, " EOF")
		}
	case nfsWrite:
		if !r.change() {
			return false
		}
		if !r.failed && verbose > 0 {
			r.printf(" %d bytes", r.at(0))
			if verbose > 1 {
				r.str(" <" + tokStr(nfsWriteModes, "", r.at(4)) + ">")
				r.printf(" verf %x", r.u64(r.b, r.off+8))
			}
		}
	case nfsCreate, nfsMkdir, nfsSymlink, nfsMknod:
		return r.created()
	case nfsRename:
		if verbose > 0 {
			r.str(" from:")
			if !r.change() {
				return false
			}
			r.str(" to:")
			return r.change()
		}
	case nfsLink:
		if verbose > 0 {
			r.str(" file POST:")
			if !r.after() {
				return false
			}
			r.str(" dir:")
			return r.change()
		}
	case nfsReadDir, nfsReadDirPlus:
		return r.directory()
	case nfsFSStat, nfsFSInfo, nfsPathConf:
		return r.fileSystem(proc)
	case nfsCommit:
		return r.committed()
	}
	return true
}

// oldAnswer is answer for version 2 and for what is taken for it. Procedures that it has not are printed as those of
// version 3.
func (r *nfsReader) oldAnswer(proc uint32) bool {
	verbose := r.opt.Verbose
	switch proc {
	case nfsGetAttr, nfsSetAttr:
		return r.failed || r.attrs(1, false)
	case nfsLookup, nfsCreate, nfsMkdir:
		return r.failed || r.handle(false) && r.attrs(verbose, false)
	case nfsReadLink:
		return r.failed || r.name()
	case nfsRead, nfsWrite:
		return r.failed || r.attrs(verbose, false)
	case nfsReadDir:
		if r.failed {
			return true
		}
		r.printf(" offset 0x%x size %d ", r.at(0), r.at(4))
		r.sep(r.at(8) != 0, " eof")
	case nfsFSStat:
		if r.failed {
			return true
		}
		if !r.has(20) {
			return false
		}
		r.printf(" tsize %d bsize %d blocks %d bfree %d bavail %d", r.at(0), r.at(4), r.at(8), r.at(12), r.at(16))
	}
	return true
}

// attrs prints a file's attributes.
func (r *nfsReader) attrs(verbose int, v3 bool) bool {
	if !r.has(20) {
		return false
	}
	size := nfsOldAttrs
	if v3 {
		size = nfsAttrs
	}
	if verbose > 0 {
		r.printf(" %s %o ids %d/%d", tokStr(nfsFileTypes, "unk-ft %d ", r.at(0)), r.at(4), int32(r.at(12)),
			int32(r.at(16)))
		if v3 {
			r.printf(" sz %d", r.u64(r.b, r.off+20))
		} else {
			r.printf(" sz %d", r.at(20))
		}
	}
	if verbose > 1 {
		if !r.has(size) {
			return false
		}
		if v3 {
			r.printf(" nlink %d rdev %d/%d fsid %x fileid %x a/m/ctime", r.at(8), r.at(36), r.at(40),
				r.u64(r.b, r.off+44), r.u64(r.b, r.off+52))
		} else {
			r.printf(" nlink %d rdev 0x%x fsid 0x%x nodeid 0x%x a/m/ctime", r.at(8), r.at(28), r.at(36), r.at(40))
		}
		for i := size - 24; i < size; i += 8 {
			r.printf(" %d.%06d", r.at(i), r.at(i+4))
		}
	}
	r.off += size
	return true
}

// after prints the attributes that a file has after the call, with -v.
func (r *nfsReader) after() bool {
	if r.word() == 0 {
		return true
	}
	if r.opt.Verbose > 0 {
		return r.attrs(r.opt.Verbose, true)
	}
	r.off += nfsAttrs
	return true
}

// change prints a file's attributes before the call, with -vv, and after it.
func (r *nfsReader) change() bool {
	if r.opt.Verbose > 1 {
		r.str(" PRE:")
	}
	if r.word() != 0 {
		if !r.has(24) {
			return false
		}
		if r.opt.Verbose > 1 {
			r.printf(" sz %d", r.u64(r.b, r.off))
			r.printf(" mtime %d.%06d ctime %d.%06d", r.at(8), r.at(12), r.at(16), r.at(20))
		}
		r.off += 24
	}
	r.verboseStr(" POST:")
	return r.after()
}

// created prints the file that a call made.
func (r *nfsReader) created() bool {
	switch {
	case r.failed:
		return r.change()
	case r.word() == 0:
		return true
	case !r.handle(true):
		return false
	case r.opt.Verbose == 0:
		return true
	case !r.after():
		return false
	case r.opt.Verbose == 1:
		return true
	}
	r.str(" dir attr:")
	return r.change()
}

func (r *nfsReader) directory() bool {
	r.verboseStr(" POST:")
	if !r.after() {
		return false
	}
	if !r.failed && r.opt.Verbose > 0 {
		r.printf(" verf %08x%08x", r.at(0), r.at(4))
	}
	return true
}

func (r *nfsReader) committed() bool {
	if !r.change() {
		return false
	}
	if r.opt.Verbose > 1 {
		r.printf(" verf %x", r.u64(r.b, r.off))
	}
	return true
}

// fileSystem prints what the server says of a file system.
func (r *nfsReader) fileSystem(proc uint32) bool {
	r.verboseStr(" POST:")
	if !r.after() {
		return false
	}
	if r.failed && proc != nfsFSStat {
		return true
	}
	verbose := r.opt.Verbose > 0
	u64 := func(i int) uint64 { return r.u64(r.b, r.off+i) }
	switch proc {
	case nfsFSStat:
		if !r.has(52) {
			return false
		}
		r.printf(" tbytes %d fbytes %d abytes %d", u64(0), u64(8), u64(16))
		if verbose {
			r.printf(" tfiles %d ffiles %d afiles %d invar %d", u64(24), u64(32), u64(40), r.at(48))
		}
	case nfsFSInfo:
		if !r.has(48) {
			return false
		}
		r.printf(" rtmax %d rtpref %d wtmax %d wtpref %d dtpref %d", r.at(0), r.at(4), r.at(12), r.at(16), r.at(24))
		if verbose {
			r.printf(" rtmult %d wtmult %d maxfsz %d", r.at(8), r.at(20), u64(28))
			r.printf(" delta %d.%06d ", r.at(36), r.at(40))
		}
	default:
		if !r.has(24) {
			return false
		}
		r.printf(" linkmax %d namemax %d", r.at(0), r.at(4))
		for i, name := range [...]string{"notrunc", "chownres", "igncase", "keepcase"} {
			r.char(' ')
			r.sep(r.at(8+4*i) != 0, name)
		}
	}
	return true
}
