package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
)

// AddPod adds one pod to a host, wired into both hosts' routes.
func (l *Lab) AddPod(ctx context.Context, host int, o PodOptions) (Pod, error) {
	pods, err := l.AddPods(ctx, host, 1, o)
	if err != nil {
		return Pod{}, err
	}
	return pods[0], nil
}

// AddPods adds n pods to a host, several at a time; all or none.
func (l *Lab) AddPods(ctx context.Context, host, n int, o PodOptions) ([]Pod, error) {
	if host < 0 || host >= l.spec.Hosts {
		return nil, fmt.Errorf("lab %s: no host%d", l.spec.Name, host)
	}
	if n > 1 && o.Iface != "" {
		return nil, fmt.Errorf("lab %s: one name, %s, for %d pods", l.spec.Name, o.Iface, n)
	}
	var pods []Pod
	err := l.change(func() (err error) {
		pods, err = l.addPods(ctx, host, n, o)
		return err
	})
	return pods, err
}

// change runs fn, alone and with the lab's lock held, and records the outcome.
// fn reads l.nodes and l.pods freely; to write them it takes l.mu.
func (l *Lab) change(fn func() error) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	if l.isClosed() {
		return fmt.Errorf("lab %s: %w", l.spec.Name, os.ErrClosed)
	}
	if l.adopted {
		return errors.New("lab: the namespaces are not this lab's to change")
	}
	if l.lock == nil {
		lock, err := lockLab(l.spec.Name)
		if err != nil {
			return err
		}
		defer lock.Close()
	}
	if err := fn(); err != nil {
		return err
	}
	return l.state(true).write()
}

func (l *Lab) addPods(ctx context.Context, host, n int, o PodOptions) ([]Pod, error) {
	first := 0
	for _, p := range l.pods {
		if p.Host == host {
			first = max(first, p.N+1)
		}
	}
	if err := l.spec.checkPods(first + n); err != nil {
		return nil, err
	}
	mtu := o.MTU
	if mtu == 0 {
		mtu = l.spec.PodMTU
	}
	pods := make([]Pod, n)
	for i := range pods {
		pods[i] = l.spec.plan(host, first+i, o)
	}
	if l.spec.SharedPods && n > 0 && !slices.ContainsFunc(l.nodes, func(nd Node) bool { return nd.Name == pods[0].Node }) {
		node := Node{Name: pods[0].Node, Netns: l.spec.Name + "-" + pods[0].Node, Host: host, IsPod: true}
		if err := makeNetns(node.Netns); err != nil {
			return nil, err
		}
		l.record([]Node{node}, nil)
	}
	err := parallel(ctx, n, func(i int) error {
		if err := l.step(ctx, "pod"); err != nil {
			return err
		}
		return l.makePod(ctx, &pods[i], mtu)
	})
	if err != nil {
		for _, p := range pods {
			err = errors.Join(err, l.removePod(p))
		}
		return nil, err
	}
	var nodes []Node
	if !l.spec.SharedPods {
		for _, p := range pods {
			nodes = append(nodes, Node{Name: p.Node, Netns: l.spec.Name + "-" + p.Node, Host: host, IsPod: true, Addr: p.Addr, Addr6: p.Addr6})
		}
	}
	l.record(nodes, pods)
	return pods, nil
}

func (l *Lab) record(nodes []Node, pods []Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes = append(l.nodes, nodes...)
	l.pods = append(l.pods, pods...)
}

// Up brings up the host ends of pods that were made with PodOptions.Down,
// several at a time.
func (l *Lab) Up(ctx context.Context, pods ...Pod) error {
	wanted := map[string]bool{}
	for _, p := range pods {
		wanted[p.Name] = true
	}
	return l.change(func() error {
		all := slices.Clone(l.pods)
		var down []*Pod
		for i := range all {
			if p := &all[i]; p.HostDown && wanted[p.Name] {
				down = append(down, p)
			}
		}
		err := parallel(ctx, len(down), func(i int) error {
			host, err := handleAt(l.nodes[down[i].Host].Netns)
			if err != nil {
				return err
			}
			defer host.Close()
			link, err := host.LinkByIndex(down[i].Index)
			if err != nil {
				return fmt.Errorf("lab: link %s: %w", down[i].Iface, err)
			}
			return l.hostEndUp(ctx, host, link, down[i])
		})
		l.mu.Lock()
		defer l.mu.Unlock()
		l.pods = all
		return err
	})
}

// DelPod removes a pod, by its name: the veth, its namespace and its routes.
func (l *Lab) DelPod(name string) error {
	return l.change(func() error {
		at := slices.IndexFunc(l.pods, func(p Pod) bool { return p.Name == name })
		if at < 0 {
			return fmt.Errorf("lab %s: no pod %q", l.spec.Name, name)
		}
		if err := l.removePod(l.pods[at]); err != nil {
			return err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.nodes = slices.DeleteFunc(l.nodes, func(n Node) bool { return n.Name == name })
		l.pods = slices.Delete(l.pods, at, at+1)
		return nil
	})
}
