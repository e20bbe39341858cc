package internal_test

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is this module's path, and root where it lies from here.
const (
	module = "proxyarpd"
	root   = ".."
)

// mayImport says what the files of a package, but for its tests, import besides the standard library; see
// docs/DESIGN.md. What ends in /... stands for the module or the directory.
var mayImport = map[string][]string{
	"internal/wire":           {},
	"arpd":                    {"github.com/mdlayher/packet", "github.com/mdlayher/arp", "golang.org/x/net/bpf", unixPackage, "proxyarpd/internal/wire"},
	"arpd/ndp":                {"golang.org/x/net/bpf", unixPackage, "proxyarpd/arpd", "proxyarpd/internal/wire"},
	"forward":                 {"proxyarpd/forward/route", "proxyarpd/internal/wire"},
	"forward/route":           {"proxyarpd/internal/wire"},
	"forward/route/routetest": {"proxyarpd/forward/route", "proxyarpd/internal/wire"},
	"forward/memconn":         {"proxyarpd/forward", "proxyarpd/forward/route", "proxyarpd/internal/wire"},
	"forward/afpacket":        {unixPackage, "proxyarpd/forward", "proxyarpd/forward/route", "proxyarpd/internal/pktring", "proxyarpd/internal/relay", "proxyarpd/internal/shortage"},
	"forward/claim":           {"github.com/cilium/ebpf/...", "github.com/vishvananda/netlink/...", unixPackage, "proxyarpd/internal/wire", "proxyarpd/internal/shortage"},

	"capture":          {},
	"capture/cli":      {"github.com/spf13/pflag", unixPackage, "proxyarpd/capture/...", "proxyarpd/internal/printable"},
	"capture/dissect":  {},
	"capture/filter":   {},
	"capture/pcapfile": {},
	"capture/source": {gopacketCore, "golang.org/x/net/bpf", unixPackage, "proxyarpd/capture", "proxyarpd/capture/filter", "proxyarpd/capture/pcapfile",
		"proxyarpd/internal/control/client", "proxyarpd/internal/pktring"},
	"capture/source/sourcetest": {"proxyarpd/capture", "proxyarpd/capture/pcapfile"},
	"examples/drops":            {"proxyarpd/capture/source"},

	"internal/control":           {unixPackage, "proxyarpd/internal/descriptors", "proxyarpd/internal/shortage"},
	"internal/control/client":    {unixPackage, "proxyarpd/capture"},
	"internal/ethtool":           {unixPackage},
	"internal/metrics":           {unixPackage, "proxyarpd/internal/status"},
	"internal/status":            {},
	"internal/status/statustest": {"proxyarpd/internal/status"},
	"internal/logging":           {"proxyarpd/internal/printable"},
	"internal/top":               {"golang.org/x/term", "proxyarpd/internal/printable", "proxyarpd/internal/status"},
	"internal/doctor": {"golang.org/x/sync/errgroup", "github.com/vishvananda/netlink", unixPackage, "proxyarpd/forward/claim", "proxyarpd/forward/route", "proxyarpd/internal/conntrack", "proxyarpd/internal/daemon",
		"proxyarpd/internal/explain", "proxyarpd/internal/hostpolicy", "proxyarpd/internal/netstate", "proxyarpd/internal/privilege", "proxyarpd/internal/wire"},
	"internal/explain":     {unixPackage, "proxyarpd/arpd", "proxyarpd/arpd/ndp", "proxyarpd/forward/route", "proxyarpd/internal/netstate", "proxyarpd/internal/wire"},
	"internal/descriptors": {unixPackage, "proxyarpd/internal/shortage"},
	"internal/livecapture": {unixPackage, "proxyarpd/arpd", "proxyarpd/capture", "proxyarpd/capture/filter", "proxyarpd/capture/pcapfile", "proxyarpd/forward", "proxyarpd/forward/claim", "proxyarpd/forward/route",
		"proxyarpd/internal/netstate", "proxyarpd/internal/pktring", "proxyarpd/internal/wire"},

	"internal/cni":             {"github.com/containernetworking/cni/...", "github.com/vishvananda/netlink/...", "github.com/vishvananda/netns", unixPackage},
	"cmd/proxyarpd-cni":        {"proxyarpd/internal/cni"},
	"internal/shortage":        {},
	"internal/printable":       {},
	"internal/nice":            {unixPackage},
	"internal/privilege":       {unixPackage, "kernel.org/pub/linux/libs/security/libcap/cap"},
	"internal/relay":           {"github.com/vishvananda/netlink", unixPackage},
	"internal/handover":        {unixPackage},
	"internal/pktring":         {"golang.org/x/net/bpf", unixPackage},
	"internal/netstate":        {unixPackage, "proxyarpd/internal/shortage"},
	"internal/instance":        {unixPackage},
	"internal/macs":            {unixPackage, "proxyarpd/internal/instance", "proxyarpd/internal/netstate", "proxyarpd/internal/printable", "proxyarpd/internal/shortage"},
	"internal/conntrack":       {"github.com/vishvananda/netlink/...", "golang.org/x/net/bpf", unixPackage},
	"internal/hostpolicy":      {"github.com/vishvananda/netlink/...", "github.com/cilium/ebpf/...", unixPackage, "proxyarpd/internal/shortage"},
	"internal/lab":             {"github.com/vishvananda/netlink/...", unixPackage},
	"internal/lab/labtest":     {unixPackage, "proxyarpd/internal/lab", "proxyarpd/internal/nstest", "proxyarpd/internal/status", "proxyarpd/internal/wire"},
	"internal/fulltable":       {},
	"internal/nstest":          {"github.com/vishvananda/netlink", unixPackage},
	"internal/engine":          {"proxyarpd/forward", "proxyarpd/forward/claim", "proxyarpd/forward/route"},
	"internal/engine/afpacket": {"golang.org/x/sync/errgroup", unixPackage, "proxyarpd/forward", "proxyarpd/forward/afpacket", "proxyarpd/forward/claim", "proxyarpd/forward/route", "proxyarpd/internal/engine", "proxyarpd/internal/nice", "proxyarpd/internal/pktring", "proxyarpd/internal/relay", "proxyarpd/internal/shortage"},
	"internal/engine/ebpf":     {"github.com/vishvananda/netlink/...", "golang.org/x/sys/unix", "proxyarpd/forward/claim", "proxyarpd/forward/route", "proxyarpd/internal/engine", "proxyarpd/internal/engine/afpacket", "proxyarpd/internal/wire"},
	"internal/engine/none":     {"proxyarpd/forward", "proxyarpd/forward/route", "proxyarpd/internal/engine"},
	"internal/daemon": {"github.com/coreos/go-systemd/v22/daemon", "golang.org/x/sync/errgroup", unixPackage, "proxyarpd/arpd", "proxyarpd/arpd/ndp", "proxyarpd/capture", "proxyarpd/forward", "proxyarpd/forward/claim", "proxyarpd/forward/route",
		"proxyarpd/internal/conntrack", "proxyarpd/internal/control", "proxyarpd/internal/control/client", "proxyarpd/internal/descriptors", "proxyarpd/internal/engine", "proxyarpd/internal/engine/afpacket",
		"proxyarpd/internal/engine/ebpf", "proxyarpd/internal/engine/none", "proxyarpd/internal/ethtool", "proxyarpd/internal/explain", "proxyarpd/internal/handover", "proxyarpd/internal/hostpolicy", "proxyarpd/internal/instance", "proxyarpd/internal/livecapture", "proxyarpd/internal/macs", "proxyarpd/internal/metrics",
		"proxyarpd/internal/netstate", "proxyarpd/internal/nice", "proxyarpd/internal/printable", "proxyarpd/internal/privilege", "proxyarpd/internal/shortage", "proxyarpd/internal/status", "proxyarpd/internal/wire"},
	"cmd/proxyarpd": {"github.com/spf13/cobra", "github.com/spf13/pflag", "go.yaml.in/yaml/v3", "proxyarpd/capture", "proxyarpd/capture/cli", "proxyarpd/forward/claim", "proxyarpd/internal/daemon", "proxyarpd/internal/doctor", "proxyarpd/internal/explain", "proxyarpd/internal/logging", "proxyarpd/internal/status", "proxyarpd/internal/top", "proxyarpd/internal/wire", "proxyarpd/internal/printable", labPackage, benchPackage},
}

