package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// adoptedName stands for the name that namespaces of others do not have in common.
const adoptedName = "adopted"

// Adopt makes a Lab of namespaces that are there already, to be entered and to
// run commands in. A node's Netns is a name in /run/netns or a path, such as
// /proc/PID/ns/net. Close kills what was started through the Lab and leaves the
// namespaces; pods cannot be added.
func Adopt(nodes ...Node) (*Lab, error) {
	for _, n := range nodes {
		switch _, err := os.Stat(netnsPath(n.Netns)); {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("lab: no network namespace %s", netnsPath(n.Netns))
		case err != nil:
			return nil, fmt.Errorf("lab: %w", err)
		case !isNetns(n.Netns):
			return nil, fmt.Errorf("lab: %s is not a network namespace", netnsPath(n.Netns))
		}
	}
	l := newLab(Spec{Name: adoptedName})
	l.nodes, l.adopted = nodes, true
	return l, nil
}

// netnsByNode gives the namespaces of the lab by node; l.mu is held.
func (l *Lab) netnsByNode() (map[string]string, error) {
	if !l.adopted {
		return namespaces(l.spec.Name)
	}
	nodes := map[string]string{}
	for _, n := range l.nodes {
		nodes[n.Name] = n.Netns
	}
	return nodes, nil
}
