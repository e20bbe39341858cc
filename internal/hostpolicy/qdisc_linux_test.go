package hostpolicy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tcMessage is a struct tcmsg with attributes.
func tcMessage(ifindex int, handle, parent uint32, attrs ...[]byte) []byte {
	m := tcmsg(ifindex, parent)
	binary.NativeEndian.PutUint32(m[8:], handle)
	return append(m, slices.Concat(attrs...)...)
}

func kind(name string) []byte { return attr(tcaKind, []byte(name+"\x00")) }

// TestFiltersOfQdiscs: filters are asked for at every qdisc that can hold some,
// wherever it stands, by the parent that the kernel knows it by; the test
// machine's kernel has few of them.
func TestFiltersOfQdiscs(t *testing.T) {
	options := attr(tcaOptions, attr(1, make([]byte, 4)))
	for _, c := range []struct {
		name    string
		qdiscs  [][]byte
		filters map[string]int // "index parent": how many filters
		want    []string
	}{
		{"at the root", [][]byte{tcMessage(2, 0x80010000, parentRoot, kind("fq_codel"))},
			map[string]int{"2 0": 1}, []string{"tc filters at fq_codel egress of veth0 (u32): 1 filter"}},
		{"of a child", [][]byte{tcMessage(2, 0x10000, parentRoot, kind("mq")), tcMessage(2, 0x100000, 0x10001, kind("fq_codel")), tcMessage(2, 0x200000, 0x10002, kind("sfq"))},
			map[string]int{"2 1048576": 1, "2 2097152": 2}, []string{
				"tc filters at fq_codel egress of veth0 (u32): 1 filter", "tc filters at sfq egress of veth0 (u32): 2 filters"}},
		{"of a child that nobody named", [][]byte{tcMessage(2, 0x10000, parentRoot, kind("mq")), tcMessage(2, 0, 0x10001, kind("fq_codel"))},
			map[string]int{"2 0": 1}, nil},
		{"multiq and fq_pie", [][]byte{tcMessage(2, 0x10000, parentRoot, kind("multiq")), tcMessage(3, 0x10000, parentRoot, kind("fq_pie"))},
			map[string]int{"2 0": 1, "3 0": 1}, []string{
				"tc filters at multiq egress of veth0 (u32): 1 filter", "tc filters at fq_pie egress of veth1 (u32): 1 filter"}},
		{"clsact, egress alone", [][]byte{tcMessage(3, 0xffff0000, parentIngress-1, kind("clsact"))},
			map[string]int{fmt.Sprint("3 ", uint32(parentEgress)): 3}, []string{"tc filters at clsact egress of veth1 (u32): 3 filters"}},
		{"another interface's", [][]byte{tcMessage(4, 0x80010000, parentRoot, kind("fq_codel")), tcMessage(4, 0x10000, parentRoot, kind("htb"))},
			map[string]int{"4 0": 1}, nil},
		{"none that takes filters", [][]byte{tcMessage(2, 0x10000, parentRoot, kind("pfifo"))}, map[string]int{"2 0": 1, "2 65536": 1}, nil},
	} {
		in := &inspector{ifs: []Interface{{"veth0", 2}, {"veth1", 3}}}
		in.dump = func(_ context.Context, _ int, typ uint16, payload []byte) (all [][]byte, err error) {
			if typ == unix.RTM_GETQDISC {
				return c.qdiscs, nil
			}
			index, parent := native32(payload[4:]), native32(payload[12:])
			for i := range c.filters[fmt.Sprint(index, " ", parent)] {
				all = append(all, tcMessage(int(index), uint32(1+i), parent, kind("u32"), options))
			}
			return append(all, tcMessage(int(index), 0, parent, kind("u32"), options)), nil // the classifier itself
		}
		found, err := in.qdiscs(context.Background())
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		var got []string
		for _, f := range found {
			got = append(got, f.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestQdiscsFailClosed: what can't be asked is an error, what has gone is not.
func TestQdiscsFailClosed(t *testing.T) {
	for err, want := range map[error]bool{unix.EPERM: true, unix.ENOBUFS: true, unix.ENODEV: false, unix.EINVAL: false} {
		for _, failing := range []uint16{unix.RTM_GETQDISC, unix.RTM_GETTFILTER} {
			in := &inspector{ifs: []Interface{{"veth0", 2}}}
			in.dump = func(_ context.Context, _ int, typ uint16, _ []byte) ([][]byte, error) {
				if typ == failing {
					return nil, err
				}
				return [][]byte{tcMessage(2, 0x10000, parentRoot, kind("tbf")), tcMessage(2, 0xffff0000, parentIngress-1, kind("clsact"))}, nil
			}
			found, got := in.qdiscs(context.Background())
			if (got != nil) != (want || failing == unix.RTM_GETQDISC) {
				t.Errorf("%v of %d: %v", err, failing, got)
			}
			if failing == unix.RTM_GETTFILTER && len(found) != 1 {
				t.Errorf("%v: what was found is lost: %v", err, found)
			}
		}
	}
}

func TestShapes(t *testing.T) {
	for kind, want := range map[string]bool{"": false, "default": false, "noqueue": false, "fq_codel": false, "clsact": false,
		"tbf": true, "htb": true, "cake": true, "netem": true, "what_is_to_come": true} {
		if Shapes(kind) != want {
			t.Errorf("%q: %v", kind, !want)
		}
	}
}

func TestFindingString(t *testing.T) {
	for f, want := range map[Finding]string{
		{Kind: KindTC, What: "tcx egress of a", Count: 1}:              "tcx egress of a: 1 program",
		{Kind: KindTC, What: "tc filters at b", Count: 2}:              "tc filters at b: 2 filters",
		{Kind: KindXFRM, What: "fwd", Count: 1}:                        "fwd: 1 policy",
		{Kind: KindXFRM, What: "fwd", Count: 2}:                        "fwd: 2 policies",
		{Kind: KindIPVS, What: "IPVS (ipvsadm -L)", Count: 2}:          "IPVS (ipvsadm -L): 2 services",
		{Kind: KindNFTables, What: "nft", Count: 1}:                    "nft: 1 rule",
		{Kind: KindNFTables, What: "nft (policy drop)", Interface: ""}: "nft (policy drop)",
		{Kind: KindQdisc, What: "qdisc tbf on a", Count: 1}:            "qdisc tbf on a",
	} {
		if got := f.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestCombined: what one source can't tell hides nothing of the others.
func TestCombined(t *testing.T) {
	for _, c := range []struct {
		name string
		errs [3]error
		is   error // nil: no error
		says []string
	}{
		{"all can be read", [3]error{}, nil, nil},
		{"in a user namespace", [3]error{nil, ErrUserNamespace, nil}, ErrUserNamespace, nil},
		{"one may not be read", [3]error{unix.EPERM, nil, nil}, unix.EPERM, []string{"nftables", "CAP_NET_ADMIN"}},
		{"two can't be read", [3]error{unix.ENOMEM, nil, unix.EPERM}, unix.ENOMEM, []string{"nftables", "tc filters", "CAP_NET_ADMIN"}},
		{"in a user namespace, and one can't be read", [3]error{ErrUserNamespace, nil, unix.ENOMEM}, unix.ENOMEM, []string{"tc filters"}},
	} {
		var r Results
		for i := range c.errs {
			r[i] = Result{[]Finding{{Kind: KindTC}}, c.errs[i]}
		}
		found, err := r.Combined()
		if len(found) != 3 || !errors.Is(err, c.is) || c.is != ErrUserNamespace && errors.Is(err, ErrUserNamespace) {
			t.Errorf("%s: %d findings, %v", c.name, len(found), err)
		}
		for _, want := range c.says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: no %q in %v", c.name, want, err)
			}
		}
	}
}

// TestReplace: what can't be read at the moment is as it was.
func TestReplace(t *testing.T) {
	var r, by Results
	r[0].Found, r[2].Found = []Finding{{What: "old"}}, []Finding{{What: "other"}}
	by[0].Found, by[1].Found, by[2].Err = nil, []Finding{{What: "new"}}, unix.EAGAIN
	r.Replace(&by, IPTables|TC)
	if found, err := r.Combined(); len(found) != 3 || found[0].What != "old" || found[1].What != "new" || found[2].What != "other" || !errors.Is(err, unix.EAGAIN) {
		t.Errorf("%v, %v", found, err)
	}
	r.Replace(&Results{}, All)
	if found, err := r.Combined(); len(found) != 0 || err != nil {
		t.Errorf("%v, %v", found, err)
	}
}
