package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// stateDir is the daemon's, too: its own records there are called netns-COOKIE….
const stateDir = "/run/proxyarpd"

// ErrBusy is returned while another process makes, changes or removes the lab,
// or lives on it (Spec.Transient).
var ErrBusy = errors.New("in use by another process")

// state is what other processes know of a lab.
type state struct {
	Spec  Spec
	Up    bool // false: half made
	Nodes []Node
	Pods  []Pod
}

func statePath(name, suffix string) string {
	return filepath.Join(stateDir, "lab-"+name+suffix)
}

func readState(name string) (*state, error) {
	text, err := os.ReadFile(statePath(name, ".json"))
	if err != nil {
		return nil, err
	}
	s := new(state)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%s: %w", statePath(name, ".json"), err)
	}
	return s, nil
}

// write replaces the file whole, so that readers need no lock.
func (s *state) write() error {
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	path := statePath(s.Spec.Name, ".json")
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// complete says whether every namespace of the lab is there.
func (s *state) complete() bool {
	for _, n := range s.Nodes {
		if !isNetns(n.Netns) {
			return false
		}
	}
	return s.Up
}

// lockLab takes the lab's lock or says ErrBusy. Closing the file gives it back.
func lockLab(name string) (*os.File, error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	path := statePath(name, ".lock")
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("lab %s: %w", name, ErrBusy)
			}
			return nil, fmt.Errorf("lab: lock %s: %w", path, err)
		}
		// Whoever held it last may have removed the file with the lab.
		mine, err1 := f.Stat()
		now, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, now) {
			return f, nil
		}
		f.Close()
	}
}

// Remove removes the lab called name, whole or half made, and says whether there
// was anything. Processes in it are left alone: they lose the links, and the
// nameless namespaces end with them.
func Remove(name string) (found bool, err error) {
	if !nameRE.MatchString(name) {
		return false, fmt.Errorf("lab: name %q: use letters, digits, '_', '.' and '-'", name)
	}
	lock, err := lockLab(name)
	if err != nil {
		return false, err
	}
	return removeLocked(name, lock)
}

// removeLocked gives back the lock, with the file if all went well.
func removeLocked(name string, lock *os.File) (found bool, err error) {
	defer lock.Close()
	found, err = removeParts(name)
	if err == nil {
		err = removeFile(statePath(name, ".lock"))
	}
	return found, err
}

// removeParts removes all but the lock.
func removeParts(name string) (found bool, err error) {
	nodes, err := namespaces(name)
	if err != nil {
		return false, err
	}
	var errs []error
	procs, err := processesIn(nodes)
	if err != nil {
		errs = append(errs, err)
	}
	for node, netns := range nodes {
		found = true
		errs = append(errs, removeNode(netns, len(procs[node]) > 0))
	}
	if _, err := os.Stat(statePath(name, ".json")); err == nil {
		found = true
	}
	errs = append(errs, removeFile(statePath(name, ".json")), removeFile(statePath(name, ".json.new")))
	return found, errors.Join(errs...)
}

// removeNode removes a namespace and what a killed daemon recorded of it. Links
// go with the namespace, far quicker than one by one, unless a process in it
// keeps it.
func removeNode(netns string, inUse bool) error {
	if !isNetns(netns) {
		return removeNetns(netns)
	}
	cookie, cookieErr := netnsCookie(netns)
	var linksErr error
	if inUse {
		linksErr = delLinks(netns)
	}
	if err := removeNetns(netns); err != nil {
		return err
	}
	if cookieErr == nil { // a kernel before 5.14 has no cookies, and the daemon no records
		removeDaemonRecords(cookie)
	}
	return linksErr
}

// removeDaemonRecords removes netns-COOKIE.INODE.lock and its like, best effort: the
// cookie is never used again before the next boot, which empties /run. A daemon
// that still lives holds the lock and removes its records itself.
func removeDaemonRecords(cookie uint64) {
	prefix := filepath.Join(stateDir, "netns-"+strconv.FormatUint(cookie, 10)+".")
	records, _ := filepath.Glob(prefix + "*")
	for _, path := range records {
		if filepath.Ext(path) != ".lock" {
			continue
		}
		if f, err := os.Open(path); err == nil {
			defer f.Close()
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
				return
			}
		}
	}
	for _, path := range records {
		os.Remove(path)
	}
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// Names are those of the labs that there are, half made ones too, sorted.
func Names() (names []string) {
	paths, _ := filepath.Glob(statePath("*", ".json")) // the pattern is well-formed
	for _, path := range paths {
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "lab-"), ".json"))
	}
	return names
}

// Sweep removes the labs with random names whose processes were killed.
func Sweep() error {
	locks, err := filepath.Glob(statePath(randomPrefix+"*", ".lock"))
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	var errs []error
	for _, path := range locks {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "lab-"), ".lock")
		if _, err := Remove(name); err != nil && !errors.Is(err, ErrBusy) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
