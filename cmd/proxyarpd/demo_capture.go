package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"
)

// captured is how many packets two pings make that one capture on host0 sees: a
// request and a reply that pass, a request that is dropped, and the error.
const captured = 6

// capture shows what becomes of a packet that arrives, and of one that doesn't.
func (d *demo) capture() error {
	args := []string{"capture", "--control", d.control("host0"), "-ni", "any", "-c", fmt.Sprint(captured), "icmp"}
	d.echo("host0", "proxyarpd", append(args, "&")...)
	cmd := d.l.Command(d.ctx, "host0", d.bin, args...)
	var out bytes.Buffer
	cmd.Stdout = &out
	said, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	late := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Signal(syscall.SIGINT) })
	listening := false
	for lines := bufio.NewScanner(said); !listening && lines.Scan(); {
		listening = strings.Contains(lines.Text(), "listening on")
	}
	if !listening {
		late.Stop()
		return errors.Join(errors.New("capture does not listen"), cmd.Wait())
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	_, err = d.run("ns0", "ping", "-c", "1", "10.20.1.3")
	if err == nil {
		_, _ = d.run("ns0", "ping", "-c", "1", "10.99.0.1") // has to fail: nobody routes there
	}
	ended := cmd.Wait()
	late.Stop()
	fmt.Fprintf(d.out, "\nhost0# (what capture has printed)\n%s", out.String())
	if err != nil || ended != nil {
		return errors.Join(err, ended)
	}
	for _, want := range []string{"=> forward ens192 via 192.168.1.16", "=> drop IP_INNOROUTES icmp 3/0"} {
		if !strings.Contains(out.String(), want) {
			return fmt.Errorf("capture has no %q", want)
		}
	}
	return nil
}
