// Package descriptors counts the files that the process has open, and those that
// it may have.
package descriptors

import (
	"os"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/shortage"
)

// Few are the descriptors with which nothing goes on but slowly: a claim or two,
// a client, a file, a socket. Who holds one of the last Few must soon be done.
const Few = 8

// unlimited is more than any kernel gives.
const unlimited = 1 << 30

// Limit is the soft limit (RLIMIT_NOFILE), which Go's runtime has raised to the
// hard one: descriptors are numbered from 0 to Limit-1.
func Limit() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return unlimited
	}
	return int(min(l.Cur, unlimited))
}

// Last reports whether a descriptor of that number is one of the last Few: the
// kernel gives out the lowest number that is free.
func Last(fd int) bool { return fd >= Limit()-Few }

// Open counts those that are open, 0 if that can't be told. Linux 6.2 and later
// count themselves, without a descriptor for the question (proc_fd_getattr in
// fs/proc/fd.c).
func Open() int {
	var st unix.Stat_t
	if unix.Stat("/proc/self/fd", &st) == nil && st.Size > 0 {
		return int(st.Size)
	}
	return list()
}

// list counts on kernels that don't.
func list() int {
	f, err := os.Open("/proc/self/fd")
	switch {
	case shortage.Passing(err):
		return Limit()
	case err != nil:
		return 0
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	return max(len(names)-1, 0)
}
