package filter

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
)

// attached is a pair of sockets: what the first sends the second receives if the kernel's filter selects it.
type attached struct{ from, to int }

func newAttached(t *testing.T) attached {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	})
	return attached{fds[0], fds[1]}
}

func (a attached) attach(prog []Instruction) error {
	filter := make([]unix.SockFilter, len(prog))
	for i, ins := range prog {
		filter[i] = unix.SockFilter{Code: ins.Op, Jt: ins.Jt, Jf: ins.Jf, K: ins.K}
	}
	return unix.SetsockoptSockFprog(a.to, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}

func (a attached) selects(t *testing.T, data []byte) bool {
	t.Helper()
	if err := unix.Send(a.from, data, 0); err != nil {
		t.Fatal(err)
	}
	_, _, err := unix.Recvfrom(a.to, make([]byte, 2048), 0)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		t.Fatal(err)
	}
	return err == nil
}

func shiftsByX(i Instruction) bool {
	return i.Op == classALU|aluLSH|srcX || i.Op == classALU|aluRSH|srcX
}

// The kernel takes what Program gives, and decides as Match does. Such a socket's frames are received ones without a
// tag beside the bytes, of no interface.
func TestAsKernel(t *testing.T) {
	for _, link := range []LinkType{Ethernet, RawDLT, LinuxSLL2} {
		all := frames(22, link, 200)
		g := newExprGen(22, link)
		programs, refused := 0, 0
		for range 150 {
			expr := g.expr(2)
			for _, compile := range []func(string, LinkType) (*Filter, error){Compile, CompileSocket} {
				f, err := compile(expr, link)
				if err != nil {
					continue
				}
				prog := f.Program()
				a := newAttached(t)
				if prog == nil {
					refused++
					if len(f.prog) <= kernelMax && a.attach(f.prog) == nil && !slices.ContainsFunc(f.prog, negativeLoad) {
						t.Errorf("%s: no program, but the kernel takes it", expr)
					}
					continue
				}
				if err := a.attach(prog); err != nil {
					t.Errorf("%s: the kernel does not take the program: %v", expr, err)
					continue
				}
				if slices.ContainsFunc(prog, shiftsByX) {
					continue // by more than 31 bits the kernel shifts differently
				}
				programs++
				for _, fr := range all {
					if got, want := a.selects(t, fr.data), f.MatchMeta(fr.data, len(fr.data), Meta{}); got != want {
						t.Errorf("%v: %s: the kernel says %v of %x", link, expr, got, fr.data)
						break
					}
				}
			}
		}
		t.Logf("%v: %d programs, %d are not for a kernel", link, programs, refused)
	}
}

// The program for a socket is that of libpcap, which knows of the metadata only when it opens an interface.
func TestSocketAsTcpdump(t *testing.T) {
	nstest.NeedTcpdump(t)
	nstest.Enter(t)
	nstest.Veth(t, "a", "b")
	for _, expr := range []string{
		"vlan", "not vlan", "vlan 10", "vlan 10 and tcp port 80", "vlan and vlan 20 and ip6", "ip or vlan 10", "vlan 10 or arp",
		"vlan and ip[1] & 0xfc == 0xb8", "vlan 1 or vlan 2 or vlan 3", "inbound", "outbound and vlan", "ifindex 7", "inbound and not port 22",
		"vlan and icmp6[0] == 135", "vlan and ether broadcast", "mpls and ip", "tcp[tcpflags] & tcp-syn != 0 and outbound", "vlan and portrange 1-1023",
	} {
		text, err := exec.Command("tcpdump", "-i", "a", "-ddd", expr).Output()
		if err != nil {
			t.Fatalf("tcpdump %s: %v", expr, err)
		}
		f, err := CompileSocket(expr, Ethernet)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
		} else if program(f) != string(text) {
			t.Errorf("%s: the program is\n%s not\n%s", expr, program(f), text)
		}
	}
}