const (
	unixPackage  = "golang.org/x/sys/unix"
	gopacketCore = "github.com/google/gopacket"
	labPackage   = "proxyarpd/internal/lab"
	benchPackage = "proxyarpd/bench"
)

// unixAnywhere are the packages that name constants and errors of the kernel in any file: they turn its words into
// ours. Elsewhere only files *_linux.go and *_unsafe.go do.
var unixAnywhere = []string{"internal/daemon", "internal/livecapture", "forward/afpacket"}

// free are the directories that may import anything: they test and measure, they are not what runs.
var free = []string{"bench", "internal", "test", "tools"}

type goFile struct {
	dir, name string
	imports   []string
}

func (f goFile) path() string { return path.Join(f.dir, f.name) }

func (f goFile) isTest() bool { return strings.HasSuffix(f.name, "_test.go") }

// system reports whether the file's name says that it talks to the kernel.
func (f goFile) system() bool {
	return strings.HasSuffix(f.name, "_linux.go") || f.unsafe()
}

func (f goFile) unsafe() bool { return strings.Contains(f.name, "_unsafe") }

func goFiles(t *testing.T) []goFile {
	t.Helper()
	var all []goFile
	walk(t, func(file string) {
		if path.Ext(file) != ".go" {
			return
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			return
		}
		f := goFile{dir: path.Dir(file), name: path.Base(file)}
		for _, i := range parsed.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Error(err)
			}
			f.imports = append(f.imports, p)
		}
		all = append(all, f)
	})
	return all
}

