package claim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// The kernel's types (BTF, Documentation/bpf/btf.rst) are 130,000, of which the
// programs name three and two functions. The library makes an index of all of
// them, and of those of all modules, which is most of what loading takes. It is
// given a BTF with those three alone; where their IDs count, they are put into the
// programs here.

// kernelBTF is a raw BTF, in the host's byte order.
type kernelBTF struct {
	types, strings []byte
	at             []uint32 // where the types begin, by ID
}

// Kinds of types.
const (
	btfInt       = 1
	btfPtr       = 2
	btfArray     = 3
	btfStruct    = 4
	btfUnion     = 5
	btfEnum      = 6
	btfTypedef   = 8
	btfVolatile  = 9
	btfConst     = 10
	btfRestrict  = 11
	btfFunc      = 12
	btfFuncProto = 13
	btfVar       = 14
	btfDatasec   = 15
	btfDeclTag   = 17
	btfTypeTag   = 18
	btfEnum64    = 19
)

const (
	btfMagic     = 0xeb9f
	btfHeaderLen = 24
	btfTypeLen   = 12
	btfMemberLen = 12
	btfMaxDepth  = 32   // of types within types
	btfMaxTypes  = 4096 // that are copied
)

var errBTF = errors.New("malformed BTF")

// behind is the length of what follows a type's struct btf_type, by kind: in all,
// and for each of its members.
var behind = [btfEnum64 + 1]struct{ all, each int }{
	btfInt: {4, 0}, btfArray: {12, 0}, btfStruct: {0, btfMemberLen}, btfUnion: {0, btfMemberLen}, btfEnum: {0, 8},
	btfFuncProto: {0, 8}, btfVar: {4, 0}, btfDatasec: {0, 12}, btfDeclTag: {4, 0}, btfEnum64: {0, 12},
}

var native = binary.NativeEndian

// btfType is a struct btf_type with what follows it.
type btfType struct {
	name, info, size uint32 // size, or the ID of another type
	rest             []byte
}

func (t *btfType) kind() uint32 { return t.info >> 24 & 31 }

func (t *btfType) members() int { return int(t.info & 0xffff) }

// parseBTF finds where the types are, and the IDs of all that have one of the
// names, by name and kind.
func parseBTF(raw []byte, names ...string) (*kernelBTF, map[string]map[uint32][]uint32, error) {
	if len(raw) < btfHeaderLen || native.Uint16(raw) != btfMagic {
		return nil, nil, errBTF
	}
	header := uint64(native.Uint32(raw[4:]))
	section := func(at int) []byte {
		from, n := header+uint64(native.Uint32(raw[at:])), uint64(native.Uint32(raw[at+4:]))
		if from+n > uint64(len(raw)) {
			return nil
		}
		return raw[from : from+n]
	}
	b := &kernelBTF{types: section(8), strings: section(16)}
	if len(b.types) == 0 || len(b.strings) == 0 {
		return nil, nil, errBTF
	}
	b.at = append(make([]uint32, 0, len(b.types)/24), 0) // void has no place
	named, found := b.named(names)
	for at := 0; at < len(b.types); {
		if len(b.types)-at < btfTypeLen {
			return nil, nil, errBTF
		}
		info := native.Uint32(b.types[at+4:])
		kind, n := int(info>>24&31), int(info&0xffff)
		if kind == 0 || kind >= len(behind) {
			return nil, nil, fmt.Errorf("%w: kind %d", errBTF, kind)
		}
		if name := native.Uint32(b.types[at:]); name != 0 {
			if text, ok := named[name]; ok {
				found[text][uint32(kind)] = append(found[text][uint32(kind)], uint32(len(b.at)))
			}
		}
		b.at = append(b.at, uint32(at))
		if at += btfTypeLen + behind[kind].all + n*behind[kind].each; at > len(b.types) {
			return nil, nil, errBTF
		}
	}
	return b, found, nil
}

// named gives the places of names among the strings, where each stands once.
func (b *kernelBTF) named(names []string) (map[uint32]string, map[string]map[uint32][]uint32) {
	at, found := map[uint32]string{}, map[string]map[uint32][]uint32{}
	for _, name := range names {
		found[name] = map[uint32][]uint32{}
		if i := bytes.Index(b.strings, []byte("\x00"+name+"\x00")); i >= 0 {
			at[uint32(i+1)] = name
		}
	}
	return at, found
}

func (b *kernelBTF) get(id uint32) (t btfType, err error) {
	if id == 0 || int(id) >= len(b.at) {
		return t, fmt.Errorf("%w: type %d", errBTF, id)
	}
	end := len(b.types)
	if int(id)+1 < len(b.at) {
		end = int(b.at[id+1])
	}
	raw := b.types[b.at[id]:end]
	return btfType{native.Uint32(raw), native.Uint32(raw[4:]), native.Uint32(raw[8:]), raw[btfTypeLen:]}, nil
}

