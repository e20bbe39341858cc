package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// randomPrefix begins the names that New makes up.
const randomPrefix = "palab-"

// ErrExists is returned by New when a lab of that name is up; Open opens it.
var ErrExists = errors.New("is up already")

// Lab is a set of network namespaces. Its methods may be called concurrently.
type Lab struct {
	spec    Spec
	adopted bool // the namespaces are somebody else's

	changing sync.Mutex // held while pods come and go, and taken before mu
	lock     *os.File   // held as long as a transient lab lives; needs changing

	mu      sync.Mutex
	nodes   []Node
	pods    []Pod
	closed  bool
	running map[*Cmd]struct{} // processes not known to be dead
	groups  map[int]struct{}  // process groups made by Command
}

func newLab(spec Spec) *Lab {
	return &Lab{spec: spec, running: map[*Cmd]struct{}{}, groups: map[int]struct{}{}}
}

// New makes a lab, all or nothing: on an error or the end of ctx everything made
// is removed again. A half-made or orphaned lab of that name is removed first.
func New(ctx context.Context, spec Spec) (_ *Lab, err error) {
	spec = spec.withDefaults()
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if spec.Name == "" {
		var b [4]byte
		rand.Read(b[:])
		spec.Name, spec.Transient = randomPrefix+hex.EncodeToString(b[:]), true
	}
	l := newLab(spec)
	if l.lock, err = lockLab(spec.Name); err != nil {
		return nil, err
	}
	if old, err := readState(spec.Name); err == nil && old.complete() && !old.Spec.Transient {
		l.lock.Close()
		return nil, fmt.Errorf("lab %s: %w", spec.Name, ErrExists)
	}
	if _, err = removeParts(spec.Name); err == nil {
		err = l.build(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if !spec.Transient {
		l.lock.Close()
		l.lock = nil
	}
	return l, nil
}

func (l *Lab) build(ctx context.Context) error {
	if err := prepareNetnsDir(); err != nil {
		return err
	}
	for host := range l.spec.Hosts {
		n := Node{Name: hostName(host), Host: host, Addr: hostAddr(host)}
		if kernelHasIPv6() && carriesIPv6(l.spec.WireMTU) {
			n.Addr6 = hostAddr6(host)
		}
		n.Netns = l.spec.Name + "-" + n.Name
		l.nodes = append(l.nodes, n)
	}
	if err := l.state(false).write(); err != nil {
		return err
	}
	for _, n := range l.nodes {
		if err := l.step(ctx, "host"); err != nil {
			return err
		}
		if err := makeNetns(n.Netns); err != nil {
			return err
		}
	}
	if err := l.step(ctx, "uplink"); err != nil {
		return err
	}
	if err := l.makeUplink(ctx); err != nil {
		return err
	}
	for host := range l.spec.Hosts {
		if _, err := l.addPods(ctx, host, max(l.spec.PodsPerHost, 0), PodOptions{}); err != nil {
			return err
		}
	}
	if err := l.step(ctx, "done"); err != nil {
		return err
	}
	return l.state(true).write()
}

// step is passed between the parts of the work.
func (l *Lab) step(ctx context.Context, name string) error {
	if l.spec.fail != nil {
		if err := l.spec.fail(name); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("lab %s: not made: %w", l.spec.Name, context.Cause(ctx))
	}
	return nil
}

// Open finds a lab that another process, or an earlier New, made.
func Open(name string) (*Lab, error) {
	if !nameRE.MatchString(name) {
		return nil, fmt.Errorf("lab: name %q: use letters, digits, '_', '.' and '-'", name)
	}
	s, err := readState(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("lab %s: there is none: %w", name, fs.ErrNotExist)
	case err != nil:
		return nil, fmt.Errorf("lab %s: %w", name, err)
	case !s.complete():
		return nil, fmt.Errorf("lab %s: half made or half removed", name)
	}
	l := newLab(s.Spec)
	l.nodes, l.pods = s.Nodes, s.Pods
	return l, nil
}

// Close kills the processes that were started through this Lab and removes the
// lab. Called again it does nothing.
func (l *Lab) Close() error {
	l.changing.Lock()
	defer l.changing.Unlock()
	if l.isClosed() {
		return nil
	}
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	err := l.killProcesses()
	if l.adopted {
		return err
	}
	if l.lock != nil {
		_, removeErr := removeLocked(l.spec.Name, l.lock)
		return errors.Join(err, removeErr)
	}
	_, removeErr := Remove(l.spec.Name)
	return errors.Join(err, removeErr)
}

func (l *Lab) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// Spec returns what the lab was made by, with its name and defaults filled in.
func (l *Lab) Spec() Spec { return l.spec }

// Name returns the prefix of the namespaces' names.
func (l *Lab) Name() string { return l.spec.Name }

// Nodes returns the namespaces, hosts first.
func (l *Lab) Nodes() []Node {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.nodes)
}

// Pods returns the pods in the order of their making.
func (l *Lab) Pods() []Pod {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.pods)
}

// Do runs fn on an OS thread of its own in the node's namespace. What fn opens
// there (sockets, netlink handles) stays of that namespace; a goroutine that it
// starts does not run in it.
func (l *Lab) Do(node string, fn func() error) error {
	l.mu.Lock()
	netns, err := l.netns(node)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return inNetns(netns, fn)
}

// netns finds a node's namespace; l.mu is held.
func (l *Lab) netns(node string) (string, error) {
	names := make([]string, len(l.nodes))
	for i, n := range l.nodes {
		if n.Name == node {
			return n.Netns, nil
		}
		names[i] = n.Name
	}
	const most = 12
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return "", fmt.Errorf("lab %s: no node %q: there are %v", l.spec.Name, node, names)
}

// state describes the lab for other processes; l.changing is held, or
// nobody else has l.
func (l *Lab) state(up bool) *state {
	return &state{Spec: l.spec, Up: up, Nodes: l.nodes, Pods: l.pods}
}

// parallel calls fn for 0 to n-1 and returns the first error, after which, or
// after the end of ctx, no further call begins.
func parallel(ctx context.Context, n int, fn func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, 2*runtime.NumCPU()) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := fn(i); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
