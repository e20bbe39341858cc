package hostpolicy

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
)

// sh runs commands, one a line, in the test's namespace, and skips if a program is missing.
func sh(t testing.TB, script string) {
	t.Helper()
	for line := range strings.Lines(script) {
		args := strings.Fields(line)
		if len(args) == 0 {
			continue
		}
		if _, err := exec.LookPath(args[0]); err != nil {
			nstest.Skip(t, "%s is not installed", args[0])
		}
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.TrimSpace(line), err, out)
		}
	}
}

// veths makes the interfaces that forwarding would use, and one that it would not.
func veths(t testing.TB) []Interface {
	t.Helper()
	sh(t, `ip link add veth0 type veth peer name veth1
	       ip link add other0 type veth peer name other1
	       ip link set veth0 up
	       ip link set veth1 up`)
	var ifs []Interface
	for _, name := range []string{"veth0", "veth1"} {
		ifc, err := net.InterfaceByName(name)
		if err != nil {
			t.Fatal(err)
		}
		ifs = append(ifs, Interface{ifc.Name, ifc.Index})
	}
	return ifs
}

func inspect(t testing.TB, ifs []Interface) []string {
	t.Helper()
	found, err := Inspect(context.Background(), ifs, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range found {
		lines = append(lines, [...]string{"", "IPv4: ", "IPv6: "}[f.Family]+f.Kind+": "+f.String())
		if nat := strings.Contains(f.What, " nat chain") || strings.Contains(f.What, " ip n chain p"); nat != f.NAT {
			t.Errorf("%s: NAT is %t", f, f.NAT)
		}
	}
	return lines
}

func TestInspect(t *testing.T) {
	for _, tt := range []struct {
		name   string
		script string
		want   []string
	}{
		{"nothing", ``, nil},
		{"nft without rules", `
			nft add table ip filter
			nft add chain ip filter FORWARD { type filter hook forward priority 0 ; policy accept ; }
			nft add chain ip filter side
			nft add rule ip filter side drop`, nil},
		{"nft hooks that forwarded packets do not meet", `
			nft add table inet t
			nft add chain inet t in { type filter hook input priority 0 ; policy drop ; }
			nft add rule inet t in accept
			nft add chain inet t out { type nat hook output priority -100 ; }
			nft add rule inet t out counter
			nft add table ip6 t
			nft add chain ip6 t in6 { type filter hook input priority 0 ; policy drop ; }
			nft add table arp t
			nft add chain arp t in { type filter hook input priority 0 ; }
			nft add rule arp t in drop`, nil},
		{"nft of bridges, which packets meet all the same", `
			nft add table bridge t
			nft add chain bridge t f { type filter hook forward priority 0 ; policy drop ; }`, nil},
		{"nft of IPv6", `
			nft add table ip6 filter
			nft add chain ip6 filter FORWARD { type filter hook forward priority 0 ; policy drop ; }
			nft add chain ip6 filter PREROUTING { type filter hook prerouting priority 0 ; }
			nft add chain ip6 filter out { type filter hook output priority 0 ; policy drop ; }
			nft add rule ip6 filter PREROUTING counter
			nft add table ip6 nat
			nft add chain ip6 nat post { type nat hook postrouting priority 100 ; }
			nft add rule ip6 nat post masquerade`,
			[]string{
				"IPv6: nftables: nft table ip6 filter chain FORWARD (hook forward, policy drop)",
				"IPv6: nftables: nft table ip6 filter chain PREROUTING (hook prerouting): 1 rule",
				"IPv6: nftables: nft table ip6 nat chain post (hook postrouting): 1 rule",
			}},
		{"ip6tables-nft", `
			ip6tables-nft -A FORWARD -s fd00::/8 -j DROP
			ip6tables-nft -t nat -A POSTROUTING -j MASQUERADE`,
			[]string{
				"IPv6: nftables: nft table ip6 filter chain FORWARD (hook forward): 1 rule",
				"IPv6: nftables: nft table ip6 nat chain POSTROUTING (hook postrouting): 1 rule",
			}},
		{"legacy ip6tables without rules", `
			ip6tables-legacy -t filter -L -n
			ip6tables-legacy -A INPUT -j DROP`, nil},
		{"legacy ip6tables", `
			ip6tables-legacy -N side
			ip6tables-legacy -A side -j DROP
			ip6tables-legacy -A FORWARD -p tcp -m tcp --dport 80 -j ACCEPT
			ip6tables-legacy -A FORWARD -j side
			ip6tables-legacy -P FORWARD DROP
			ip6tables-legacy -t raw -A PREROUTING -j DROP`,
			[]string{
				"IPv6: iptables: ip6tables (legacy) table filter chain FORWARD (policy DROP): 2 rules",
				"IPv6: iptables: ip6tables (legacy) table raw chain PREROUTING: 1 rule",
			}},
		{"tc filters of one protocol", `
			tc qdisc add dev veth0 clsact
			tc filter add dev veth0 ingress pref 1 protocol ipv6 u32 match u32 0 0
			tc filter add dev veth0 egress pref 2 protocol ip u32 match u32 0 0
			tc filter add dev veth0 egress pref 3 protocol ipv6 u32 match u32 0 0
			tc qdisc add dev veth1 clsact
			tc filter add dev veth1 ingress pref 4 protocol all u32 match u32 0 0
			tc filter add dev veth1 egress pref 5 protocol ip u32 match u32 0 0`,
			[]string{
				"IPv6: tc: tc filters at clsact ingress of veth0 (u32): 1 filter",
				"tc: tc filters at clsact egress of veth0 (u32): 2 filters",
				"tc: tc filters at clsact ingress of veth1 (u32): 1 filter",
				"IPv4: tc: tc filters at clsact egress of veth1 (u32): 1 filter",
			}},
		{"nft forward", `
			nft add table ip filter
			nft add chain ip filter FORWARD { type filter hook forward priority 0 ; }
			nft add rule ip filter FORWARD counter
			nft add rule ip filter FORWARD drop`,
			[]string{"IPv4: nftables: nft table ip filter chain FORWARD (hook forward): 2 rules"}},
		{"nft forward with a policy alone", `
			nft add table inet fw
			nft add chain inet fw f { type filter hook forward priority 0 ; policy drop ; }`,
			[]string{"nftables: nft table inet fw chain f (hook forward, policy drop)"}},
		{"nft dormant table", `
			nft add table inet fw { flags dormant ; }
			nft add chain inet fw f { type filter hook forward priority 0 ; policy drop ; }`, nil},
		{"nft nat and mangle", `
			nft add table ip n
			nft add chain ip n pre { type nat hook prerouting priority -100 ; }
			nft add rule ip n pre tcp dport 80 redirect to :8080
			nft add chain ip n post { type nat hook postrouting priority 100 ; }
			nft add rule ip n post masquerade
			nft add chain ip n raw { type filter hook prerouting priority -300 ; }
			nft add rule ip n raw notrack`,
			[]string{
				"IPv4: nftables: nft table ip n chain pre (hook prerouting): 1 rule",
				"IPv4: nftables: nft table ip n chain post (hook postrouting): 1 rule",
				"IPv4: nftables: nft table ip n chain raw (hook prerouting): 1 rule",
			}},
		{"nft netdev and inet ingress", `
			nft add table netdev x
			nft add chain netdev x in { type filter hook ingress device veth0 priority 0 ; }
			nft add rule netdev x in drop
			nft add chain netdev x out { type filter hook egress devices = { veth1, other0 } priority 0 ; }
			nft add rule netdev x out counter
			nft add rule netdev x out drop
			nft add chain netdev x no { type filter hook ingress device other0 priority 0 ; }
			nft add rule netdev x no drop
			nft add table inet y
			nft add chain inet y in { type filter hook ingress device veth1 priority 0 ; }
			nft add rule inet y in drop`,
			[]string{
				"nftables: nft table netdev x chain in (hook ingress, device veth0): 1 rule",
				"nftables: nft table netdev x chain out (hook egress, device veth1): 2 rules",
				"nftables: nft table inet y chain in (hook ingress, device veth1): 1 rule",
			}},
		{"iptables-nft", `
			iptables-nft -A FORWARD -s 10.0.0.0/8 -j DROP
			iptables-nft -t nat -A POSTROUTING -j MASQUERADE`,
			[]string{
				"IPv4: nftables: nft table ip filter chain FORWARD (hook forward): 1 rule",
				"IPv4: nftables: nft table ip nat chain POSTROUTING (hook postrouting): 1 rule",
			}},
		{"legacy iptables without rules", `
			iptables-legacy -t filter -L -n
			iptables-legacy -t nat -L -n
			iptables-legacy -A INPUT -j DROP
			iptables-legacy -N side
			iptables-legacy -A side -j DROP`, nil},
		{"legacy iptables", `
			iptables-legacy -N side
			iptables-legacy -A side -j DROP
			iptables-legacy -A FORWARD -p tcp -m tcp --dport 80 -j ACCEPT
			iptables-legacy -A FORWARD -j side
			iptables-legacy -P FORWARD DROP
			iptables-legacy -t nat -A PREROUTING -p tcp -j REDIRECT
			iptables-legacy -t mangle -A FORWARD -j TTL --ttl-set 5
			iptables-legacy -t raw -A PREROUTING -j DROP`,
			[]string{
				"IPv4: iptables: iptables (legacy) table filter chain FORWARD (policy DROP): 2 rules",
				"IPv4: iptables: iptables (legacy) table mangle chain FORWARD: 1 rule",
				"IPv4: iptables: iptables (legacy) table nat chain PREROUTING: 1 rule",
				"IPv4: iptables: iptables (legacy) table raw chain PREROUTING: 1 rule",
			}},
		{"harmless qdiscs", `
			tc qdisc add dev veth0 clsact
			tc qdisc add dev veth1 ingress
			tc qdisc add dev veth0 root pfifo limit 10
			tc qdisc add dev veth1 root bfifo
			tc qdisc add dev other0 root tbf rate 1mbit burst 10k latency 10ms
			tc qdisc add dev other1 clsact
			tc filter add dev other1 ingress protocol ip u32 match u32 0 0`, nil},
		{"shaping qdiscs", `
			tc qdisc add dev veth0 root tbf rate 1mbit burst 10k latency 10ms
			tc qdisc add dev veth1 root handle 1: htb
			tc class add dev veth1 parent 1: classid 1:1 htb rate 1mbit
			tc qdisc add dev veth1 parent 1:1 tbf rate 1mbit burst 10k latency 10ms`,
			[]string{"qdisc: qdisc tbf on veth0", "qdisc: qdisc htb on veth1", "qdisc: qdisc tbf on veth1"}},
		{"tc filters", `
			tc qdisc add dev veth0 clsact
			tc filter add dev veth0 ingress protocol ip u32 match u32 0 0
			tc filter add dev veth0 ingress protocol ip u32 match u32 1 1
			tc qdisc add dev veth1 ingress
			tc filter add dev veth1 parent ffff: protocol ip u32 match u32 0 0`,
			[]string{
				"IPv4: tc: tc filters at clsact ingress of veth0 (u32): 2 filters",
				"IPv4: tc: tc filters at ingress ingress of veth1 (u32): 1 filter",
			}},
		{"IPsec", `
			ip xfrm policy add src 10.0.0.0/8 dst 10.1.0.0/16 dir fwd tmpl src 1.1.1.1 dst 2.2.2.2 proto esp mode tunnel
			ip xfrm policy add src 10.0.0.0/8 dst 10.2.0.0/16 dir fwd action block
			ip xfrm policy add src 10.0.0.0/8 dst 10.1.0.0/16 dir out tmpl src 1.1.1.1 dst 2.2.2.2 proto esp mode tunnel
			ip xfrm policy add src 10.0.0.0/8 dst 10.1.0.0/16 dir in tmpl src 1.1.1.1 dst 2.2.2.2 proto esp mode tunnel
			ip xfrm policy add src fd00::/8 dst fd00::/8 dir fwd action block`,
			[]string{"IPv4: xfrm: IPsec (ip xfrm policy) dir fwd: 2 policies", "IPv4: xfrm: IPsec (ip xfrm policy) dir out: 1 policy",
				"IPv6: xfrm: IPsec (ip -6 xfrm policy) dir fwd: 1 policy"}},
		{"IPsec default", `ip xfrm policy setdefault fwd block`,
			[]string{"xfrm: IPsec (ip xfrm policy) default fwd block"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nstest.Enter(t)
			ifs := veths(t)
			sh(t, tt.script)
			if got := inspect(t, ifs); !sameSet(got, tt.want) {
				t.Errorf("got:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(tt.want, "\n\t"))
			}
		})
	}
}

// Of a forwarder of IPv4 alone, rules of IPv6 are no concern.
func TestInspectIPv4(t *testing.T) {
	nstest.Enter(t)
	ifs := veths(t)
	sh(t, `nft add table ip6 filter
	       nft add chain ip6 filter FORWARD { type filter hook forward priority 0 ; policy drop ; }
	       nft add table inet both
	       nft add chain inet both f { type filter hook forward priority 0 ; policy drop ; }
	       ip6tables-legacy -P FORWARD DROP
	       ip -6 xfrm policy add src fd00::/8 dst fd00::/8 dir fwd action block
	       tc qdisc add dev veth0 clsact
	       tc filter add dev veth0 ingress protocol ipv6 u32 match u32 0 0`)
	found, err := Inspect(context.Background(), ifs, false, nil)
	if err != nil || len(found) != 1 || found[0].What != "nft table inet both chain f (hook forward, policy drop)" || found[0].Family != AnyFamily {
		t.Errorf("%v: %v", found, err)
	}
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

// program loads a tc program that lets everything on.
func program(t *testing.T, name string) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if errors.Is(err, unix.EPERM) {
		nstest.Skip(t, "loading a program: %v (CAP_BPF is missing)", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestTCXProgram(t *testing.T) {
	nstest.Enter(t)
	ifs := veths(t)
	attach := func(p *ebpf.Program, ifc Interface, at ebpf.AttachType) {
		l, err := link.AttachTCX(link.TCXOptions{Interface: ifc.Index, Program: p, Attach: at})
		if errors.Is(err, ebpf.ErrNotSupported) {
			nstest.Skip(t, "tcx: %v (Linux 6.6 is needed)", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
	attach(program(t, "parp_claim"), ifs[0], ebpf.AttachTCXIngress)
	if got := inspect(t, ifs); len(got) != 0 {
		t.Errorf("our own program is a finding: %q", got)
	}
	attach(program(t, "theirs"), ifs[1], ebpf.AttachTCXEgress)
	got := inspect(t, ifs)
	if len(got) != 1 || !strings.HasPrefix(got[0], "tc: tcx egress of veth1 (theirs id ") || !strings.HasSuffix(got[0], "): 1 program") {
		t.Errorf("a foreign program gives %q", got)
	}
}

// Without CAP_NET_ADMIN nothing may be said to be absent.
func TestPermissionIsAnError(t *testing.T) {
	nstest.Enter(t)
	ifs := veths(t)
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&head, &caps[0]); err != nil {
		t.Fatal(err)
	}
	// The effective set is the thread's own, and the thread ends with the test.
	caps[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	caps[0].Effective &^= 1 << unix.CAP_SYS_ADMIN
	if err := unix.Capset(&head, &caps[0]); err != nil {
		t.Fatal(err)
	}
	_, err := Inspect(context.Background(), ifs, true, nil)
	if err == nil {
		t.Fatal("no error without CAP_NET_ADMIN")
	}
	for _, want := range []string{"nftables", "tcx", "IPsec", "CAP_NET_ADMIN"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
	if !errors.Is(err, os.ErrPermission) {
		t.Errorf("%v is no os.ErrPermission", err)
	}
}

// clsact filters of kind bpf: our own by the program's name, a foreign one named in the finding.
func TestBPFFilter(t *testing.T) {
	nstest.Enter(t)
	ifs := veths(t)
	sh(t, "tc qdisc add dev veth0 clsact")
	add := func(p *ebpf.Program, prio uint16, parent uint32) {
		err := netlink.FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: ifs[0].Index, Parent: parent, Handle: 1, Priority: prio, Protocol: unix.ETH_P_ALL},
			Fd:          p.FD(), Name: "loader", DirectAction: true,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	add(program(t, "parp_claim"), 1, parentIngress)
	if got := inspect(t, ifs); len(got) != 0 {
		t.Errorf("our own filter is a finding: %q", got)
	}
	add(program(t, "theirs"), 2, parentIngress)
	add(program(t, "others"), 1, parentEgress)
	if got, want := inspect(t, ifs), []string{
		"tc: tc filters at clsact ingress of veth0 (bpf theirs): 1 filter",
		"tc: tc filters at clsact egress of veth0 (bpf others): 1 filter",
	}; !slices.Equal(got, want) {
		t.Errorf("a foreign filter gives %q, want %q", got, want)
	}
}

func TestCancelledAndVanished(t *testing.T) {
	nstest.Enter(t)
	veths(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Inspect(ctx, nil, true, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if got := inspect(t, []Interface{{"gone0", 4711}}); len(got) != 0 {
		t.Errorf("an interface that is gone gives %q", got)
	}
}

// A legacy table that nobody opened must stay unopened.
func TestNoTableIsLoaded(t *testing.T) {
	nstest.Enter(t)
	ifs := veths(t)
	inspect(t, ifs)
	for _, x := range []xtables{xtables4, xtables6} {
		b, err := os.ReadFile("/proc/thread-self/net/" + x.names)
		if errors.Is(err, os.ErrNotExist) {
			nstest.Excused(t, nstest.NoSuchPart, "legacy %s", x.command)
		}
		if err != nil || len(b) != 0 {
			t.Errorf("%s: tables %q, %v", x.command, b, err)
		}
	}
}

func BenchmarkInspect(b *testing.B) {
	nstest.Enter(b)
	ifs := veths(b)
	for b.Loop() {
		if found, err := Inspect(context.Background(), ifs, true, nil); err != nil || len(found) != 0 {
			b.Fatal(found, err)
		}
	}
}
