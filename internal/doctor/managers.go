package doctor

import (
	"io/fs"
	"path"
	"strings"
)

// managers are programs that change interfaces and routes by themselves, as their
// files tell.
type managers struct {
	networkManager string   // "": not running, or it leaves workloads alone; else why it does not
	networkd       []string // files of systemd-networkd that match a workload
	foreignRoutes  bool     // it runs, and removes routes that are not its own
	udev           bool     // gives new interfaces persistent MACs
}

// readManagers reads what is below root, the host's root directory. names are
// workload interfaces, or what stands for them.
func readManagers(root fs.FS, names []string) (m managers) {
	if _, err := fs.Stat(root, "run/NetworkManager"); err == nil && !unmanaged(root, names) {
		m.networkManager = "no unmanaged-devices line of its configuration has them"
	}
	if _, err := fs.Stat(root, "run/systemd/netif/links"); err == nil {
		m.networkd = networkdFiles(root, names)
		m.foreignRoutes = !configured(root, "etc/systemd/networkd.conf", "ManageForeignRoutes", "no", "false", "0", "off")
	}
	if _, err := fs.Stat(root, "run/udev/control"); err == nil {
		m.udev = configured(root, "usr/lib/systemd/network/99-default.link", "MACAddressPolicy", "persistent")
	}
	return m
}

// configured reports whether a file sets a key to one of the values.
func configured(root fs.FS, file, key string, values ...string) bool {
	text, err := fs.ReadFile(root, file)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.TrimSpace(name) != key {
			continue
		}
		for _, v := range values {
			if strings.EqualFold(strings.TrimSpace(value), v) {
				return true
			}
		}
	}
	return false
}

// glob lists the files of directories that end so; of none it lists none.
func glob(root fs.FS, ending string, dirs ...string) (files []string) {
	for _, d := range dirs {
		found, _ := fs.Glob(root, d+"/*"+ending) // the pattern is sound
		files = append(files, found...)
	}
	return files
}

// unmanaged reports whether NetworkManager leaves all of the names alone
// (NetworkManager.conf(5), unmanaged-devices).
func unmanaged(root fs.FS, names []string) bool {
	files := append([]string{"etc/NetworkManager/NetworkManager.conf"},
		glob(root, ".conf", "etc/NetworkManager/conf.d", "run/NetworkManager/conf.d", "usr/lib/NetworkManager/conf.d")...)
	var patterns []string
	for _, file := range files {
		text, err := fs.ReadFile(root, file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if !ok || strings.TrimRight(strings.TrimSpace(name), "+") != "unmanaged-devices" {
				continue
			}
			for _, spec := range strings.FieldsFunc(value, func(r rune) bool { return r == ';' || r == ',' }) {
				spec = strings.TrimSpace(spec)
				if p, ok := strings.CutPrefix(spec, "interface-name:"); ok {
					patterns = append(patterns, strings.TrimPrefix(p, "="))
				} else if spec == "*" || spec == "type:veth" {
					patterns = append(patterns, "*")
				}
			}
		}
	}
	return matched(patterns, names)
}

// matched reports whether each name matches a pattern.
func matched(patterns, names []string) bool {
	for _, n := range names {
		ok := false
		for _, p := range patterns {
			hit, err := path.Match(p, n)
			ok = ok || err == nil && hit
		}
		if !ok {
			return false
		}
	}
	return true
}

// networkdFiles are the .network files whose [Match] has one of the names, and that
// do not leave it unmanaged (systemd.network(5)).
func networkdFiles(root fs.FS, names []string) (files []string) {
	for _, file := range glob(root, ".network", "etc/systemd/network", "run/systemd/network", "usr/lib/systemd/network") {
		text, err := fs.ReadFile(root, file)
		if err != nil {
			continue
		}
		section, hit, kept := "", false, false
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "[") {
				section = line
				continue
			}
			key, value, ok := strings.Cut(line, "=")
			if !ok {
				continue
			}
			switch key, value = strings.TrimSpace(key), strings.TrimSpace(value); {
			case section == "[Match]" && key == "Name":
				for _, n := range names {
					hit = hit || matched(strings.Fields(value), []string{n})
				}
			case section == "[Link]" && key == "Unmanaged":
				kept = strings.EqualFold(value, "yes") || strings.EqualFold(value, "true")
			}
		}
		if hit && !kept {
			files = append(files, "/"+file)
		}
	}
	return files
}

func checkManagers(f *facts) (found []Finding) {
	m := &f.managers
	if len(f.workloads) == 0 {
		return nil
	}
	who := f.names(f.workloads)
	if m.networkManager != "" {
		found = append(found, Finding{"network-manager", Warning, who, "NetworkManager runs and may change these interfaces: " + m.networkManager,
			"a file in /etc/NetworkManager/conf.d with [keyfile] unmanaged-devices=interface-name:cali*"})
	}
	for _, file := range m.networkd {
		found = append(found, Finding{"networkd", Warning, who, "systemd-networkd runs, and " + file + " is for these interfaces: it may change their MACs and routes",
			"[Link] Unmanaged=yes in a .network file that comes first, with [Match] Name=cali*"})
	}
	if m.foreignRoutes {
		found = append(found, Finding{"networkd-routes", Info, "", "systemd-networkd removes routes of others from interfaces that it manages, when it starts",
			"ManageForeignRoutes=no in /etc/systemd/networkd.conf, if routes over uplinks are a routing daemon's"})
	}
	if m.udev {
		found = append(found, Finding{"udev-mac", Info, who, "udev gives new interfaces a MAC of its own choice (MACAddressPolicy=persistent) a moment after they came; the daemon sets its own again",
			"none is needed"})
	}
	return found
}
