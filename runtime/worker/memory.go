package worker

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxLanes    = 64
	maxLaneSize = 1 << 40
	// cancelArea is the space before the lanes of the request memory, with a cancel
	// word for each lane, and lane sizes are rounded up to multiples of it. It is a
	// multiple of every page size.
	cancelArea = 64 << 10
	// keepSize is how large a payload may be without its pages being given back to
	// the system after the call.
	keepSize = 4 << 20
)

// A memory is the memory that parent and child share: requests, which the parent
// writes, and responses, which the child writes.
type memory struct {
	reqFile, respFile *os.File
	req, resp         []byte
	limit             int // the bytes that a call may take of a lane
	laneSize          int // limit, rounded up
	lanes             int
}

// newMemory makes the memory of a worker.
func newMemory(lanes int, maxPayload int64) (*memory, error) {
	return makeMemory(lanes, maxPayload, unix.PROT_READ)
}

// makeMemory makes memory, of which this process maps the responses with prot.
func makeMemory(lanes int, maxPayload int64, prot int) (*memory, error) {
	if lanes > maxLanes || maxPayload > maxLaneSize-cancelArea {
		return nil, fmt.Errorf("shared memory for %d calls of %d bytes: the limits are %d and %d",
			lanes, maxPayload, maxLanes, int64(maxLaneSize-cancelArea))
	}
	m := &memory{limit: int(maxPayload), laneSize: align(int(maxPayload), cancelArea), lanes: lanes}
	var err error
	if m.reqFile, err = newMemfd("deepfn-requests", int64(cancelArea+lanes*m.laneSize)); err == nil {
		m.respFile, err = newMemfd("deepfn-responses", int64(lanes*m.laneSize))
	}
	if err == nil {
		err = m.mapAll(prot)
	}
	if err != nil {
		m.close()
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	return m, nil
}

// openMemory returns the memory that a start frame describes, in the child.
func openMemory(req, resp *os.File, f *frame) (*memory, error) {
	m, err := describedMemory(req, resp, f.lanes, f.limit)
	if err != nil {
		return nil, err
	}
	return m, m.mapAll(unix.PROT_READ | unix.PROT_WRITE)
}

// describedMemory returns the memory in two files, which the other side has described and
// which have the size that follows. It is not mapped.
func describedMemory(req, resp *os.File, lanes uint32, limit uint64) (*memory, error) {
	if lanes == 0 || lanes > maxLanes || limit == 0 || limit > maxLaneSize-cancelArea {
		return nil, fmt.Errorf("%d lanes of %d bytes", lanes, limit)
	}
	m := &memory{
		reqFile: req, respFile: resp,
		limit: int(limit), laneSize: align(int(limit), cancelArea), lanes: int(lanes),
	}
	for file, want := range map[*os.File]int{req: cancelArea + m.lanes*m.laneSize, resp: m.lanes * m.laneSize} {
		fi, err := file.Stat()
		if err != nil {
			return nil, err
		}
		if fi.Size() != int64(want) {
			return nil, fmt.Errorf("%s: %d bytes instead of %d", file.Name(), fi.Size(), want)
		}
	}
	return m, nil
}

// newMemfd makes a memory file whose size nobody can change, so that neither side can
// be killed by an access behind its end. It takes no memory until it is written to.
func newMemfd(name string, size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := f.Truncate(size); err != nil {
		_ = f.Close()
		return nil, err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		_ = f.Close()
		return nil, os.NewSyscallError("fcntl F_ADD_SEALS", err)
	}
	return f, nil
}

// mapAll maps both files whole, the responses with prot.
func (m *memory) mapAll(prot int) error {
	var err error
	m.req, err = unix.Mmap(int(m.reqFile.Fd()), 0, cancelArea+m.lanes*m.laneSize,
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	m.resp, err = unix.Mmap(int(m.respFile.Fd()), 0, m.lanes*m.laneSize, prot, unix.MAP_SHARED)
	return os.NewSyscallError("mmap", err)
}

// close unmaps the memory and closes its files. Nobody may use it any more.
func (m *memory) close() {
	for _, b := range [][]byte{m.req, m.resp} {
		if b != nil {
			_ = unix.Munmap(b)
		}
	}
	for _, f := range []*os.File{m.reqFile, m.respFile} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// request and response return the memory of a lane.
func (m *memory) request(lane int) []byte {
	at := cancelArea + lane*m.laneSize
	return m.req[at : at+m.laneSize : at+m.laneSize]
}

func (m *memory) response(lane int) []byte {
	at := lane * m.laneSize
	return m.resp[at : at+m.laneSize : at+m.laneSize]
}

// canceled returns the word in which the parent writes the id of the call on the lane
// whose caller has left.
func (m *memory) canceled(lane int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&m.req[lane*dataAlign])) //nolint:gosec // aligned and inside the mapping
}

// window is how much of a large payload is copied between two calls of hide.
const window = 4 << 20

// hide takes the pages of a part of a large payload out of this process, which is done with
// them. The memory keeps what is in it; who looks at it again sees it.
func hide(b []byte) {
	if len(b) < keepSize {
		return
	}
	page := os.Getpagesize()
	begin := int(uintptr(unsafe.Pointer(&b[0])) % uintptr(page)) //nolint:gosec // only its place in the page
	if begin > 0 {
		b = b[page-begin:]
	}
	_ = unix.Madvise(b[:len(b)/page*page], unix.MADV_DONTNEED)
}

// copyOut appends data, which lie in the memory, to buf. Of large ones there is never a
// second copy in this process.
func copyOut(buf, data []byte) []byte {
	if cap(buf)-len(buf) < len(data) {
		buf = append(make([]byte, 0, len(buf)+len(data)), buf...)
	}
	for len(data) > window {
		buf = append(buf, data[:window]...)
		hide(data[:window])
		data = data[window:]
	}
	return append(buf, data...)
}

// trim gives the pages of large payloads back to the system. The sizes may be wrong.
func (m *memory) trim(lane int, requestSize, responseSize uint64) {
	requestSize, responseSize = min(requestSize, uint64(m.laneSize)), min(responseSize, uint64(m.laneSize))
	if requestSize > keepSize {
		punch(m.reqFile, int64(cancelArea+lane*m.laneSize), int64(requestSize))
	}
	if responseSize > keepSize {
		punch(m.respFile, int64(lane*m.laneSize), int64(responseSize))
	}
}

// punch frees the pages of a range. An error would mean that they stay in use, no more.
func punch(f *os.File, at, size int64) {
	_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, size)
}
