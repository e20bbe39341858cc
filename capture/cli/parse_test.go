package cli

import (
	"context"
	"io"
	"strings"
	"testing"
)

// Run is the command with its line of arguments.
func Run(ctx context.Context, args []string, env Env) error {
	c := NewCommand("/nowhere/proxyarpd.sock")
	if err := c.Flags().Parse(args); err != nil {
		return Usage(err.Error())
	}
	return c.Run(ctx, c.Flags().Args(), env)
}

// parse reads a command line.
func parse(args []string, control string, _ io.Writer) (*options, error) {
	c := NewCommand(control)
	if err := c.Flags().Parse(args); err != nil {
		return nil, Usage(err.Error())
	}
	return &c.options, c.options.complete(c.Flags(), c.Flags().Args())
}

// TestTimeStamps: as many -t as tcpdump takes.
func TestTimeStamps(t *testing.T) {
	for n, ok := range map[int]bool{1: true, 5: true, 6: false} {
		_, err := parse([]string{"-" + strings.Repeat("t", n)}, "", nil)
		if (err == nil) != ok {
			t.Errorf("%d times: %v", n, err)
		}
	}
}
