package cli

import (
	"bufio"
	"context"
	"encoding/binary"
	"math"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"proxyarpd/capture/pcapfile"
)

// names turns addresses and ports into names, as tcpdump does without -n.
type names struct {
	hosts map[netip.Addr]string
	ports map[string]string // "80/tcp"
	local netip.Prefix      // -f: other IPv4 addresses have no names; invalid is that all may
}

// localNetwork is that of the interface for -f: as in libpcap, all addresses
// where there are several interfaces, or it has none.
func localNetwork(o *options) netip.Prefix {
	if !o.foreign || len(o.interfaces) != 1 {
		return netip.Prefix{}
	}
	i, err := net.InterfaceByName(o.interfaces[0])
	if err != nil {
		return netip.Prefix{}
	}
	addrs, err := i.Addrs()
	if err != nil {
		return netip.Prefix{}
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			return p.Masked()
		}
	}
	return netip.Prefix{}
}

const (
	lookupTimeout = 2 * time.Second
	maxHosts      = 4096
	servicesFile  = "/etc/services"
)

// interfaceNames are the names that tcpdump shows of cooked packets: those that
// the indices have where it runs, even if the file is from elsewhere.
type interfaceNames map[uint32]string

// maxInterfaces bounds what a file can make us remember.
const maxInterfaces = 4096

func (n *interfaceNames) of(p *pcapfile.Packet) string {
	if p.Interface != nil && p.Interface.Name != "" {
		return short(p.Interface.Name)
	}
	if p.LinkType != pcapfile.LinkTypeLinuxSLL2 || len(p.Data) < sll2Len {
		return ""
	}
	index := binary.BigEndian.Uint32(p.Data[4:])
	name, asked := (*n)[index]
	if asked || index > math.MaxInt32 {
		return name
	}
	if *n == nil || len(*n) == maxInterfaces {
		*n = interfaceNames{}
	}
	if i, err := net.InterfaceByIndex(int(index)); err == nil {
		name = i.Name
	}
	(*n)[index] = name
	return name
}

// host asks the resolver once for an address; "" if it has no name.
func (n *names) host(addr []byte) string {
	a, ok := netip.AddrFromSlice(addr)
	if !ok || a.Is4() && n.local.IsValid() && !n.local.Contains(a) {
		return ""
	}
	if name, asked := n.hosts[a]; asked {
		return name
	}
	if n.hosts == nil || len(n.hosts) == maxHosts {
		n.hosts = map[netip.Addr]string{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	name := ""
	if found, err := net.DefaultResolver.LookupAddr(ctx, a.String()); err == nil && len(found) > 0 {
		name = strings.TrimSuffix(found[0], ".")
	}
	n.hosts[a] = name
	return name
}

func (n *names) port(protocol string, port uint16) string {
	if n.ports == nil {
		n.ports = services(servicesFile)
	}
	return n.ports[strconv.Itoa(int(port))+"/"+protocol]
}

// services reads services(5); the first name of a port counts.
func services(file string) map[string]string {
	all := map[string]string{}
	f, err := os.Open(file)
	if err != nil {
		return all
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		line, _, _ := strings.Cut(s.Text(), "#")
		if fields := strings.Fields(line); len(fields) >= 2 {
			if _, known := all[fields[1]]; !known {
				all[fields[1]] = fields[0]
			}
		}
	}
	return all
}
