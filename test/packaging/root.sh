#!/usr/bin/env bash
# root.sh DIR COMMAND... - a host of its own, for what a test root must not do to the real one.
#
# To be run by `unshare --mount --net --pid --uts --ipc --cgroup --fork`. DIR becomes the root: the machine's /usr under
# an overlay, and nothing else of it. No unit, generator, preset or tmpfiles of the machine's systemd is there.
set -euo pipefail
root=$1
shift
mount --make-rprivate /
mount -t tmpfs -o mode=755 root "$root"
cd "$root"
mkdir -p usr etc var/lib run proc sys dev tmp root old .upper .work
mount -t overlay -o "lowerdir=/usr,upperdir=$root/.upper,workdir=$root/.work" usr usr
for dir in bin sbin lib lib64; do ln -s "usr/$dir" "$dir"; done
for dir in usr/lib/systemd/{system,user}{,-generators,-environment-generators,-preset,-shutdown,-sleep} \
	usr/lib/{tmpfiles,sysctl,modules-load,sysusers,binfmt}.d usr/share/{doc,man} usr/local; do
	[ ! -d "$dir" ] || mount -t tmpfs -o mode=755 none "$dir"
done
mkdir -p usr/local/bin usr/lib/systemd/system usr/share/{doc,man}
cp -a /etc/{passwd,group,ld.so.cache,alternatives} etc/
printf 'PRETTY_NAME="test root"\nID=debian\nVERSION_ID=12\n' >etc/os-release
: >etc/machine-id
chmod 1777 tmp

mount -t tmpfs -o mode=755 dev dev
mkdir dev/net dev/shm
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mknod -m 666 dev/net/tun c 10 200
ln -s /proc/self/fd dev/fd
mount -t proc -o nosuid,nodev,noexec proc proc
# Nothing here changes the machine's settings, and run has to do without.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro,nosuid,nodev,noexec proc/sys
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t tmpfs -o mode=755 run run
ip link set lo up

# An empty database of packages.
mkdir -p var/lib/dpkg/{info,updates,triggers,alternatives,parts} etc/dpkg/dpkg.cfg.d
: >var/lib/dpkg/status
: >var/lib/dpkg/available

# The targets that a service depends on by default, without anything of a real host's in them.
mkdir -p run/systemd/system
for unit in sysinit basic network-pre shutdown multi-user; do
	printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' "$unit" >"usr/lib/systemd/system/$unit.target"
done

pivot_root . old
umount -l /old
rmdir /old
exec "$@"
