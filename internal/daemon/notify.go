package daemon

import (
	"fmt"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// tellMainPID tells systemd that another process is the service's main one from now on
// (sd_notify(3), MAINPID=). It comes from the one that was: that one alone may say so by
// NotifyAccess=main.
func tellMainPID(pid int) error {
	if pid == 0 {
		return nil // of another PID namespace, so of another service
	}
	_, err := sd.SdNotify(false, fmt.Sprintf("MAINPID=%d", pid))
	return err
}