// The program for no capture at all is that of tcpdump -d without an interface, optimized or not.
func TestNowhereAsTcpdump(t *testing.T) {
	nstest.NeedTcpdump(t)
	for name, link := range map[string]LinkType{
		"EN10MB": Ethernet, "RAW": RawDLT, "LINUX_SLL": LinuxSLL, "LINUX_SLL2": LinuxSLL2, "NULL": Null, "LOOP": Loop, "IPV4": IPv4,
		"PPP": PPP, "PPP_SERIAL": PPPSerial, "PPP_ETHER": PPPEther, "PPP_BSDOS": PPPBSDOS, "PPP_PPPD": PPPPppd, "NFLOG": NFLOG,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, expr := range []string{
				"", "vlan", "vlan 10 and ip", "inbound", "outbound and tcp", "ifindex 7", "ip6", "ip or ip6", "not ip", "arp", "len > 60", "mpls 5 and ip",
				"llc dm", "tcp[tcpflags] & tcp-syn != 0 or ip6 host fe80::1",
			} {
				for _, noOptimize := range []bool{false, true} {
					args := []string{"-y", name, "-ddd", "--", expr}
					if noOptimize {
						args = append([]string{"-O"}, args...)
					}
					text, refused := exec.Command("tcpdump", args...).Output()
					f, err := Options{FromNowhere, noOptimize}.Compile(expr, link)
					if (refused != nil) != (err != nil) {
						t.Errorf("tcpdump %q: %v; here: %v", args, refused, err)
					} else if err == nil && program(f) != string(text) {
						t.Errorf("tcpdump %q: the program is\n%s not\n%s", args, program(f), text)
					}
				}
			}
		})
	}
}

// What is wrong with an expression that can be parsed is said in libpcap's words, for the link type of an interface.
func TestWordsAsTcpdump(t *testing.T) {
	nstest.NeedTcpdump(t)
	nstest.Enter(t)
	nstest.Veth(t, "a", "b")
	nstest.Tun(t, "tun0")
	for name, link := range map[string]LinkType{"a": Ethernet, "tun0": Raw} {
		for _, expr := range []string{
			"arp", "vlan", "vlan 10", "vlan 5000", "mpls", "mpls 9999999", "mpls and vlan", "mpls and arp", "rarp", "stp", "llc", "ether src 1:2:3:4:5:6",
			"ether broadcast", "ether multicast", "broadcast", "multicast", "tcp broadcast", "arp multicast", "pppoes", "pppoes 70000", "pppoed", "geneve 99999999",
			"ether proto 0x806", "iso", "isis", "decnet host 1.2", "atalk", "aarp", "ipx", "netbeui", "lat", "arp[0] = 1", "ether host foo", "wlan host 1:2:3:4:5:6",
			"ppp proto 1", "slip", "inbound", "outbound", "ifindex 3", "not arp", "arp or icmp", "ip", "ip6 multicast", "arp and ip", "port 70000", "portrange 1-70000",
			"portrange foo-bar", "ip port 5", "arp port 5", "icmp port 5", "port foo", "net foo", "ip host ::1", "ip6 host 1.2.3.4", "tcp host 1.2.3.4", "tcp host ::1",
			"net 10.0.0.1/8", "net 10.0.0.1 mask 255.0.0.0", "host 10.0.0.0/8", "net 10.0.0.0/33", "net ::1/200", "net ::1/64", "port 1.2.3.4", "proto 1.2.3.4", "host 10.0.0.300",
			"gateway foo", "gateway 1.2.3.4", "host 1:2:3:4:5:6", "ether proto foo", "ip proto foo", "iso proto foo", "tcp proto 5", "arp protochain 5", "geneve and ip protochain 5",
			"ip[0:3] = 1", "ip[0] / 0 = 1", "ip[0] << 33 = 1", "esp[0] = 1", "radio[0] = 1", "ether host 5", "tcp and 80", "ether[0] & 1 = 1", "less 100", "byte 0 = 1",
		} {
			text, err := exec.Command("tcpdump", "-i", name, "-d", "--", expr).CombinedOutput()
			_, got := CompileSocket(expr, link)
			var e *SyntaxError
			switch {
			case err == nil && got != nil:
				t.Errorf("%v: %s: %v, where tcpdump takes it", link, expr, got)
			case err == nil:
			case got == nil:
				t.Errorf("%v: %s is taken, where tcpdump says %s", link, expr, text)
			case !errors.As(got, &e) || !e.NoSense:
				t.Errorf("%v: %s: %v, an error of the syntax?", link, expr, got)
			default:
				lines := strings.Split(strings.TrimSpace(string(text)), "\n")
				if want, _ := strings.CutPrefix(lines[len(lines)-1], "tcpdump: "); !strings.HasPrefix(e.Msg, want) {
					t.Errorf("%v: %s: %q, where tcpdump says %q", link, expr, e.Msg, want)
				}
			}
		}
	}
}
