package cli

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"proxyarpd/capture"
	"proxyarpd/capture/dissect"
)

// option is one of tcpdump's options: its letter, if it has one, and its name
// here, which is tcpdump's if that has one.
type option struct{ letter, name, meaning string }

// refusals are tcpdump's options that are refused, with the reason.
var refusals = []option{
	{"E", "ipsec-secret", "nothing is decrypted here; write the packets with -w and read them with tcpdump -E"},
	{"H", "mesh-headers", "802.11s mesh headers are not printed here"},
	{"I", "monitor-mode", "interfaces here are no 802.11 ones that could be put into monitor mode"},
	{"M", "tcp-md5-secret", "TCP-MD5 digests are not verified here; write the packets with -w and read them with tcpdump -M"},
}

// otherTypes are tcpdump's types of -T that have no printer here.
var otherTypes = []string{"aodv", "cnfp", "pgm_zmtp1", "quic", "rpc", "rtcp", "rtp", "wb", "zmtp1"}

// stampTypes are libpcap's types of time stamps (pcap-tstamp(7)). Packet
// sockets have the host's.
var stampTypes = []string{"host", "host_lowprec", "host_hiprec", "host_hiprec_unsynced", "adapter", "adapter_unsynced"}

// tcpdumpFlags are those of tcpdump's options that a person seldom types.
func (o *options) tcpdumpFlags(f *pflag.FlagSet) {
	f.StringVarP(&o.packetType, "packet-type", "T", "", "take payloads for this `type`, whatever the ports: "+strings.Join(dissect.Types, ", "))
	f.StringVarP(&o.fileList, "file-list", "V", "", "read packets from the files that this `file` lists, a name a line")
	f.StringVarP(&o.postRotate, "postrotate-command", "z", "", "with -C or -G: run this `command` with the name of each file that is full")
	f.BoolVarP(&o.asDot, "asdot", "b", false, "BGP: AS numbers in asdot notation")
	f.BoolVarP(&o.rawHandles, "raw-handles", "u", false, "NFS: file handles as they are")
	f.BoolVarP(&o.foreign, "foreign-numeric", "f", false, "IPv4 addresses that are not of the interface's network as numbers")
	f.StringVarP(&o.stampType, "time-stamp-type", "j", "", "where time stamps come from: host is the only `type`")
	f.BoolVarP(&o.listStampTypes, "list-time-stamp-types", "J", false, "list the types of time stamps of the interface")
	f.BoolVar(&o.version, "version", false, "print the version")
	for _, r := range refusals {
		if r.name == "ipsec-secret" || r.name == "tcp-md5-secret" {
			f.StringP(r.name, r.letter, "", "refused: "+r.meaning)
		} else {
			f.BoolP(r.name, r.letter, false, "refused: "+r.meaning)
		}
	}
}

// checkTcpdump finds what of those can't be.
func (o *options) checkTcpdump(f *pflag.FlagSet) error {
	bad := func(format string, args ...any) error { return Usage(fmt.Sprintf(format, args...)) }
	for _, r := range refusals {
		if f.Changed(r.name) {
			return bad("-%s is refused: %s", r.letter, r.meaning)
		}
	}
	offline := o.read != "" || o.fileList != ""
	switch {
	case o.packetType == "" || slices.Contains(dissect.Types, o.packetType):
	case slices.Contains(otherTypes, o.packetType):
		return bad("-T %s is refused: there is no printer for it here; write the packets with -w and read them with tcpdump -T %[1]s", o.packetType)
	default:
		return bad("unknown packet type %q: want %s", o.packetType, strings.Join(dissect.Types, ", "))
	}
	switch {
	case o.read != "" && o.fileList != "":
		return bad("-V and -r are mutually exclusive")
	case o.fileList != "" && len(o.interfaces) > 0:
		return bad("-i and -V exclude each other")
	case o.foreign && offline:
		return bad("-f can not be used with -V or -r")
	case o.postRotate != "" && o.rotateSize == "" && o.rotateSeconds == 0:
		return bad("-z is for -C or -G: it is run when the next file begins")
	case o.stampType == "" || o.stampType == stampTypes[0]:
	case slices.Contains(stampTypes, o.stampType):
		return bad("-j %s is refused: packet sockets have the time stamps of the host", o.stampType)
	default:
		return bad("invalid time stamp type %s", o.stampType)
	}
	return nil
}

// printVersion is --version.
func (r *run) printVersion() {
	fmt.Fprintf(r.Out, "proxyarpd capture %s\noptions and text of tcpdump 4.99.3, filters of libpcap 1.10.3\n", r.Version)
}

// listStamps is -J.
func (r *run) listStamps() {
	if len(r.interfaces) == 0 {
		r.interfaces = []string{capture.Any}
	}
	fmt.Fprintf(r.Out, "Time stamp types for %s (use option -j to set):\n  host (Host)\n", printable(strings.Join(r.interfaces, ", ")))
}

// Bounds of a list of files.
const (
	maxFileList = 1 << 20 // bytes
	maxFileName = 4096    // bytes (PATH_MAX)
)

// readFileList reads the names that the file of -V lists.
func readFileList(name string) ([]string, error) {
	in := io.Reader(os.Stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	var all []string
	s := bufio.NewScanner(io.LimitReader(in, maxFileList+1))
	s.Buffer(nil, maxFileName)
	size := 0
	for s.Scan() {
		if size += len(s.Bytes()) + 1; size > maxFileList {
			return nil, fmt.Errorf("%s: longer than %d bytes", name, maxFileList)
		}
		all = append(all, s.Text())
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: lists no file", name)
	}
	return all, nil
}
