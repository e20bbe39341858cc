package hostpolicy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Parents of the filters of an ingress or clsact qdisc (include/uapi/linux/pkt_sched.h). An ingress qdisc has
// the first only.
const (
	parentIngress = 0xfffffff2 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
	parentEgress  = 0xfffffff3 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)
	parentRoot    = 0xffffffff // TC_H_ROOT
)

// Attributes of filters (include/uapi/linux/pkt_cls.h) and of qdiscs.
const (
	tcaKind       = 1
	tcaOptions    = 2
	tcaBPFName    = 7
	tcaBPFID      = 11
	tcaU32Divisor = 4
	sizeofTcmsg   = 20
)

// harmless qdiscs queue, share or spread without a limit that anybody set: what the kernel, systemd and drivers
// choose by themselves. All else (tbf, htb, hfsc, cake, netem, prio, mqprio, taprio, and what is yet to come) is
// there because somebody wanted its effect.
var harmless = map[string]bool{
	"noqueue": true, "noop": true, "pfifo_fast": true, "pfifo": true, "bfifo": true, "pfifo_head_drop": true,
	"fq_codel": true, "codel": true, "fq": true, "pie": true, "fq_pie": true, "sfq": true, "mq": true, "multiq": true,
	"clsact": true, "ingress": true,
}

// Shapes reports whether a queueing discipline at the root of an interface is there for an effect that forwarding
// past it would lose. The name is that of IFLA_QDISC, "" if it is not known.
func Shapes(kind string) bool { return kind != "" && kind != "default" && !harmless[kind] }

// classifying are those harmless ones that take filters of their own.
var classifying = map[string]bool{"fq_codel": true, "fq_pie": true, "sfq": true, "multiq": true}

type qdisc struct {
	ifindex        int
	handle, parent uint32
	kind           string
}

// qdiscs reports shaping qdiscs, and tc filters where there is a qdisc that can hold some.
func (in *inspector) qdiscs(ctx context.Context) ([]Finding, error) {
	if len(in.ifs) == 0 {
		return nil, nil
	}
	msgs, err := in.dump(ctx, unix.NETLINK_ROUTE, unix.RTM_GETQDISC, tcmsg(0, 0))
	if err != nil {
		return nil, err
	}
	names := make(map[int]string, len(in.ifs))
	for _, ifc := range in.ifs {
		names[ifc.Index] = ifc.Name
	}
	var found []Finding
	for _, m := range msgs {
		q, ok := parseQdisc(m)
		if !ok || names[q.ifindex] == "" {
			continue
		}
		ifc := Interface{Name: names[q.ifindex], Index: q.ifindex}
		if !harmless[q.kind] {
			found = append(found, Finding{Kind: KindQdisc, Count: 1, Interface: ifc.Name,
				What: fmt.Sprintf("qdisc %s on %s", q.kind, ifc.Name)})
			continue
		}
		for _, p := range filterParents(q) {
			f, ok, err := in.filters(ctx, ifc, p.parent, q.kind+" "+p.name)
			if err != nil {
				return found, fmt.Errorf("filters of %s: %w", ifc.Name, err)
			}
			if ok {
				found = append(found, f)
			}
		}
	}
	return found, nil
}

type filterParent struct {
	parent uint32
	name   string
}

func filterParents(q qdisc) []filterParent {
	switch {
	case q.kind == "ingress":
		return []filterParent{{parentIngress, "ingress"}}
	case q.kind == "clsact":
		return []filterParent{{parentIngress, "ingress"}, {parentEgress, "egress"}}
	case classifying[q.kind] && q.parent == parentRoot:
		return []filterParent{{0, "egress"}} // parent 0 asks for the root qdisc
	case classifying[q.kind] && q.handle != 0:
		return []filterParent{{q.handle, "egress"}}
	}
	return nil
}

// filters reports the filters at one parent, those that run our own program apart.
func (in *inspector) filters(ctx context.Context, ifc Interface, parent uint32, where string) (Finding, bool, error) {
	msgs, err := in.dump(ctx, unix.NETLINK_ROUTE, unix.RTM_GETTFILTER, tcmsg(ifc.Index, parent))
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		// The interface or its qdisc has gone since, or the kernel has no classifiers (NET_CLS).
		return Finding{}, false, nil
	}
	if err != nil {
		return Finding{}, false, err
	}
	count := 0
	var names []string
	var concerns Family
	for _, m := range msgs {
		f, ok := parseFilter(m)
		if !ok {
			continue
		}
		program, err := f.programName(in)
		if err != nil {
			return Finding{}, false, err
		}
		if f.kind == "bpf" && own(program) {
			continue
		}
		if count == 0 {
			concerns = f.family
		} else if f.family != concerns {
			concerns = AnyFamily
		}
		count++
		name := f.kind
		if program != "" {
			name += " " + program
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return Finding{Kind: KindTC, Count: count, Interface: ifc.Name, Family: concerns,
		What: fmt.Sprintf("tc filters at %s of %s (%s)", where, ifc.Name, strings.Join(names, ", "))}, count > 0, nil
}

func tcmsg(ifindex int, parent uint32) []byte {
	b := make([]byte, sizeofTcmsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(ifindex))
	binary.NativeEndian.PutUint32(b[12:], parent)
	return b
}

func parseQdisc(m []byte) (q qdisc, ok bool) {
	if len(m) < sizeofTcmsg {
		return q, false
	}
	q.ifindex = int(native32(m[4:]))
	q.handle, q.parent = native32(m[8:]), native32(m[12:])
	for typ, v := range attributes(m[sizeofTcmsg:]) {
		if typ == tcaKind {
			q.kind = text(v)
		}
	}
	return q, q.kind != ""
}

type filter struct {
	kind   string
	family Family // by the protocol that it is for
	progID uint32 // of kind bpf
	tcName string // of kind bpf: what its loader called it
}

// programName is the program's own name where it may be read, else what the loader called the filter.
func (f *filter) programName(in *inspector) (string, error) {
	if f.progID == 0 {
		return f.tcName, nil
	}
	name, err := in.programName(f.progID)
	if name == "" {
		name = f.tcName
	}
	return name, err
}

// tcmProtocol gives the bytes of a filter's EtherType, in network order: tcm_info is TC_H_MAKE(priority << 16, protocol).
func tcmProtocol(m []byte) []byte {
	return binary.NativeEndian.AppendUint16(nil, uint16(native32(m[16:])))
}

// parseFilter reads RTM_NEWTFILTER. A dump tells of each classifier first, without handle, then of its filters;
// u32 lists its hash tables too. Only filters count.
func parseFilter(m []byte) (f filter, ok bool) {
	if len(m) < sizeofTcmsg || native32(m[8:]) == 0 {
		return f, false
	}
	switch binary.BigEndian.Uint16(tcmProtocol(m)) {
	case unix.ETH_P_IP:
		f.family = IPv4
	case unix.ETH_P_IPV6:
		f.family = IPv6
	}
	var options []byte
	for typ, v := range attributes(m[sizeofTcmsg:]) {
		switch typ {
		case tcaKind:
			f.kind = text(v)
		case tcaOptions:
			options = v
		}
	}
	if options == nil {
		return f, false
	}
	for typ, v := range attributes(options) {
		switch {
		case f.kind == "u32" && typ == tcaU32Divisor:
			return f, false
		case f.kind == "bpf" && typ == tcaBPFName:
			f.tcName = text(v)
		case f.kind == "bpf" && typ == tcaBPFID:
			f.progID = native32(v)
		}
	}
	return f, true
}
