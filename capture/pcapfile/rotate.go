package pcapfile

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"time"
)

// ErrFileLimit says that the last file that Rotation.Count allows is full. All
// files are complete.
var ErrFileLimit = errors.New("maximum file limit reached")

// Rotation says how packets are spread over files, as tcpdump does with -w, -C,
// -W and -G. Whatever has a file's name is overwritten.
type Rotation struct {
	// Name is the file's name. With Seconds it goes through strftime(3) with the
	// local time at which the period began.
	Name string
	// Size in bytes (-C): if a file is larger before a packet is written, the
	// packet goes into the next, which has a number behind its name. 0: no limit.
	Size int64
	// Count (-W): with Size, so many files take turns, and are numbered from 0
	// with leading zeros. With Seconds alone, there are no more than so many. 0:
	// no limit.
	Count int
	// Seconds (-G) are a period: the first packet after it goes into a new file.
	// With Size, the numbers start again with each period. 0: no limit.
	Seconds int64

	// New begins a file.
	New func(io.Writer) PacketWriter
	// End, if not nil, is called before a file is closed, to write what belongs
	// at its end.
	End func(PacketWriter) error
	// Closed, if not nil, is told the name of each file that another one follows,
	// or would follow if Count did not forbid it.
	Closed func(name string)
	// Now is time.Now if it is nil.
	Now func() time.Time
}

// ParseFileSize returns the bytes that the argument of tcpdump's -C means:
// millions, without a unit.
func ParseFileSize(s string) (int64, error) {
	const million = 1_000_000
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case n > math.MaxInt64/million && (err == nil || errors.Is(err, strconv.ErrRange)):
		return 0, fmt.Errorf("file size %s is too large", s)
	case err != nil || n <= 0:
		return 0, fmt.Errorf("invalid file size %q", s)
	}
	return n * million, nil
}

// Rotator writes packets to the files of a Rotation. It is a PacketWriter.
type Rotator struct {
	rotation Rotation
	digits   int // of the numbers, at least
	file     *os.File
	writer   PacketWriter
	began    time.Time // the period
	periods  int       // before
	number   int       // of the file in the period
	err      error     // why there is no file
}

// Open opens the first file.
func (o Rotation) Open() (*Rotator, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Name == "-" && (o.Size > 0 || o.Seconds > 0) {
		return nil, errors.New("standard output is no file that could be rotated")
	}
	r := &Rotator{rotation: o, digits: digits(o.Count), began: o.Now()}
	if err := r.open(); err != nil {
		return nil, err
	}
	return r, nil
}

// digits returns how many the highest of so many numbers has that start with 0.
// A single file needs none.
func digits(count int) int {
	if count <= 1 {
		return 0
	}
	return len(strconv.Itoa(count - 1))
}

// name returns that of the current file.
func (r *Rotator) name() (string, error) {
	name := r.rotation.Name
	if r.rotation.Seconds > 0 {
		var err error
		if name, err = strftime(name, r.began); err != nil {
			return "", err
		}
	}
	if r.rotation.Size == 0 || r.number == 0 && r.digits == 0 {
		return name, nil
	}
	return fmt.Sprintf("%s%0*d", name, r.digits, r.number), nil
}

func (r *Rotator) open() error {
	name, err := r.name()
	if err != nil {
		return err
	}
	if r.file, err = os.Create(name); err != nil {
		return err
	}
	r.writer = r.rotation.New(r.file)
	return nil
}

// close completes the current file.
func (r *Rotator) close() error {
	var end error
	if r.rotation.End != nil {
		end = r.rotation.End(r.writer)
	}
	return errors.Join(end, r.writer.Flush(), r.file.Close())
}

// WritePacket writes a packet, to a new file if it is time for one.
func (r *Rotator) WritePacket(p *Packet) error {
	if r.err == nil {
		r.err = r.rotate()
	}
	if r.err != nil {
		return r.err
	}
	return r.writer.WritePacket(p)
}

// rotate opens the next file if it is time.
func (r *Rotator) rotate() error {
	if r.rotation.Seconds > 0 {
		if now := r.rotation.Now(); now.Unix()-r.began.Unix() >= r.rotation.Seconds {
			return r.nextPeriod(now)
		}
	}
	if r.rotation.Size > 0 && r.writer.Size() > r.rotation.Size {
		r.number++
		if r.rotation.Count > 0 && r.number >= r.rotation.Count {
			r.number = 0
		}
		return r.reopen()
	}
	return nil
}

func (r *Rotator) nextPeriod(now time.Time) error {
	r.began, r.number = now, 0
	r.periods++
	if r.rotation.Size == 0 && r.rotation.Count > 0 && r.periods >= r.rotation.Count {
		if err := r.closeFull(); err != nil {
			return err
		}
		return ErrFileLimit
	}
	return r.reopen()
}

// closeFull completes a file that another one follows.
func (r *Rotator) closeFull() error {
	err := r.close()
	if err == nil && r.rotation.Closed != nil {
		r.rotation.Closed(r.file.Name())
	}
	return err
}

func (r *Rotator) reopen() error {
	if err := r.closeFull(); err != nil {
		return err
	}
	return r.open()
}

// Flush writes out what is buffered for the current file.
func (r *Rotator) Flush() error {
	if r.err != nil {
		return r.err
	}
	return r.writer.Flush()
}

// Size returns the size of the current file.
func (r *Rotator) Size() int64 { return r.writer.Size() }

// Close completes the current file. An error before that left no file open is
// not an error of Close.
func (r *Rotator) Close() error {
	if r.err != nil {
		return nil
	}
	r.err = os.ErrClosed
	return r.close()
}
