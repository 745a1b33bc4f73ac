package worker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

const (
	packetHead = 16
	packetSize = 4096
	packetFDs  = 16
)

// A packet is what a zygote and its parent say to each other.
type packet struct {
	typ   byte
	id    uint32
	value int32
	text  string
	fd    int // -1 when there is none
}

// close closes the descriptor that came with the packet.
func (p *packet) close() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd)
		p.fd = -1
	}
}

// write sends the packet with descriptors.
func (p *packet) write(conn *net.UnixConn, files []*os.File) error {
	b := make([]byte, packetHead, packetHead+len(p.text))
	copy(b, "DFNZ")
	b[4] = p.typ
	binary.LittleEndian.PutUint32(b[8:], p.id)
	binary.LittleEndian.PutUint32(b[12:], uint32(p.value))
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			var err error
			if fds[i], err = rawFD(f); err == nil {
				err = unix.SetNonblock(fds[i], false) // as programs expect it
			}
			if err != nil {
				return err
			}
		}
		rights = unix.UnixRights(fds...)
	}
	_, _, err := conn.WriteMsgUnix(append(b, p.text...), rights, nil)
	return err
}

// readPacket reads a packet; errHungUp says that there is none any more.
func readPacket(conn *net.UnixConn) (packet, error) {
	b := make([]byte, packetSize)
	oob := make([]byte, unix.CmsgSpace(4*packetFDs))
	n, oobn, _, _, err := conn.ReadMsgUnix(b, oob)
	if n == 0 && (err == nil || errors.Is(err, io.EOF)) {
		err = errHungUp
	}
	if err != nil {
		return packet{}, errHungUp // also when it died without reading what was sent
	}
	fd, err := oneRight(oob[:oobn])
	if err != nil {
		return packet{}, err
	}
	p, err := parsePacket(b[:n])
	p.fd = fd
	if err == nil && (p.typ == zygoteForked) != (fd >= 0 && p.value > 1) {
		err = fmt.Errorf("a packet of type %d with the process %d and the descriptor %d", p.typ, p.value, fd)
	}
	if err != nil {
		p.close()
	}
	return p, err
}

// parsePacket reads a packet, without its descriptor.
func parsePacket(b []byte) (packet, error) {
	if len(b) < packetHead || string(b[:4]) != "DFNZ" {
		return packet{fd: -1}, fmt.Errorf("a packet of %d bytes that begins with %.16q", len(b), b)
	}
	p := packet{
		typ:   b[4],
		id:    binary.LittleEndian.Uint32(b[8:]),
		value: int32(binary.LittleEndian.Uint32(b[12:])),
		text:  string(b[packetHead:]),
		fd:    -1,
	}
	switch p.typ {
	case zygoteReady, zygoteUnsafe, zygoteForked, zygoteRefused, zygoteReaped:
		return p, nil
	default:
		return p, fmt.Errorf("a packet of the unknown type %d", p.typ)
	}
}

// oneRight returns the descriptor that came with a packet, or -1. More than one is an
// error.
func oneRight(oob []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1, err
	}
	var fds []int
	for i := range messages {
		if more, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, more...)
		}
	}
	switch len(fds) {
	case 0:
		return -1, nil
	case 1:
		return fds[0], nil
	}
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
	return -1, fmt.Errorf("%d descriptors with a packet", len(fds))
}
