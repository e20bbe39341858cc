package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// package under test, as `make deb` made it; `make package-test` names it.
func debFile(t *testing.T) string {
	t.Helper()
	file := os.Getenv("PROXYARPD_DEB")
	if file == "" {
		nstest.Excused(t, nstest.NotAsked, "PROXYARPD_DEB names no package: make package-test")
	}
	return file
}

// older gives the same package under an older version, with another configuration file, as the one before an upgrade.
func older(t *testing.T, h *host) {
	t.Helper()
	h.run(`set -e
dpkg-deb -R /deb/new.deb /deb/tree
sed -i 's/^Version: .*/Version: 0~before/' /deb/tree/DEBIAN/control
echo "# of the older version" >> /deb/tree/etc/proxyarpd.yaml
rm /deb/tree/DEBIAN/md5sums
dpkg-deb -Znone -b /deb/tree /deb/old.deb
rm -r /deb/tree`)
}

// TestDebContents: what Debian's policy wants, and all that is promised.
func TestDebContents(t *testing.T) {
	labtest.Need(t, "dpkg-deb")
	file := debFile(t)
	h := newHost(t, "/usr/bin/sleep", "infinity")
	h.put(file, "/deb/new.deb", 0o644)
	has := strings.Fields(h.run("dpkg-deb --fsys-tarfile /deb/new.deb | tar -t"))
	for _, want := range []string{
		"./usr/bin/proxyarpd", "./usr/lib/cni/proxyarpd-cni", "./usr/lib/systemd/system/proxyarpd.service", "./etc/proxyarpd.yaml",
		"./usr/share/man/man1/proxyarpd.1.gz", "./usr/share/man/man1/proxyarpd-run.1.gz",
		"./usr/share/bash-completion/completions/proxyarpd", "./usr/share/zsh/vendor-completions/_proxyarpd", "./usr/share/fish/vendor_completions.d/proxyarpd.fish",
		"./usr/share/doc/proxyarpd/copyright", "./usr/share/doc/proxyarpd/changelog.Debian.gz", "./usr/share/doc/proxyarpd/third-party-licences.gz",
		"./usr/share/doc/proxyarpd/README.md", "./usr/share/doc/proxyarpd/docs/RUN.md",
	} {
		if !slices.Contains(has, want) {
			t.Errorf("the package has no %s", want)
		}
	}
	pages, err := filepath.Glob("../../deploy/man/*.1")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	for _, page := range pages {
		if want := "./usr/share/man/man1/" + filepath.Base(page) + ".gz"; !slices.Contains(has, want) {
			t.Errorf("the package has no %s", want)
		}
	}
	if out := h.run("dpkg-deb -c /deb/new.deb | awk '$2 != \"root/root\" || $1 ~ /^d/ && $1 != \"drwxr-xr-x\" || $1 ~ /^-/ && $1 != \"-rw-r--r--\" && $6 !~ /bin|cni/'"); out != "" {
		t.Errorf("owners and modes:\n%s", out)
	}
	if out := h.run("dpkg-deb -f /deb/new.deb Depends"); strings.TrimSpace(out) != "" {
		t.Errorf("static binaries depend on %s", out)
	}
	// Licences of what the binaries hold.
	licences := h.run("dpkg-deb --fsys-tarfile /deb/new.deb | tar -xO ./usr/share/doc/proxyarpd/third-party-licences.gz | gzip -dc")
	for _, module := range []string{"github.com/cilium/ebpf", "github.com/spf13/cobra", "kernel.org/pub/linux/libs/security/libcap/cap", "github.com/containernetworking/cni", "======== Go "} {
		if !strings.Contains(licences, module) {
			t.Errorf("no licence of %s", module)
		}
	}
	labtest.Need(t, "lintian") // last: all else is asked for without it
	out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error", file).CombinedOutput()
	t.Logf("lintian:\n%s", out)
	if err != nil {
		t.Errorf("lintian: %v", err)
	}
}

