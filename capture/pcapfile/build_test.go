package pcapfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

// builder makes files of either byte order for the Reader's tests, block by
// block, whether they make sense or not.
type builder struct {
	binary.ByteOrder
	buf []byte
}

var orders = []binary.ByteOrder{binary.LittleEndian, binary.BigEndian}

// words gives its arguments in the builder's byte order.
func (b *builder) words(args ...any) []byte {
	var out bytes.Buffer
	for _, a := range args {
		switch v := a.(type) {
		case string:
			out.WriteString(v)
		case []byte:
			out.Write(v)
		case int:
			_ = binary.Write(&out, b.ByteOrder, uint32(v))
		default:
			if err := binary.Write(&out, b.ByteOrder, v); err != nil {
				panic(err)
			}
		}
	}
	return out.Bytes()
}

func (b *builder) add(args ...any) *builder {
	b.buf = append(b.buf, b.words(args...)...)
	return b
}

func (b *builder) block(kind int, args ...any) *builder {
	body := b.words(args...)
	body = append(body, make([]byte, padded(len(body))-len(body))...)
	n := len(body) + 12
	return b.add(kind, n, body, n)
}

// option gives an option with its padding.
func (b *builder) option(code int, args ...any) []byte {
	v := b.words(args...)
	return b.words(uint16(code), uint16(len(v)), v, make([]byte, padded(len(v))-len(v)))
}

func (b *builder) section(args ...any) *builder {
	return b.block(blockSection, byteOrderMagic, uint16(1), uint16(0), int64(-1), b.words(args...))
}

func (b *builder) iface(link, snapLen int, options ...any) *builder {
	return b.block(blockInterface, uint16(link), uint16(0), snapLen, b.words(options...))
}

// packet adds an Enhanced Packet Block.
func (b *builder) packet(id int, ticks uint64, data string, options ...any) *builder {
	pad := make([]byte, padded(len(data))-len(data))
	return b.block(blockEnhancedPacket, id, uint32(ticks>>32), uint32(ticks), len(data), len(data), data, pad, b.words(options...))
}

// pcapHeader adds a pcap file's header.
func (b *builder) pcapHeader(magic uint32, major, minor uint16, snapLen, link int) *builder {
	return b.add(magic, major, minor, 0, 0, snapLen, link)
}

func (b *builder) pcapPacket(seconds, fraction, capture, wire int, data string) *builder {
	return b.add(seconds, fraction, capture, wire, data)
}

// readAll returns all packets of a file, with data and comments of their own,
// and how it ended: nil for io.EOF.
func readAll(r io.Reader) ([]Packet, *Reader, error) {
	f, err := NewReader(r)
	if err != nil {
		return nil, nil, err
	}
	var all []Packet
	for {
		var p Packet
		if err := f.Next(&p); errors.Is(err, io.EOF) {
			return all, f, nil
		} else if err != nil {
			return all, f, err
		}
		p.Data = bytes.Clone(p.Data)
		for i := range p.Comments {
			p.Comments[i] = bytes.Clone(p.Comments[i])
		}
		all = append(all, p)
	}
}

func mustReadAll(t testing.TB, file []byte) ([]Packet, *Reader) {
	t.Helper()
	all, r, err := readAll(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return all, r
}
