package cli

import (
	"fmt"
	"io"
	"os"
	"path"

	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/capture/source"
)

// file writes packets to the file of -w.
type file struct {
	o       *options
	w       pcapfile.PacketWriter
	closer  io.Closer
	cooked  bool // pcap of several interfaces
	pcapng  bool
	buf     []byte
	sources source.Source
	head    pcapfile.PcapHeader // of a pcap file
}

// newFile opens the file of -w. Verdicts and interfaces need pcapng; a name
// that ends in .pcap says that it is not to be that.
//
// rotated is told of each file that another one follows.
func newFile(o *options, pcapng, cooked bool, header pcapfile.PcapHeader, section *pcapfile.Section, src source.Source, rotated func(string)) (*file, error) {
	f := &file{o: o, pcapng: pcapng, cooked: cooked && !pcapng, sources: src, head: header}
	begin := func(w io.Writer) pcapfile.PacketWriter {
		if pcapng {
			return pcapfile.NewWriter(w, section)
		}
		return pcapfile.NewPcapWriter(w, header)
	}
	if o.rotateSize == "" && o.rotateSeconds == 0 {
		var out io.WriteCloser = os.Stdout
		if o.write != "-" {
			created, err := os.Create(o.write)
			if err != nil {
				return nil, err
			}
			out = created
		}
		f.w, f.closer = begin(out), out
		return f, f.header()
	}
	r := pcapfile.Rotation{Name: o.write, Count: o.rotateFiles, Seconds: o.rotateSeconds, New: begin, End: f.statistics, Closed: rotated}
	if o.rotateSize != "" {
		var err error
		if r.Size, err = pcapfile.ParseFileSize(o.rotateSize); err != nil {
			return nil, Usage(err.Error())
		}
	}
	rotator, err := r.Open()
	if err != nil {
		return nil, err
	}
	f.w, f.closer = rotator, rotator
	return f, f.header()
}

// header is written at once, so that who reads a pipe sees that it began.
func (f *file) header() error { return f.w.Flush() }

// wantsPcapng says which format the file of -w gets.
func (o *options) wantsPcapng(verdicts bool) bool {
	switch path.Ext(o.write) {
	case ".pcap", ".cap":
		return false
	case ".pcapng", ".ntar":
		return true
	}
	return verdicts
}

func (f *file) packet(p *pcapfile.Packet, _ *capture.Verdict, again bool) error {
	if again && !f.pcapng { // which has room for both events
		return nil
	}
	if f.cooked {
		p, f.buf = cook(p, f.buf)
	}
	if !f.pcapng && p.LinkType != f.head.LinkType {
		return fmt.Errorf("%s: a pcap file has one link type: %s, not %s", f.o.write, f.head.LinkType, p.LinkType)
	}
	err := f.w.WritePacket(p)
	if err == nil && f.o.perPacket {
		err = f.w.Flush()
	}
	return err
}

// statistics are written at the end of a pcapng file.
func (f *file) statistics(w pcapfile.PacketWriter) error {
	ng, ok := w.(*pcapfile.Writer)
	if !ok {
		return nil
	}
	src, ok := f.sources.(interface{ Interfaces() []*pcapfile.Interface })
	if !ok {
		return nil
	}
	for _, i := range src.Interfaces() {
		if i.Statistics != nil {
			if err := ng.WriteStatistics(i, i.Statistics); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush leaves what is buffered where it is: a file is written in large pieces,
// unless -U is given, or it is a pipe that somebody reads.
func (f *file) flush() error {
	if f.o.write == "-" {
		return f.w.Flush()
	}
	return nil
}

func (f *file) close() error {
	err := f.statistics(f.w)
	if e := f.w.Flush(); err == nil {
		err = e
	}
	if f.closer == os.Stdout {
		return err
	}
	if e := f.closer.Close(); err == nil {
		err = e
	}
	return err
}
