// Drops prints the packets that a daemon drops, and why: as they are dropped,
// or of a file that `proxyarpd capture -w FILE.pcapng` wrote.
//
//	go run ./examples/drops [-control PATH] [EXPRESSION]
//	go run ./examples/drops -r FILE [EXPRESSION]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"proxyarpd/capture/source"
)

func main() {
	file := flag.String("r", "", "read this `file`, - is standard input")
	control := flag.String("control", source.DefaultControl, "control socket of the daemon")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	options := source.Options{Drops: true, Filter: strings.Join(flag.Args(), " ")}
	if err := drops(ctx, *file, *control, options); err != nil {
		fmt.Fprintln(os.Stderr, "drops:", err)
		os.Exit(1)
	}
}

func drops(ctx context.Context, file, control string, o source.Options) error {
	s, err := open(ctx, file, control, o)
	if err != nil {
		return err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, s.Stop)()
	for {
		_, info, err := s.ZeroCopyReadPacketData()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		a := source.AncillaryOf(info)
		fmt.Printf("%s %s%s\n", info.Timestamp.UTC().Format("15:04:05.000000"), a.Interface.Name, a.Verdict.AppendSuffix(nil))
	}
}

func open(ctx context.Context, file, control string, o source.Options) (source.Source, error) {
	if file != "" {
		return source.OpenFile(ctx, file, o)
	}
	return source.Dial(ctx, control, o)
}
