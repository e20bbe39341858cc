package forward

import "proxyarpd/internal/wire"

// fragments cuts an IPv4 datagram for a link with an MTU of mtu bytes (RFC 791
// section 3.2; net/ipv4/ip_output.c, ip_do_fragment) and calls emit for each
// piece. The slice given to emit is scratch, overwritten by the next piece.
func fragments(ip wire.IPv4, mtu int, scratch []byte, emit func([]byte)) bool {
	hlen := ip.HeaderLen()
	room := (mtu - hlen) &^ 7
	if room <= 0 || len(scratch) < mtu {
		return false
	}
	var header [60]byte
	copy(header[:], ip[:hlen])
	data := ip[hlen:]
	offset, more := ip.FragmentOffset(), ip.Frag()&wire.IPv4MF
	for done := 0; done < len(data); {
		n := len(data) - done
		if n > mtu-hlen {
			n = room
		}
		piece := wire.IPv4(scratch[:hlen+n])
		copy(piece, header[:hlen])
		copy(piece[hlen:], data[done:done+n])
		frag := uint16((offset + done) / 8)
		if done+n < len(data) || more != 0 {
			frag |= wire.IPv4MF
		}
		piece.SetFrag(frag)
		piece.SetTotalLen(len(piece))
		piece.UpdateHeaderChecksum()
		emit(piece)
		if done == 0 && offset == 0 { // else they are blank already, says the kernel
			blankUncopied(header[wire.IPv4MinLen:hlen])
		}
		done += n
	}
	return true
}

// blankUncopied replaces the options that only the first fragment bears by
// no-operation (net/ipv4/ip_options.c, ip_options_fragment).
func blankUncopied(opts []byte) {
	const end, nop, copied = 0, 1, 0x80
	for i := 0; i < len(opts); {
		switch opts[i] {
		case end:
			return
		case nop:
			i++
			continue
		}
		if i+1 >= len(opts) || opts[i+1] < 2 || i+int(opts[i+1]) > len(opts) {
			return
		}
		n := int(opts[i+1])
		if opts[i]&copied == 0 {
			for j := i; j < i+n; j++ {
				opts[j] = nop
			}
		}
		i += n
	}
}
