package filter

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// records calls fn with the words of each line of a table in /etc until it returns true. A table that cannot be read
// has no lines: the name is then unknown, which is what the user is told.
func records(name string, fn func(words []string) bool) {
	data, err := os.ReadFile("/etc/" + name)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		if words := strings.Fields(line); len(words) >= 2 && fn(words) {
			return
		}
	}
}

// named reports whether one of the words, but for the second, is name: tables give the name, the value and aliases.
func named(words []string, name string) bool {
	for i, w := range words {
		if i != 1 && w == name {
			return true
		}
	}
	return false
}

// servicePort returns a service's port over TCP or UDP; getaddrinfo(3) takes a number for a name, too.
func servicePort(name, transport string) (port uint32, ok bool) {
	if n, rest := leadingNumber(name); rest == "" {
		return n, true
	}
	records("services", func(words []string) bool {
		number, over, _ := strings.Cut(words[1], "/")
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || over != transport || !named(words, name) {
			return false
		}
		port, ok = uint32(n), true
		return true
	})
	return port, ok
}

func ipProtoByName(name string) (number uint32, ok bool) {
	records("protocols", func(words []string) bool {
		n, err := strconv.ParseUint(words[1], 10, 8)
		if err != nil || !named(words, name) {
			return false
		}
		number, ok = uint32(n), true
		return true
	})
	return number, ok
}

// networkByName returns a network's number without its trailing zero bytes: 127 for 127.0.0.0.
func networkByName(name string) (number uint32, ok bool) {
	records("networks", func(words []string) bool {
		if !named(words, name) {
			return false
		}
		for part := range strings.SplitSeq(words[1], ".") {
			n, err := strconv.ParseUint(part, 10, 8)
			if err != nil {
				return false
			}
			number = number<<8 | uint32(n)
		}
		ok = number != 0
		return true
	})
	return number, ok
}

// etherByName returns the address of a host in /etc/ethers: the address comes first there.
func etherByName(name string) (addr []byte, ok bool) {
	if n := matchLen(patterns().ether, name); n > 0 && n == len(name) {
		return parseEther(name), true
	}
	records("ethers", func(words []string) bool {
		if words[1] != name || matchLen(patterns().ether, words[0]) != len(words[0]) {
			return false
		}
		addr, ok = parseEther(words[0]), true
		return true
	})
	return addr, ok
}

// hostAddrs returns a host's addresses in /etc/hosts, or the address that the name is.
func hostAddrs(name string) (addrs []netip.Addr) {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a}
	}
	records("hosts", func(words []string) bool {
		for _, w := range words[1:] {
			if strings.EqualFold(w, name) {
				if a, err := netip.ParseAddr(words[0]); err == nil {
					addrs = append(addrs, a.WithZone(""))
				}
				break
			}
		}
		return false
	})
	return addrs
}
