package doctor

import (
	"slices"
	"testing"
	"testing/fstest"
)

func TestManagers(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	names := []string{"cali1", "cali2"}
	nm, networkd := "run/NetworkManager/devices/1", "run/systemd/netif/links/2"
	for _, c := range []struct {
		name  string
		root  fstest.MapFS
		check func(m managers) bool
	}{
		{"nobody", fstest.MapFS{}, func(m managers) bool {
			return m.networkManager == "" && m.networkd == nil && !m.foreignRoutes && !m.udev
		}},
		{"NetworkManager", fstest.MapFS{nm: file("")}, func(m managers) bool { return m.networkManager != "" }},
		{"told", fstest.MapFS{nm: file(""), "etc/NetworkManager/conf.d/c.conf": file("[keyfile]\nunmanaged-devices=interface-name:tunl*;interface-name:cali*\n")}, func(m managers) bool { return m.networkManager == "" }},
		{"told more", fstest.MapFS{nm: file(""), "usr/lib/NetworkManager/conf.d/c.conf": file("unmanaged-devices+=interface-name:=cali*")}, func(m managers) bool { return m.networkManager == "" }},
		{"told of one", fstest.MapFS{nm: file(""), "etc/NetworkManager/NetworkManager.conf": file("unmanaged-devices=interface-name:cali1\n")}, func(m managers) bool { return m.networkManager != "" }},
		{"networkd", fstest.MapFS{networkd: file("")}, func(m managers) bool { return m.networkd == nil && m.foreignRoutes }},
		{"networkd's routes", fstest.MapFS{networkd: file(""), "etc/systemd/networkd.conf": file("[Network]\n ManageForeignRoutes = no\n")}, func(m managers) bool { return !m.foreignRoutes }},
		{"networkd's file", fstest.MapFS{networkd: file(""), "etc/systemd/network/a.network": file("[Match]\nName=en* cali*\n[Network]\nDHCP=yes\n")},
			func(m managers) bool { return slices.Equal(m.networkd, []string{"/etc/systemd/network/a.network"}) }},
		{"networkd's other file", fstest.MapFS{networkd: file(""), "etc/systemd/network/a.network": file("[Match]\nName=en*\n[Address]\nName=cali1\n")}, func(m managers) bool { return m.networkd == nil }},
		{"networkd leaves them", fstest.MapFS{networkd: file(""), "etc/systemd/network/a.network": file("[Match]\nName=cali*\n[Link]\nUnmanaged=yes\n")}, func(m managers) bool { return m.networkd == nil }},
		{"udev", fstest.MapFS{"run/udev/control": file(""), "usr/lib/systemd/network/99-default.link": file("[Link]\nMACAddressPolicy=persistent\n")}, func(m managers) bool { return m.udev }},
	} {
		if m := readManagers(c.root, names); !c.check(m) {
			t.Errorf("%s: %+v", c.name, m)
		}
	}
}
