package claim

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"proxyarpd/internal/nstest"
)

// What is found of the kernel's types is what the library finds.
func TestKernelTypes(t *testing.T) {
	spec, err := loadBpf()
	if err != nil {
		t.Fatal(err)
	}
	kernel := readKernel()()
	defer kernel.close()
	short, err := kernel.types(spec)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		nstest.Skip(t, "the kernel tells no types: %s", vmlinux)
	case errors.Is(err, ErrNotSupported):
		nstest.Skip(t, "needs Linux 6.2: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	whole, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range kernelStructs {
		var local *btf.Struct
		if err := spec.Types.TypeByName(name, &local); err != nil {
			t.Fatal(err)
		}
		var fields []string
		for _, m := range local.Members {
			fields = append(fields, m.Name)
		}
		same(t, whole, short, name, fields)
	}
	// IDs in the programs, in the order in which they stand in the source.
	functions, structures := map[int64]bool{}, map[int64]bool{}
	for _, name := range kernelFuncs {
		var f *btf.Func
		if err := whole.TypeByName(name, &f); err != nil {
			t.Fatal(err)
		}
		id, _ := whole.TypeID(f)
		functions[int64(id)] = false
	}
	var info *btf.Struct
	if err := whole.TypeByName("skb_shared_info", &info); err != nil {
		t.Fatal(err)
	}
	id, _ := whole.TypeID(info)
	structures[int64(id)] = false
	for _, p := range spec.Programs {
		for i := range p.Instructions {
			ins := &p.Instructions[i]
			if _, ok := functions[ins.Constant]; ins.IsKfuncCall() {
				functions[ins.Constant] = true
				if !ok || ins.Reference() != "" {
					t.Errorf("%s calls %v", p.Name, ins)
				}
			}
			if _, ok := structures[ins.Constant]; ok && ins.IsConstantLoad(asm.DWord) {
				structures[ins.Constant] = true
			}
		}
	}
	for id, used := range functions {
		if !used {
			t.Errorf("function %d is not called", id)
		}
	}
	if !structures[int64(id)] {
		t.Errorf("structure %d is not loaded", id)
	}
}
