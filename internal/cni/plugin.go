// Package cni is a CNI plugin (https://www.cni.dev/docs/spec) that wires a pod
// as Calico wires it: a veth whose host's end is named cali* and has the MAC
// ee:ee:ee:ee:ee:ee, a host route (/32) to the pod, and in the pod a default
// route by 169.254.1.1, which nobody owns. It writes no sysctl: proxyarpd
// answers for the gateway, and forwards.
//
// Addresses come from an IPAM plugin. Policy, port mappings and bandwidth are
// other plugins' of the same list.
package cni

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// Main is the plugin: command and container are in the environment, the
// configuration on stdin; the result, or the error, goes to stdout.
func Main(build string) {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: del, Check: check, GC: gc, Status: status},
		version.VersionsStartingFrom("0.3.0"), "proxyarpd-cni "+build+": wires pods for proxyarpd")
}

// errNotAvailable is the specification's code for STATUS of a plugin that can't
// serve ADD.
const errNotAvailable = 50

func add(args *skel.CmdArgs) (err error) {
	c, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	name, err := c.hostName(args)
	if err != nil {
		return err
	}
	ctx := context.Background()
	given, err := invoke.DelegateAdd(ctx, c.IPAM.Type, args.StdinData, nil)
	if err != nil {
		return fmt.Errorf("ipam %s: %w", c.IPAM.Type, err)
	}
	defer func() {
		if err != nil { // else the address would be lost to others
			err = errors.Join(err, invoke.DelegateDel(ctx, c.IPAM.Type, args.StdinData, nil))
		}
	}()
	ipam, err := types100.NewResultFromResult(given)
	if err != nil {
		return fmt.Errorf("ipam %s: %w", c.IPAM.Type, err)
	}
	if len(ipam.IPs) == 0 {
		return fmt.Errorf("ipam %s: it gave no address", c.IPAM.Type)
	}
	w, err := c.wiring(args, name, ipam)
	if err != nil {
		return err
	}
	host, pod, err := w.connect()
	if err != nil {
		return err
	}
	return types.PrintResult(c.result(w, host, pod, ipam), c.CNIVersion)
}

// result is what later plugins of the list get: what came before, and ours.
func (c *conf) result(w *wiring, host, pod *types100.Interface, ipam *types100.Result) *types100.Result {
	r := &types100.Result{CNIVersion: types100.ImplementedSpecVersion, DNS: c.DNS}
	if c.prev != nil {
		r = c.prev
	}
	if r.DNS.IsEmpty() {
		r.DNS = ipam.DNS
	}
	r.Interfaces = append(r.Interfaces, host, pod)
	inPod := len(r.Interfaces) - 1
	for _, a := range w.addresses {
		r.IPs = append(r.IPs, &types100.IPConfig{Address: *a, Interface: types100.Int(inPod)})
	}
	for _, route := range w.routes {
		r.Routes = append(r.Routes, &types.Route{Dst: *route.Dst, GW: route.Gw})
	}
	return r
}

// del removes what add made, and does not mind what is not there.
func del(args *skel.CmdArgs) error {
	c, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	own := c.attachment(args)
	return errors.Join(remove(func(a attachment) bool { return a == own }), c.delegate(invoke.DelegateDel, "", args.StdinData))
}

func check(args *skel.CmdArgs) error {
	c, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	if c.prev == nil {
		return types.NewError(types.ErrInvalidNetworkConfig, "prevResult", "CHECK needs the result of ADD")
	}
	if err := c.delegate(invoke.DelegateCheck, "", args.StdinData); err != nil {
		return err
	}
	name, err := c.hostName(args)
	if err != nil {
		return err
	}
	w, err := c.wiring(args, name, c.ours(args.Netns, args.IfName))
	if err != nil {
		return err
	}
	return w.check()
}

// ours is the part of the result of ADD that is about one interface of the pod.
func (c *conf) ours(netns, ifname string) *types100.Result {
	r := &types100.Result{}
	for _, ip := range c.prev.IPs {
		if ip.Interface == nil || *ip.Interface >= len(c.prev.Interfaces) {
			continue
		}
		if i := c.prev.Interfaces[*ip.Interface]; i.Name == ifname && i.Sandbox == netns {
			r.IPs = append(r.IPs, ip)
		}
	}
	for _, route := range c.prev.Routes {
		if route.GW.Equal(c.gateway.AsSlice()) || route.GW.Equal(gateway6(c.mac)) {
			r.Routes = append(r.Routes, route)
		}
	}
	return r
}

// gc removes the interfaces of attachments that are not there any more.
func gc(args *skel.CmdArgs) error {
	c, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	return errors.Join(remove(func(a attachment) bool {
		return a.network == c.Name && !slices.Contains(c.ValidAttachments, types.GCAttachment{ContainerID: a.container, IfName: a.ifname})
	}), c.delegate(invoke.DelegateGC, "1.1.0", args.StdinData))
}

// status is an error while ADD would fail, or make a pod that reaches nobody.
func status(args *skel.CmdArgs) error {
	c, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	if err := c.delegate(invoke.DelegateStatus, "1.1.0", args.StdinData); err != nil {
		return err
	}
	if c.Control == "" {
		return nil
	}
	conn, err := net.Dial("unix", c.Control)
	if err != nil {
		return types.NewError(errNotAvailable, "proxyarpd does not run", err.Error())
	}
	return conn.Close()
}

// delegate calls the IPAM plugin; a command that came into the specification
// later, in version since, only if the plugin knows that.
func (c *conf) delegate(call func(context.Context, string, []byte, invoke.Exec) error, since string, stdin []byte) error {
	ctx := context.Background()
	if since != "" {
		path, err := invoke.FindInPath(c.IPAM.Type, filepath.SplitList(os.Getenv("CNI_PATH")))
		if err != nil {
			return types.NewError(errNotAvailable, "ipam "+c.IPAM.Type, err.Error())
		}
		info, err := invoke.GetVersionInfo(ctx, path, nil)
		if err != nil {
			return fmt.Errorf("ipam %s: %w", c.IPAM.Type, err)
		}
		if !slices.Contains(info.SupportedVersions(), since) {
			return nil
		}
	}
	if err := call(ctx, c.IPAM.Type, stdin, nil); err != nil {
		return fmt.Errorf("ipam %s: %w", c.IPAM.Type, err)
	}
	return nil
}
