// Command image makes a container image of files, without a container engine: a tar archive as `docker save` writes it,
// which `docker load`, `podman load`, `ctr images import` and `kind load image-archive` read.
//
//	image --arch amd64 --tag proxyarpd:latest --entrypoint /proxyarpd --cmd run -o FILE PATH=FILE[:MODE]...
//
// The same files give the same image: times are SOURCE_DATE_EPOCH's, 0 without.
package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run() error {
	arch := flag.String("arch", "amd64", "architecture, as GOARCH")
	tag := flag.String("tag", "proxyarpd:latest", "name of the image")
	entrypoint := flag.String("entrypoint", "", "program")
	command := flag.String("cmd", "", "its arguments by default")
	out := flag.String("o", "", "the archive")
	flag.Parse()
	if *out == "" || *entrypoint == "" || flag.NArg() == 0 {
		return errors.New("want -o, --entrypoint, and files")
	}
	ref, err := name.NewTag(*tag)
	if err != nil {
		return err
	}
	epoch, err := strconv.ParseInt(cmp.Or(os.Getenv("SOURCE_DATE_EPOCH"), "0"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	when := time.Unix(epoch, 0).UTC()
	files, err := layer(flag.Args(), when)
	if err != nil {
		return err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil })
	if err != nil {
		return err
	}
	image, err := mutate.Append(empty.Image, mutate.Addendum{Layer: l, History: v1.History{Created: v1.Time{Time: when}, CreatedBy: "make image"}})
	if err != nil {
		return err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return err
	}
	config = config.DeepCopy()
	config.Architecture, config.OS, config.Created = *arch, "linux", v1.Time{Time: when}
	config.Config.Entrypoint, config.Config.Cmd = []string{*entrypoint}, strings.Fields(*command)
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return err
	}
	return tarball.WriteToFile(*out, ref, image)
}

// above are the directories above a file, the uppermost first.
func above(file string) (dirs []string) {
	for dir := path.Dir(file); dir != "/"; dir = path.Dir(dir) {
		dirs = append(dirs, dir)
	}
	slices.Reverse(dirs)
	return dirs
}

// layer is a tar archive of PATH=FILE[:MODE].
func layer(specs []string, when time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	var made []string
	for _, spec := range specs {
		to, from, ok := strings.Cut(spec, "=")
		if !ok || !path.IsAbs(to) {
			return nil, fmt.Errorf("%s: want /PATH=FILE[:MODE]", spec)
		}
		mode := int64(0o644)
		if file, m, ok := strings.Cut(from, ":"); ok {
			var err error
			if mode, err = strconv.ParseInt(m, 8, 32); err != nil {
				return nil, fmt.Errorf("%s: %w", spec, err)
			}
			from = file
		}
		for _, dir := range above(to) {
			if slices.Contains(made, dir) {
				continue
			}
			made = append(made, dir)
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: 0o755, ModTime: when}); err != nil {
				return nil, err
			}
		}
		content, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: to[1:], Mode: mode, Size: int64(len(content)), ModTime: when}); err != nil {
			return nil, err
		}
		if _, err := w.Write(content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