// walk calls fn with the path, from the module's root, of each file that could be in the repository.
func walk(t *testing.T, fn func(file string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "bin", "testdata"}, d.Name()):
			return fs.SkipDir
		case d.Type().IsRegular():
			fn(file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func standard(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return first != module && !strings.Contains(first, ".")
}

func allowed(rules []string, p string) bool {
	return slices.ContainsFunc(rules, func(r string) bool {
		dir, all := strings.CutSuffix(r, "/...")
		return p == dir || all && strings.HasPrefix(p, dir+"/")
	})
}

func within(dirs []string, dir string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return dir == d || d != "internal" && strings.HasPrefix(dir, d+"/") })
}

func TestImports(t *testing.T) {
	used := map[string][]string{}
	for _, f := range goFiles(t) {
		if f.isTest() || within(free, f.dir) {
			continue
		}
		used[f.dir] = append(used[f.dir], f.imports...)
		rules, ok := mayImport[f.dir]
		if !ok {
			t.Errorf("%s: a new package: say in docs/DESIGN.md and in mayImport what it may import", f.path())
			continue
		}
		for _, p := range f.imports {
			if !standard(p) && !allowed(rules, p) {
				t.Errorf("%s imports %s; %s may import %v (docs/DESIGN.md)", f.path(), p, f.dir, rules)
			}
		}
	}
	for dir, rules := range mayImport {
		for _, r := range rules {
			if !slices.ContainsFunc(used[dir], func(p string) bool { return allowed([]string{r}, p) }) {
				t.Errorf("%s may import %s, and does not", dir, r)
			}
		}
	}
}

