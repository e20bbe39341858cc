package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestGolden reads the captures of the dissectors, of every link type that they know: the command prints what
// tcpdump does.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "dissect", "testdata", "*.pcap"))
	if err != nil || len(files) == 0 {
		t.Fatal("no captures: ", err)
	}
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
	for _, file := range files {
		for text, args := range map[string]string{"e": "-nne", "vv": "-nnvv"} {
			want, err := os.ReadFile(strings.TrimSuffix(file, "pcap") + text + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			var out, errw bytes.Buffer
			if err := Run(context.Background(), []string{args, "-r", file}, Env{Out: &out, Err: &errw}); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			if got := out.Bytes(); !bytes.Equal(got, want) {
				t.Errorf("%s %s: %d bytes, not the %d of tcpdump's text", file, args, len(got), len(want))
			}
		}
	}
}
