package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// completed is what the shells ask for: the proposals, without their explanations, and the directive.
func completed(t *testing.T, args ...string) (proposals []string, directive string) {
	t.Helper()
	c := call(t, append([]string{cobra.ShellCompRequestCmd}, args...)...)
	if c.code != 0 {
		t.Errorf("%q: exit %d: %s", args, c.code, c.errw)
	}
	for line := range strings.Lines(c.out) {
		word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if strings.HasPrefix(word, ":") {
			directive = word
			break
		}
		proposals = append(proposals, word)
	}
	return proposals, directive
}

// Directives of cobra's, as they are printed.
const (
	filesToo   = ":0" // ShellCompDirectiveDefault
	noFiles    = ":4"
	noSpace    = ":6" // and no files
	extensions = ":8"
	dirs       = ":16"
)

func TestComplete(t *testing.T) {
	for _, c := range []struct {
		line      string // what is typed, with the word to complete in the end
		want      string // proposals; "lo ..." has more
		directive string
	}{
		{"", "run status top reload capture explain doctor bench lab completion version help", noFiles},
		{"sta", "status", noFiles},
		{"lab ", "up down exec demo", noFiles},
		{"lab d", "down demo", noFiles},
		{"help ", "run status top reload capture explain doctor bench lab completion version help", noFiles},
		{"help lab ", "up down exec demo", noFiles},
		{"help nonsense ", "", noFiles},
		{"completion ", "bash zsh fish", noFiles},
		{"bench ", "compare html table", noFiles},
		{"run --w", "--workload --workers", noFiles},
		{"run --workload a --w", "--workload --workers", noFiles}, // repeatable
		{"run --workload ", "cali* lo ...", noFiles},
		{"run --uplink l", "lo ...", noFiles},
		{"run --engine ", "auto none af_packet ebpf", noFiles},
		{"run --engine=n", "none", noFiles},
		{"run --rp-filter ", "0 1 2", noFiles},
		{"run --claim ", "auto tcx clsact none", noFiles},
		{"run --mac ", "", noFiles},
		{"run --gateway ", "", noFiles},
		{"run --config ", "yaml yml", extensions},
		{"run --state-dir ", "", dirs},
		{"run --control ", "", filesToo},
		{"run ", "", noFiles},
		{"status -o ", "table json", noFiles},
		{"status --output j", "json", noFiles},
		{"status --wait ", "1s 10s 1m", noFiles},
		{"capture -i ", "any lo ...", noFiles},
		{"capture -nni l", "lo ...", noFiles},
		{"capture --interface l", "lo ...", noFiles},
		{"capture --verdict ", "suffix line json off", noFiles},
		{"capture -Q ", "in out inout", noFiles},
		{"capture -T s", "snmp someip", noFiles},
		{"capture --time-stamp-precision ", "micro nano", noFiles},
		{"capture -r ", "pcap pcapng cap", extensions},
		{"capture -F ", "", filesToo},
		{"capture -c ", "", noFiles},
		{"lab exec host0 ", "", filesToo},
		{"capture -i lo p", "port portrange", noFiles},
		{"lab up --form ", "article slash32 calico", noFiles},
		{"bench -o ", "table json", noFiles},
		{"bench --only la", "latency", noSpace},
		{"bench --only arp,latency,", "arp,latency,rate arp,latency,throughput ...", noSpace},
		{"bench --from-if l", "lo ...", noFiles},
		{"bench compare ", "json", extensions},
		{"bench compare a.json ", "json", extensions},
		{"bench html ", "json", extensions},
	} {
		got, directive := completed(t, strings.Split(c.line, " ")...)
		want := strings.Fields(c.want)
		more := len(want) > 0 && want[len(want)-1] == "..."
		if more {
			want = want[:len(want)-1]
			for _, w := range want {
				if !slices.Contains(got, w) {
					t.Errorf("%q: no %s in %q", c.line, w, got)
				}
			}
		}
		if (!more && !slices.Equal(got, want)) || directive != c.directive {
			t.Errorf("%q: %q %s, want %q %s", c.line, got, directive, want, c.directive)
		}
	}
	if got, _ := completed(t, "bench", "--only", "arp,"); slices.Contains(got, "arp,arp") {
		t.Errorf("what is there is proposed again: %q", got)
	}
	first, _ := completed(t, "run", "--workload", "")
	if again, _ := completed(t, "run", "--workload", ""); !slices.Equal(first, again) {
		t.Errorf("%q, and then %q", first, again)
	}
}

// Each flag says how its value is completed, or is known to take what nobody can propose.
func TestEachFlagCompletes(t *testing.T) {
	anything := []string{ // free text of which there is nothing to propose
		"gateway", "proxy", "answer-uplink", "punt", "mac", "pods", "rounds", "trial", "calm", "from-address", "to-address", "run-args", "contestant", "reason", "packets", "snapshot-length",
		"buffer-size", "file-size", "rotate-seconds", "file-count", "linktype", "ipsec-secret", "tcp-md5-secret", "relinquish-privileges",
	}
	each(tree(), func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if _, there := cmd.GetFlagCompletionFunc(f.Name); !there && f.NoOptDefVal == "" && !slices.Contains(anything, f.Name) {
				t.Errorf("%s --%s: no completion", cmd.CommandPath(), f.Name)
			}
		})
	})
}

// The scripts are for the program's name, and those shells that are here take them.
func TestCompletionScripts(t *testing.T) {
	for shell, want := range map[string]string{"bash": "complete -o default -F __start_proxyarpd proxyarpd", "zsh": "#compdef proxyarpd", "fish": "complete -c proxyarpd"} {
		c := call(t, "completion", shell)
		if c.code != 0 || c.errw != "" || !strings.Contains(c.out, want) {
			t.Errorf("%s: exit %d %s, %d bytes", shell, c.code, c.errw, len(c.out))
		}
		if _, err := exec.LookPath(shell); err != nil {
			continue // -n: it is parsed, and not run
		}
		cmd := exec.CommandContext(t.Context(), shell, "-n")
		cmd.Stdin = strings.NewReader(c.out)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", shell, err, out)
		}
	}
}