// TestDeb installs the package on a host that systemd runs, uses what it brings, upgrades, removes and purges it.
func TestDeb(t *testing.T) {
	labtest.Need(t, "dpkg", "dpkg-deb")
	file := debFile(t)
	h := bootSystemd(t)
	h.put(file, "/deb/new.deb", 0o644)
	older(t, h)

	h.run("dpkg -i /deb/old.deb")
	for line, want := range map[string]string{
		"systemctl is-enabled proxyarpd || true":                                                                   "disabled",
		"systemctl is-active proxyarpd || true":                                                                    "inactive",
		"command -v proxyarpd":                                                                                     "/usr/bin/proxyarpd\n",
		"dpkg --verify proxyarpd":                                                                                  "",
		"dpkg-query -W -f '${Conffiles}' proxyarpd | awk '{print $1}'":                                             "/etc/proxyarpd.yaml\n",
		"systemctl show --value --property ExecStart proxyarpd":                                                    "path=/usr/bin/proxyarpd ",
		"gzip -dc /usr/share/man/man1/proxyarpd-run.1.gz | head -3":                                                ".TH",
		"bash -c '. /usr/share/bash-completion/completions/proxyarpd && complete -p proxyarpd'":                    "proxyarpd",
		"echo '{\"cniVersion\":\"1.1.0\"}' | CNI_COMMAND=VERSION CNI_PATH=/usr/lib/cni /usr/lib/cni/proxyarpd-cni": "1.1.0",
	} {
		if out := h.run(line); want == "" && out != "" || !strings.Contains(out, want) {
			t.Errorf("%s: %q, want %q", line, out, want)
		}
	}
	in := h.pods()
	h.run("systemctl enable --now proxyarpd")
	h.served(in)
	pid, since := h.property("MainPID"), h.property("ActiveEnterTimestampMonotonic")

	// An upgrade: the new program takes over, and a configuration file that nobody has changed is the new one.
	restarts := h.property("NRestarts")
	h.pinging(in, "upgrade", func() { h.run("dpkg -i /deb/new.deb") })
	h.takenOver("upgrade", pid)
	if now := h.property("NRestarts"); now != restarts || h.property("ActiveEnterTimestampMonotonic") != since {
		t.Errorf("the upgrade has restarted the service: %s restarts, and %s before", now, restarts)
	}
	h.served(in)
	if out := h.run("grep -c 'older version' /etc/proxyarpd.yaml || true"); out != "0\n" {
		t.Error("the configuration file is the older version's")
	}
	if out := h.run("systemctl is-enabled proxyarpd || true"); out != "enabled\n" {
		t.Errorf("after the upgrade: %s", out)
	}
	// One that somebody has changed stays, and is not asked about: the new one lies beside it.
	h.run("echo 'log-level: debug # mine' >> /etc/proxyarpd.yaml; sed -i '/^log-level: info/d' /etc/proxyarpd.yaml; dpkg -i --force-confold /deb/old.deb")
	if out := h.run("cat /etc/proxyarpd.yaml"); !strings.Contains(out, "# mine") {
		t.Error("the configuration file that somebody has changed is gone")
	}
	h.await("systemctl is-active proxyarpd", "active\n")
	// Where a take-over is refused the upgrade restarts the service.
	pid = h.property("MainPID")
	h.run("sed -i 's/^claim: .*/claim: clsact/' /etc/proxyarpd.yaml; dpkg -i --force-confold /deb/new.deb")
	h.await("proxyarpd status --wait 10s", "claim clsact")
	h.takenOver("restart", pid)

	h.run("dpkg -r proxyarpd")
	if out, err := h.try("pidof proxyarpd"); err == nil {
		t.Errorf("it runs on after its removal: %s", out)
	}
	if out := h.run("ip -br link show type veth"); strings.Contains(out, "ee:ee:ee:ee:ee:ee") {
		t.Errorf("MACs are not put back:\n%s", out)
	}
	if out := h.run("ls /etc/proxyarpd.yaml; ls /usr/bin/proxyarpd /usr/lib/systemd/system/proxyarpd.service 2>&1 || true"); strings.Count(out, "No such file") != 2 || !strings.HasPrefix(out, "/etc/proxyarpd.yaml\n") {
		t.Errorf("after the removal:\n%s", out)
	}
	// Installed again, it is enabled as it was.
	h.run("dpkg -i /deb/new.deb </dev/null || dpkg -i --force-confold /deb/new.deb")
	if out := h.run("systemctl is-enabled proxyarpd || true"); out != "enabled\n" {
		t.Errorf("installed again: %s", out)
	}
	h.run("dpkg -P proxyarpd")
	if out := h.run("find /etc /usr/bin /usr/lib/cni /usr/lib/systemd /usr/share/man /usr/share/doc /var/lib/systemd /run -name '*proxyarpd*' -not -path '/run/systemd/*'"); out != "" {
		t.Errorf("left behind by a purge:\n%s", out)
	}
	if out := h.run("dpkg-query -l proxyarpd 2>&1 || true"); !strings.Contains(out, "no packages found") {
		t.Errorf("after the purge:\n%s", out)
	}
}