// text is a name.
func (b *kernelBTF) text(at uint32) ([]byte, error) {
	if int(at) >= len(b.strings) {
		return nil, errBTF
	}
	s := b.strings[at:]
	n := bytes.IndexByte(s, 0)
	if n < 0 {
		return nil, errBTF
	}
	return s[:n], nil
}

// trimmer makes a BTF with some of the types of another.
type trimmer struct {
	from    *kernelBTF
	types   []byte
	ids     uint32 // how many types there are
	looked  int    // structures
	strings []byte
	fields  []string // members that are kept
}

// trim gives a BTF that has these structures, with those of their members that
// have one of the names.
func (b *kernelBTF) trim(fields map[uint32][]string) ([]byte, error) {
	t := &trimmer{from: b, strings: []byte{0}}
	for _, id := range slices.Sorted(maps.Keys(fields)) {
		t.fields = fields[id]
		raw, err := t.structure(id, 0)
		if err != nil {
			return nil, err
		}
		t.add(raw)
	}
	return t.encode(), nil
}

func (t *trimmer) add(raw []byte) (id uint32) {
	t.types = append(t.types, raw...)
	t.ids++
	return t.ids
}

func (t *trimmer) text(at uint32) (uint32, error) {
	s, err := t.from.text(at)
	if err != nil || len(s) == 0 {
		return 0, err
	}
	at = uint32(len(t.strings))
	t.strings = append(append(t.strings, s...), 0)
	return at, nil
}

// structure copies a struct or union. Its members are those that are wanted, and
// structures without a name, which may hold such.
func (t *trimmer) structure(id uint32, depth int) ([]byte, error) {
	s, err := t.from.get(id)
	if err != nil {
		return nil, err
	}
	if t.looked++; t.looked > btfMaxTypes {
		return nil, fmt.Errorf("%w: types without an end", errBTF)
	}
	if depth > btfMaxDepth || s.kind() != btfStruct && s.kind() != btfUnion {
		return nil, fmt.Errorf("%w: type %d is no structure", errBTF, id)
	}
	name, err := t.text(s.name)
	if err != nil {
		return nil, err
	}
	var members []byte
	for i := range s.members() {
		m := s.rest[i*btfMemberLen:]
		member, err := t.member(native.Uint32(m), native.Uint32(m[4:]), depth)
		if err != nil {
			return nil, err
		}
		if member != nil {
			members = native.AppendUint32(append(members, member...), native.Uint32(m[8:]))
		}
	}
	raw := native.AppendUint32(nil, name)
	raw = native.AppendUint32(raw, s.info&^0xffff|uint32(len(members)/btfMemberLen))
	return append(native.AppendUint32(raw, s.size), members...), nil
}

// member gives a member's name and type, nil if it is not wanted.
func (t *trimmer) member(name, id uint32, depth int) ([]byte, error) {
	text, err := t.from.text(name)
	if err != nil {
		return nil, err
	}
	var to uint32
	switch {
	case len(text) == 0:
		s, err := t.from.get(id)
		if err != nil {
			return nil, err
		}
		if s.kind() != btfStruct && s.kind() != btfUnion {
			return nil, nil // padding
		}
		raw, err := t.structure(id, depth+1)
		if err != nil {
			return nil, err
		}
		to = t.add(raw)
	case slices.Contains(t.fields, string(text)):
		if to, err = t.value(id); err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
	default:
		return nil, nil
	}
	if name, err = t.text(name); err != nil {
		return nil, err
	}
	return native.AppendUint32(native.AppendUint32(nil, name), to), nil
}

// value gives the type of a member that is read: an integer, or a pointer to
// whatever.
func (t *trimmer) value(id uint32) (uint32, error) {
	for range btfMaxDepth {
		v, err := t.from.get(id)
		if err != nil {
			return 0, err
		}
		switch v.kind() {
		case btfTypedef, btfVolatile, btfConst, btfRestrict, btfTypeTag:
			id = v.size
			continue
		case btfInt, btfPtr:
			size := v.size
			if v.kind() == btfPtr {
				size = 0
			}
			raw := native.AppendUint32(make([]byte, 4), v.info)
			return t.add(append(native.AppendUint32(raw, size), v.rest...)), nil
		}
		return 0, fmt.Errorf("%w: a member of kind %d is not expected", errBTF, v.kind())
	}
	return 0, fmt.Errorf("%w: types without an end", errBTF)
}

func (t *trimmer) encode() []byte {
	b := make([]byte, btfHeaderLen, btfHeaderLen+len(t.types)+len(t.strings))
	native.PutUint16(b, btfMagic)
	b[2] = 1
	for i, v := range []int{btfHeaderLen, 0, len(t.types), len(t.types), len(t.strings)} {
		native.PutUint32(b[4+4*i:], uint32(v))
	}
	return append(append(b, t.types...), t.strings...)
}
