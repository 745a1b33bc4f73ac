package worker

import (
	"encoding/binary"
	"fmt"
)

// version is the version of the protocol that this package speaks.
const version = 1

// frameSize is the size of a control frame. It is far below PIPE_BUF, so a write of
// one frame is atomic and needs no lock.
const frameSize = 64

// frameMagic are the first bytes of every frame, "DFNW" as a little-endian number.
const frameMagic = uint32('D') | uint32('F')<<8 | uint32('N')<<16 | uint32('W')<<24

// A frameType says what a frame is.
type frameType uint8

// The types of a frame and who sends them.
const (
	frameHello  frameType = 1 // child: I speak this version
	frameStart  frameType = 2 // parent: here is the setup, load the model
	frameReady  frameType = 3 // child: the model is loaded
	frameFailed frameType = 4 // child: the model cannot be loaded
	frameCall   frameType = 5 // parent: here is a request
	frameResult frameType = 6 // child: here is its response
	frameError  frameType = 7 // child: it ended in an error
)

// wantsSignal is the flag of a hello whose sender takes SIGUSR1 to mean that a cancel
// word has been written.
const wantsSignal = 1

// A frame is a control message. The package comment says which field means what in
// which type.
type frame struct {
	typ      frameType
	flags    uint8
	id       uint64
	lane     uint32
	parts    uint32
	length   uint64
	deadline int64
	run      int64
	limit    uint64
	lanes    uint32
	pid      uint32
}

// A versionError is the refusal of a frame of another version of the protocol.
type versionError struct{ got uint16 }

func (e versionError) Error() string {
	return fmt.Sprintf("the other side speaks version %d of the worker protocol, this side version %d: "+
		"they must come from the same release", e.got, version)
}

// put writes f to b.
func (f *frame) put(b *[frameSize]byte) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], frameMagic)
	le.PutUint16(b[4:], version)
	b[6] = byte(f.typ)
	b[7] = f.flags
	le.PutUint64(b[8:], f.id)
	le.PutUint32(b[16:], f.lane)
	le.PutUint32(b[20:], f.parts)
	le.PutUint64(b[24:], f.length)
	le.PutUint64(b[32:], uint64(f.deadline))
	le.PutUint64(b[40:], uint64(f.run))
	le.PutUint64(b[48:], f.limit)
	le.PutUint32(b[56:], f.lanes)
	le.PutUint32(b[60:], f.pid)
}

// parseFrame reads a frame. It checks what can be checked without knowing the
// receiver: magic, version and type.
func parseFrame(b *[frameSize]byte) (frame, error) {
	le := binary.LittleEndian
	if m := le.Uint32(b[0:]); m != frameMagic {
		return frame{}, fmt.Errorf("the control pipe carries something else than frames (%q)", b[:8])
	}
	if v := le.Uint16(b[4:]); v != version {
		return frame{}, versionError{v}
	}
	f := frame{
		typ:      frameType(b[6]),
		flags:    b[7],
		id:       le.Uint64(b[8:]),
		lane:     le.Uint32(b[16:]),
		parts:    le.Uint32(b[20:]),
		length:   le.Uint64(b[24:]),
		deadline: int64(le.Uint64(b[32:])),
		run:      int64(le.Uint64(b[40:])),
		limit:    le.Uint64(b[48:]),
		lanes:    le.Uint32(b[56:]),
		pid:      le.Uint32(b[60:]),
	}
	if f.typ < frameHello || f.typ > frameError {
		return frame{}, fmt.Errorf("frame of unknown type %d", f.typ)
	}
	return f, nil
}
