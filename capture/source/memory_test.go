package source_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What a process holds, in KiB of memory: VmRSS, and RssAnon of it, which is its own alone.
type resident struct{ all, own int }

// residentOf builds the program of testdata/memory with that name, and gives the median of several runs.
func residentOf(t *testing.T, name string) resident {
	t.Helper()
	bin := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-trimpath", "-o", bin, "./testdata/memory/"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const runs = 9
	var all, own []int
	for range runs {
		out, err := exec.Command(bin).Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			var kib int
			key, value, _ := strings.Cut(line, ":")
			if _, err := fmt.Sscan(value, &kib); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			switch key {
			case "VmRSS":
				all = append(all, kib)
			case "RssAnon":
				own = append(own, kib)
			}
		}
	}
	if len(all) != runs || len(own) != runs {
		t.Fatalf("%s does not tell its memory", name)
	}
	slices.Sort(all)
	slices.Sort(own)
	return resident{all[runs/2], own[runs/2]}
}

// TestMemory: gopacket's core costs a process little, its layers much. So programs that run import the core alone.
func TestMemory(t *testing.T) {
	none, core, layers := residentOf(t, "none"), residentOf(t, "core"), residentOf(t, "layers")
	for name, r := range map[string]resident{"without gopacket": none, "with its core": core, "with its layers": layers} {
		t.Logf("%s: VmRSS %d KiB, of these RssAnon %d KiB", name, r.all, r.own)
	}
	const most, least = 1024, 3072 // KiB
	if more := core.own - none.own; more > most {
		t.Errorf("gopacket's core takes %d KiB of a process's own memory, more than %d", more, most)
	}
	if more := core.all - none.all; more > 2*most {
		t.Errorf("gopacket's core takes %d KiB, more than %d", more, 2*most)
	}
	if more := layers.all - none.all; more < least {
		t.Errorf("gopacket's layers take %d KiB alone: docs/DESIGN.md says that it is much", more)
	}
}
