package packaging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"proxyarpd/internal/nstest"
)

// entry is a file of a tar archive.
type entry struct {
	header *tar.Header
	data   []byte
}

func untar(t *testing.T, r io.Reader) map[string]entry {
	t.Helper()
	all := map[string]entry{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(h.Name, "/")] = entry{h, b}
	}
}

// TestImage lists what is in the container image, and runs it as an engine would: its files as the root, nothing else.
func TestImage(t *testing.T) {
	file := os.Getenv("PROXYARPD_IMAGE")
	if file == "" {
		nstest.Excused(t, nstest.NotAsked, "PROXYARPD_IMAGE names no image: make package-test")
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	archive := untar(t, f)
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(archive["manifest.json"].data, &manifest); err != nil || len(manifest) != 1 || len(manifest[0].Layers) != 1 {
		t.Fatalf("manifest: %v: %s", err, archive["manifest.json"].data)
	}
	var config struct {
		Architecture, OS string
		Config           struct{ Entrypoint, Cmd []string }
	}
	if err := json.Unmarshal(archive[manifest[0].Config].data, &config); err != nil {
		t.Fatal(err)
	}
	if c := config.Config; config.OS != "linux" || config.Architecture != runtime.GOARCH || !slices.Equal(c.Entrypoint, []string{"/proxyarpd"}) || !slices.Equal(c.Cmd, []string{"run"}) {
		t.Errorf("configuration: %+v", config)
	}
	if !slices.Equal(manifest[0].RepoTags, []string{"proxyarpd:latest"}) {
		t.Errorf("tags: %v", manifest[0].RepoTags)
	}
	compressed, err := gzip.NewReader(bytes.NewReader(archive[manifest[0].Layers[0]].data))
	if err != nil {
		t.Fatal(err)
	}
	layer, err := io.ReadAll(compressed)
	if err != nil {
		t.Fatal(err)
	}
	files := untar(t, bytes.NewReader(layer))
	var names []string
	for name, e := range files {
		names = append(names, name)
		if e.header.Uid != 0 || e.header.Gid != 0 || e.header.Mode&0o022 != 0 {
			t.Errorf("%s: %d:%d, mode %o", name, e.header.Uid, e.header.Gid, e.header.Mode)
		}
	}
	slices.Sort(names)
	if want := []string{"licenses", "licenses/LICENSE", "licenses/LICENSE.BSD-2-Clause", "licenses/LICENSE.GPL-2.0", "licenses/NOTICE", "licenses/third-party-licences", "proxyarpd"}; !slices.Equal(names, want) {
		t.Errorf("the image holds %v, want %v", names, want)
	}

	// What the DaemonSet gives it: the host's network, two paths of the host, five capabilities, a root that is
	// read-only.
	h := newHost(t, "/usr/bin/sleep", "infinity")
	h.run("mkdir -p /image")
	cmd := h.command(t.Context(), "/usr/bin/tar", "-x", "-C", "/image")
	cmd.Stdin = bytes.NewReader(layer)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	in := h.pods()
	h.run("mkdir -p /run/proxyarpd && chmod 700 /run/proxyarpd")
	// chroot(8) takes CAP_SYS_CHROOT, which the daemon gives up.
	container := func(args string) string {
		return `unshare --mount --propagation private sh -ec '
mkdir -p /image/proc /image/sys /image/dev/net /image/run/proxyarpd
mount --bind /image /image
mount -t proc -o ro proc /image/proc
mount -t sysfs -o ro sysfs /image/sys
mount --bind /run/proxyarpd /image/run/proxyarpd
touch /image/dev/net/tun
mount --bind /dev/net/tun /image/dev/net/tun
mount -o remount,bind,ro /image
exec setpriv --bounding-set=-all,+net_raw,+net_admin,+bpf,+perfmon,+sys_nice,+sys_chroot --no-new-privs chroot /image /proxyarpd ` + args + `'`
	}
	h.run("(" + container("run --engine=af_packet --workload=cali* --control=/run/proxyarpd/control.sock --metrics=9477") + ") >/var/log.txt 2>&1 &")
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := h.try("cat /var/log.txt")
			t.Log(out)
		}
	})
	if out := h.run(container("status --control=/run/proxyarpd/control.sock --wait=10s")); !strings.Contains(out, "engine af_packet") || !strings.Contains(out, "privileges: uid 0, cap_net_admin, cap_net_raw; no_new_privs\n") {
		t.Errorf("status in the container:\n%s", out)
	}
	h.served(in)
	if out := h.run(container("version")); strings.TrimSpace(out) == "" {
		t.Error("no version")
	}
}
