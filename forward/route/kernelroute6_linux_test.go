package route

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/wire"
)

// kernelRoute is the kernel's way of a UDP packet, `ip route get DST from SRC iif DEV`.
func kernelRoute(src, dst netip.Addr, in int32, class uint8, label uint32, ports [2]uint16) (string, error) {
	const rtaFlowLabel = 31
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, 0)
	msg := &nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET6, Dst_len: 128, Src_len: 128, Tos: class &^ 3, Flags: unix.RTM_F_LOOKUP_TABLE}}
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, dst.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.RTA_SRC, src.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.RTA_IIF, binary.NativeEndian.AppendUint32(nil, uint32(in))))
	req.AddData(nl.NewRtAttr(unix.RTA_IP_PROTO, []byte{wire.ProtoUDP}))
	req.AddData(nl.NewRtAttr(unix.RTA_SPORT, binary.BigEndian.AppendUint16(nil, ports[0])))
	req.AddData(nl.NewRtAttr(unix.RTA_DPORT, binary.BigEndian.AppendUint16(nil, ports[1])))
	if label != 0 {
		req.AddData(nl.NewRtAttr(rtaFlowLabel, binary.BigEndian.AppendUint32(nil, label)))
	}
	replies, err := req.Execute(unix.NETLINK_ROUTE, 0)
	var errno unix.Errno
	if errors.As(err, &errno) && (errno == unix.ENETUNREACH || errno == unix.EACCES || errno == unix.EHOSTUNREACH || errno == unix.EINVAL) {
		return errno.Error(), nil
	}
	if err != nil || len(replies) != 1 {
		return "", fmt.Errorf("RTM_GETROUTE: %w, %d replies", err, len(replies))
	}
	m := nl.DeserializeRtMsg(replies[0])
	attrs, err := nl.ParseRouteAttr(replies[0][m.Len():])
	if err != nil {
		return "", err
	}
	table, oif, via := uint32(m.Table), uint32(0), dst
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.RTA_TABLE:
			table = binary.NativeEndian.Uint32(a.Value)
		case unix.RTA_OIF:
			oif = binary.NativeEndian.Uint32(a.Value)
		case unix.RTA_GATEWAY:
			via = netip.AddrFrom16([16]byte(a.Value))
		}
	}
	if Type(m.Type) != TypeUnicast {
		return fmt.Sprintf("%v table %d", Type(m.Type), table), nil
	}
	return fmt.Sprintf("%v table %d dev %d via %v", Type(m.Type), table, oif, via), nil
}
