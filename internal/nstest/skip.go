package nstest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// required reports whether a skip for want of something is a failure: LAB_REQUIRED=1, as in `make test` for root and in
// CI.
func required() bool { return os.Getenv("LAB_REQUIRED") == "1" }

// Skip skips a test for want of what the reason names: a privilege, a program, a feature of the kernel. Where
// LAB_REQUIRED=1 that is a failure.
func Skip(t testing.TB, format string, args ...any) {
	t.Helper()
	if required() {
		t.Fatalf("LAB_REQUIRED=1, but "+format, args...)
	}
	t.Skipf(format, args...)
}

// Excuse is why a test may be skipped although LAB_REQUIRED=1: no owner of the machine can help it, or nobody has asked
// for what the test does. These are all; a test's own condition is no excuse.
type Excuse string

const (
	// NoCaptures: the folder that PROXYARPD_TCPDUMP_DATA names, or the one beside the repository, holds captures that
	// are not the project's to give away.
	NoCaptures Excuse = "there are no captures outside of the repository"
	// NotAsked: a flag has the test write files, or -short leaves out what takes long.
	NotAsked Excuse = "a flag decides"
	// RaceDetector: what is measured is not the program's under -race.
	RaceDetector Excuse = "the race detector is on"
	// KernelCured: the kernel has lost the fault that the test is about.
	KernelCured Excuse = "this kernel does not have the fault"
	// NoSuchPart: the kernel is built without an old part, whose absence is no fault.
	NoSuchPart Excuse = "this kernel is built without it"
)

// Excused skips a test for one of the reasons that LAB_REQUIRED=1 allows.
func Excused(t testing.TB, why Excuse, format string, args ...any) {
	t.Helper()
	t.Skipf("%s: %s", why, fmt.Sprintf(format, args...))
}

// Need looks for programs in PATH and skips the test when one is missing.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Skip(t, "the test needs the program %s", p)
		}
	}
}

// The tcpdump that Debian 12 has, whose every decision and text is followed.
const (
	tcpdumpVersion = "4.99.3"
	libpcapVersion = "1.10.3"
)

// NeedTcpdump skips a test that compares with tcpdump's text or programs where tcpdump is not the one that is followed:
// another one's may differ.
func NeedTcpdump(t testing.TB) {
	t.Helper()
	Need(t, "tcpdump")
	out, err := exec.Command("tcpdump", "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "tcpdump version "+tcpdumpVersion) || !strings.Contains(string(out), "libpcap version "+libpcapVersion) {
		Skip(t, "the comparison is with tcpdump %s and libpcap %s; here is (%v)\n%s", tcpdumpVersion, libpcapVersion, err, out)
	}
}

// CapturesDir is the folder of captures with tcpdump's texts and decisions that lies outside of the repository, there or
// not: PROXYARPD_TCPDUMP_DATA, else shared/tcpdump beside the module.
func CapturesDir() string {
	if dir := os.Getenv("PROXYARPD_TCPDUMP_DATA"); dir != "" {
		return dir
	}
	root := "."
	for range 8 { // the test's directory is its package's
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		root = filepath.Join(root, "..")
	}
	return filepath.Join(root, "..", "shared", "tcpdump")
}

// Captures returns a file or folder of CapturesDir, or skips the test where it is not there.
func Captures(t testing.TB, elem ...string) string {
	t.Helper()
	path := filepath.Join(append([]string{CapturesDir()}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		Excused(t, NoCaptures, "PROXYARPD_TCPDUMP_DATA names no folder with them: %v", err)
	}
	return path
}
