package claim

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// made is a BTF with a little of everything, and the kernel's forms: a structure
// in a union without a name, pointers behind tags and typedefs, a flag of 32 bits.
func made(t testing.TB) []byte {
	t.Helper()
	u32 := &btf.Int{Name: "unsigned int", Size: 4}
	void := &btf.Pointer{Target: (*btf.Void)(nil)}
	handler := &btf.Typedef{Name: "handler_t", Type: &btf.Pointer{Target: &btf.FuncProto{Return: u32}}}
	dev := &btf.Struct{Name: "net_device", Size: 24, Members: []btf.Member{
		{Name: "name", Type: &btf.Array{Index: u32, Type: u32, Nelems: 2}, Offset: 0},
		{Name: "rx_handler", Type: &btf.TypeTag{Type: handler, Value: "rcu"}, Offset: 16 * 8},
	}}
	skb := &btf.Struct{Name: "sk_buff", Size: 48, Members: []btf.Member{
		{Type: &btf.Union{Size: 24, Members: []btf.Member{
			{Type: &btf.Struct{Size: 24, Members: []btf.Member{
				{Name: "next", Type: void, Offset: 0},
				{Type: &btf.Union{Size: 8, Members: []btf.Member{
					{Name: "dev", Type: &btf.Pointer{Target: dev}}, {Name: "dev_scratch", Type: u32},
				}}, Offset: 16 * 8},
			}}},
			{Name: "list", Type: void},
		}}, Offset: 0},
		{Type: u32, Offset: 24 * 8},
		{Name: "end", Type: &btf.Typedef{Name: "sk_buff_data_t", Type: u32}, Offset: 32 * 8},
		{Name: "head", Type: void, Offset: 40 * 8},
	}}
	call := &btf.Func{Name: "bpf_rdonly_cast", Type: &btf.FuncProto{Return: void}, Linkage: btf.GlobalFunc}
	types := []btf.Type{u32, void, handler, dev, skb, call, &btf.Fwd{Name: "fwd"}, &btf.Float{Name: "double", Size: 8},
		&btf.Enum{Name: "e", Size: 4, Values: []btf.EnumValue{{Name: "one", Value: 1}}},
		&btf.Datasec{Name: ".data", Vars: []btf.VarSecinfo{{Type: &btf.Var{Name: "v", Type: u32}}}}}
	b, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

var wanted = map[string][]string{"sk_buff": {"dev", "end", "head"}, "net_device": {"rx_handler"}}

// trimmed is what trim leaves of a BTF, as the library reads it.
func trimmed(t testing.TB, raw []byte) (*btf.Spec, error) {
	t.Helper()
	b, found, err := parseBTF(raw, "sk_buff", "net_device")
	if err != nil {
		return nil, err
	}
	fields := map[uint32][]string{}
	for name, f := range wanted {
		for _, id := range found[name][btfStruct] {
			fields[id] = f
		}
	}
	short, err := b.trim(fields)
	if err != nil {
		return nil, err
	}
	return btf.LoadSpecFromReader(bytes.NewReader(short))
}

// offsets gives where named members are, those within members without a name too.
func offsets(m []btf.Member, at uint32) map[string]uint32 {
	all := map[string]uint32{}
	for _, f := range m {
		bits := at + uint32(f.Offset)
		inner := []btf.Member(nil)
		switch t := f.Type.(type) {
		case *btf.Struct:
			inner = t.Members
		case *btf.Union:
			inner = t.Members
		}
		if f.Name != "" {
			all[f.Name] = bits / 8
			continue
		}
		for name, bits := range offsets(inner, bits) {
			all[name] = bits
		}
	}
	return all
}

// same compares what is kept of a structure with the original.
func same(t *testing.T, whole, short *btf.Spec, name string, fields []string) {
	t.Helper()
	var a, b *btf.Struct
	if err := errors.Join(whole.TypeByName(name, &a), short.TypeByName(name, &b)); err != nil {
		t.Fatal(err)
	}
	want, got := offsets(a.Members, 0), offsets(b.Members, 0)
	for _, f := range fields {
		if _, ok := want[f]; !ok || want[f] != got[f] {
			t.Errorf("%s.%s: at %d, want %d (%v)", name, f, got[f], want[f], ok)
		}
	}
	if len(got) != len(fields) || a.Size != b.Size {
		t.Errorf("%s: %d bytes with %v, want %d with %v", name, b.Size, got, a.Size, fields)
	}
}

func TestTrimBTF(t *testing.T) {
	raw := made(t)
	whole, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	short, err := trimmed(t, raw)
	if err != nil {
		t.Fatal(err)
	}
	for name, fields := range wanted {
		same(t, whole, short, name, fields)
	}
	var call *btf.Func
	if err := whole.TypeByName("bpf_rdonly_cast", &call); err != nil {
		t.Fatal(err)
	}
	id, err := whole.TypeID(call)
	if err != nil {
		t.Fatal(err)
	}
	_, found, err := parseBTF(raw, "bpf_rdonly_cast", "none")
	if err != nil || !slices.Equal(found["bpf_rdonly_cast"][btfFunc], []uint32{uint32(id)}) || len(found["none"]) != 0 {
		t.Errorf("found %v, %v; want %d", found, err, id)
	}
	for n := range raw {
		if _, err := trimmed(t, raw[:n]); err == nil {
			t.Errorf("%d of %d bytes are a BTF", n, len(raw))
		}
	}
}

func FuzzTrimBTF(f *testing.F) {
	f.Add(made(f))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, _ = trimmed(t, raw)
	})
}
