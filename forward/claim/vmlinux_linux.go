package claim

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// kernelStructs are those of the kernel's structures that the programs read.
var kernelStructs = []string{"sk_buff", "skb_shared_info", "net_device", "nf_conn"}

// kernelFuncs are those of its functions that they call.
var kernelFuncs = append([]string{"bpf_cast_to_kern_ctx", "bpf_rdonly_cast"}, moduleFuncs...)

// moduleFuncs are those of them that a module may have, nf_conntrack: where the
// kernel has none, the library is to look for them among the modules.
var moduleFuncs = []string{"bpf_skb_ct_lookup", "bpf_ct_release"}

// vmlinux is where the kernel tells its types.
const vmlinux = "/sys/kernel/btf/vmlinux"

// kernelNames is what is found of the kernel's types.
type kernelNames struct {
	raw   []byte
	btf   *kernelBTF
	found map[string]map[uint32][]uint32
	err   error
}

// readKernel looks for the names. It can be done while something else is.
func readKernel() func() kernelNames {
	done := make(chan kernelNames, 1)
	go func() {
		var k kernelNames
		if k.raw, k.err = mapFile(vmlinux); k.err == nil {
			k.btf, k.found, k.err = parseBTF(k.raw, slices.Concat(kernelStructs, kernelFuncs)...)
		}
		done <- k
	}()
	return sync.OnceValue(func() kernelNames { return <-done })
}

func (k *kernelNames) close() {
	if k.raw != nil {
		_ = unix.Munmap(k.raw)
	}
}

// types says what the programs have to know of the kernel's types, and puts the
// functions that they call into them. An error means that the library has to find
// it out by itself.
func (k *kernelNames) types(spec *ebpf.CollectionSpec) (*btf.Spec, error) {
	if k.err != nil {
		return nil, k.err
	}
	fields := map[uint32][]string{}
	for _, name := range kernelStructs {
		var local *btf.Struct
		if err := spec.Types.TypeByName(name, &local); err != nil {
			return nil, fmt.Errorf("programs do not know struct %s: %w", name, err)
		}
		for _, id := range k.found[name][btfStruct] {
			for _, m := range local.Members {
				fields[id] = append(fields[id], m.Name)
			}
		}
	}
	trimmed, err := k.btf.trim(fields)
	if err != nil {
		return nil, err
	}
	types, err := btf.LoadSpecFromReader(bytes.NewReader(trimmed))
	if err != nil {
		return nil, err
	}
	for _, p := range spec.Programs {
		if err := putIDs(p.Instructions, spec.Types, k.found); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	return types, nil
}

// putIDs puts the kernel's IDs of functions that are called, and of structures whose
// ID is loaded, into instructions.
func putIDs(insns asm.Instructions, local *btf.Spec, found map[string]map[uint32][]uint32) error {
	for i := range insns {
		ins := &insns[i]
		var name string
		var kind uint32
		switch relocation := btf.CORERelocationMetadata(ins); {
		case ins.IsKfuncCall() && ins.Constant == -1:
			name, kind = ins.Reference(), btfFunc
		case relocation == nil || !ins.IsConstantLoad(asm.DWord):
			continue
		case !strings.Contains(relocation.String(), "type_id"):
			return fmt.Errorf("%v is not expected", relocation)
		default:
			t, err := local.TypeByID(btf.TypeID(ins.Constant))
			if err != nil {
				return err
			}
			name, kind = t.TypeName(), btfStruct
		}
		switch ids := found[name][kind]; len(ids) {
		case 0:
			if slices.Contains(moduleFuncs, name) {
				continue
			}
			return fmt.Errorf("%w: the kernel has no %s", ErrNotSupported, name)
		case 1:
			// A new one, without what the library would go by.
			linked := asm.Instruction{OpCode: ins.OpCode, Dst: ins.Dst, Src: ins.Src, Constant: int64(ids[0])}
			if source := ins.Source(); source != nil {
				linked = linked.WithSource(source)
			}
			*ins = linked
		default:
			return fmt.Errorf("the kernel has %d of %s", len(ids), name)
		}
	}
	return nil
}

// mapFile gives a file that nobody writes to.
func mapFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err == nil {
		return b, nil
	}
	// Before Linux 6.16 it can't be mapped: into memory that is given back at once.
	if b, err = unix.Mmap(-1, 0, int(st.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE); err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	for n := 0; n < len(b); {
		got, err := f.Read(b[n:])
		if err != nil {
			_ = unix.Munmap(b)
			return nil, err
		}
		n += got
	}
	return b, nil
}