// docs/DESIGN.md has a row for each package, with what it may import.
func TestPackagesDocumented(t *testing.T) {
	short := strings.NewReplacer(module+"/", "", "github.com/", "", "golang.org/", "", "go.yaml.in/", "")
	have := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| .* \\| (`.*`|nothing) \\|$").FindAllStringSubmatch(read(t, "docs/DESIGN.md"), -1) {
		if _, twice := have[m[1]]; twice {
			t.Errorf("docs/DESIGN.md: %s has two rows", m[1])
		}
		have[m[1]] = m[2]
	}
	for dir, rules := range mayImport {
		var names []string
		for _, r := range rules {
			names = append(names, "`"+short.Replace(r)+"`")
		}
		want := strings.Join(names, ", ")
		if want == "" {
			want = "nothing"
		}
		if have[dir] != want {
			t.Errorf("docs/DESIGN.md: %s may import %q, want %q", dir, have[dir], want)
		}
		delete(have, dir)
	}
	for dir := range have {
		t.Errorf("docs/DESIGN.md: %s is no package", dir)
	}
}

// The glossary names files and directories that there are, and names that stand in those files.
func TestGlossary(t *testing.T) {
	place := regexp.MustCompile("`([A-Za-z_.]+)` in `([a-z_/]+\\.(?:go|c))`")
	n := 0
	for _, m := range place.FindAllStringSubmatch(read(t, "docs/GLOSSARY.md"), -1) {
		n++
		name := m[1][strings.LastIndex(m[1], ".")+1:]
		if m[2] == "claim.c" {
			m[2] = "forward/claim/bpf/claim.c"
		}
		if !regexp.MustCompile(`\b` + name + `\b`).MatchString(read(t, m[2])) {
			t.Errorf("docs/GLOSSARY.md: no %s in %s", m[1], m[2])
		}
	}
	for _, m := range regexp.MustCompile("`((?:internal|forward|arpd|capture|bench|cmd)/[a-z_/.]*)`").FindAllStringSubmatch(read(t, "docs/GLOSSARY.md"), -1) {
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			t.Errorf("docs/GLOSSARY.md: %v", err)
		}
	}
	if n < 30 {
		t.Errorf("docs/GLOSSARY.md: %d places", n)
	}
}

// Some imports belong to some files only.
func TestImportsOfFiles(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, p := range f.imports {
			switch {
			case p == "unsafe" && !f.unsafe() && !f.isTest():
				t.Errorf("%s imports unsafe: only files *_unsafe.go do", f.path())
			case p == "C":
				t.Errorf("%s uses cgo: the binary is static", f.path())
			case f.isTest():
			case p == "text/template" || p == "html/template":
				t.Errorf("%s imports %s: with it the linker keeps every method of every type, 3 MB", f.path(), p)
			case strings.HasPrefix(p, gopacketCore) && f.dir == "bench":
				t.Errorf("%s imports %s: the daemon's binary would hold it, and its tables", f.path(), p)
			case within(free, f.dir):
			case p == unixPackage && !f.system() && !within(unixAnywhere, f.dir):
				t.Errorf("%s imports %s: only files *_linux.go and *_unsafe.go do", f.path(), p)
			case p == labPackage && f.dir == "cmd/proxyarpd" && !strings.HasPrefix(f.name, "lab") && !strings.HasPrefix(f.name, "demo"):
				t.Errorf("%s imports %s: only the subcommand lab does, never what runs as the daemon", f.path(), p)
			case p == benchPackage && f.dir == "cmd/proxyarpd" && !strings.HasPrefix(f.name, "bench"):
				t.Errorf("%s imports %s: only the subcommand bench does, never what runs as the daemon", f.path(), p)
			case strings.HasPrefix(p, gopacketCore) && (p != gopacketCore || f.dir != "capture/source"):
				t.Errorf("%s imports %s: only capture/source does, the core alone, and tests", f.path(), p)
			}
		}
	}
}

// What is to be done stands in the issues, not in the files.
func TestNothingLeftToDo(t *testing.T) {
	words := [][]byte{[]byte("TO" + "DO"), []byte("FIX" + "ME")}
	extensions := []string{".go", ".c", ".h", ".md", ".yml", ".yaml", ".service", ""}
	walk(t, func(file string) {
		if !slices.Contains(extensions, path.Ext(file)) {
			return
		}
		b, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Error(err)
			return
		}
		for _, w := range words {
			if bytes.Contains(b, w) {
				t.Errorf("%s: %s", file, w)
			}
		}
	})
}
