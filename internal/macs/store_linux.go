package macs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/instance"
)

// A store is the record's file in the state directory: replaced as a whole by rename(2), so that a reader finds the
// old record or the new one, and absent while nothing is changed. It is not synced to disk: the directory lies in
// /run, and what a power cut takes it takes from the interfaces too.
type store struct {
	dir   *os.File
	netns uint64 // cookie
	name  string
}

func openStore(dir string, ns instance.Netns) (*store, error) {
	d, err := instance.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	return &store{dir: d, netns: ns.Cookie, name: ns.File("json")}, nil
}

func (s *store) Close() error { return s.dir.Close() }

func (s *store) read() (map[int]*entry, error) {
	f, err := instance.OpenFile(s.dir, s.name, unix.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return map[int]*entry{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("macs: the record of changed MACs cannot be read: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, recordSize+2))
	if err != nil {
		return nil, fmt.Errorf("macs: the record of changed MACs cannot be read: %w", err)
	}
	var entries map[int]*entry
	if len(b) > recordSize+1 {
		err = fmt.Errorf("larger than %d bytes", recordSize)
	} else {
		entries, err = decodeRecord(b, s.netns)
	}
	if err != nil {
		return nil, fmt.Errorf("macs: %s is no record of changed MACs: %w: "+
			"look at the MACs of the workload interfaces, put right what is wrong, and remove the file", f.Name(), err)
	}
	return entries, nil
}

func (s *store) write(entries map[int]*entry) error {
	if err := s.replace(entries); err != nil {
		return fmt.Errorf("record %s/%s: %w", s.dir.Name(), s.name, err)
	}
	return nil
}

func (s *store) replace(entries map[int]*entry) error {
	at, tmp := int(s.dir.Fd()), s.name+".new"
	if len(entries) == 0 {
		for _, name := range []string{s.name, tmp} { // the latter is left from a kill in the middle
			if err := unix.Unlinkat(at, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
				return os.NewSyscallError("unlink", err)
			}
		}
		return nil
	}
	b, err := encodeRecord(s.netns, entries)
	if err != nil {
		return err
	}
	// One may be left from a kill in the middle; O_EXCL then makes sure that the file is a new one.
	if err := unix.Unlinkat(at, tmp, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return os.NewSyscallError("unlink", err)
	}
	f, err := instance.OpenFile(s.dir, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.NewSyscallError("rename", unix.Renameat(at, tmp, at, s.name))
}
