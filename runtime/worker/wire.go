package worker

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
)

// This file is what package node has of the protocol: requests, answers and errors cross
// between a relay and its node as they do between a worker and its child.

// MaxLanes is the most lanes that a Memory may have.
const MaxLanes = maxLanes

// A Memory is memory in lanes that two processes share: requests, which one of them
// writes, and responses, which the other writes.
type Memory struct{ m *memory }

// NewMemory makes memory of lanes with room for maxPayload bytes of requests and as many
// of responses each. This process may write to all of it. It takes no memory until it is
// written to.
func NewMemory(lanes int, maxPayload int64) (*Memory, error) {
	m, err := makeMemory(lanes, maxPayload, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return nil, err
	}
	return &Memory{m}, nil
}

// OpenMemory maps memory that another process has made and described, whom nobody trusts:
// both files must be sealed, so that they cannot become shorter under the hands of this
// process, and have the size that follows from the description. The responses can be read
// only. The files are the Memory's, also after an error.
func OpenMemory(requests, responses *os.File, lanes uint32, maxPayload uint64) (*Memory, error) {
	m, err := describedMemory(requests, responses, lanes, maxPayload)
	if err == nil {
		err = errors.Join(sealed(requests), sealed(responses))
	}
	if err == nil {
		err = m.mapAll(unix.PROT_READ)
	}
	if err != nil {
		(&memory{reqFile: requests, respFile: responses}).close()
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	return &Memory{m}, nil
}

// sealed returns an error unless nobody can change the size of the file any more.
func sealed(f *os.File) error {
	const want = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil {
		return fmt.Errorf("%s: it cannot be sealed: %w", f.Name(), err)
	}
	if seals&want != want {
		return fmt.Errorf("%s: its size is not sealed", f.Name())
	}
	return nil
}

// Lanes is the number of lanes.
func (m *Memory) Lanes() int { return m.m.lanes }

// Limit is how many bytes a payload may have.
func (m *Memory) Limit() int { return m.m.limit }

// Request and Response return the memory of a lane, up to the limit.
func (m *Memory) Request(lane int) []byte { return m.m.request(lane)[:m.m.limit:m.m.limit] }

// Response is the other half of Request.
func (m *Memory) Response(lane int) []byte { return m.m.response(lane)[:m.m.limit:m.m.limit] }

// Word returns a word of the lane that both sides may write to, beside its payloads.
func (m *Memory) Word(lane int) *atomic.Uint64 { return m.m.canceled(lane) }

// Files are the two files, of the requests and of the responses.
func (m *Memory) Files() (requests, responses *os.File) { return m.m.reqFile, m.m.respFile }

// Trim gives the pages of payloads of these sizes back to the system, if they are large.
// The sizes may be wrong.
func (m *Memory) Trim(lane int, request, response uint64) { m.m.trim(lane, request, response) }

// Close unmaps the memory and closes its files. Nobody may use it any more.
func (m *Memory) Close() { m.m.close() }

// A Part is a piece of a payload. The data of a Part that was parsed lie in the payload
// still.
type Part struct {
	Name, ContentType, Filename string
	// Kind is what both sides have agreed on. A request and a response have kinds of their
	// own.
	Kind uint32
	Data []byte
}

// PutRequest writes a request to b. It returns its length and its number of parts. The
// error is TooLarge.
func PutRequest(b []byte, req *actions.Request) (length, parts int, err error) {
	return putRequest(b, req)
}

// ParseRequest reads a request, whose bytes lie in b.
func ParseRequest(b []byte, parts uint32) (actions.Request, error) { return parseRequest(b, parts) }

// ResponseOffset is where the data of a response lie in its payload, unless its strings
// are long. Who puts them there spares PutResponse the copying.
const ResponseOffset = dataAlign

// PutResponse writes a response to b, and more parts behind it, and returns the length.
// The data of the response may lie in b already. The error is TooLarge.
func PutResponse(b []byte, resp *actions.Response, more ...Part) (int, error) {
	first := part{contentType: resp.ContentType, filename: resp.Filename, kind: wholeKind(resp.Whole), data: resp.Data}
	if err := checkStrings(first.contentType, first.filename); err != nil {
		return 0, err
	}
	end := first.end(0)
	if end > len(b) {
		return 0, tooLarge("the response", end, len(b))
	}
	// Before the strings, which may take the place where the data are.
	if at := end - len(first.data); len(first.data) > 0 && &b[at] != &first.data[0] {
		copy(b[at:], first.data)
	}
	first.putHead(b, 0, len(resp.Data))
	return PutParts(b, end, "the response", more...)
}

// ParseResponse reads a response, whose Data lie in b, and the parts behind it.
func ParseResponse(b []byte, parts uint32) (actions.Response, []Part, error) {
	all, err := ParseParts(b, parts)
	if err != nil {
		return actions.Response{}, nil, err
	}
	p := all[0]
	return actions.Response{ContentType: p.ContentType, Filename: p.Filename, Whole: p.Kind == kindWhole, Data: p.Data}, all[1:], nil
}

// PutFailure writes an error to b, and more parts behind it, and returns the length.
func PutFailure(b []byte, e *actions.Error, more ...Part) (int, error) {
	n, err := putFailure(b, e)
	if err != nil {
		return 0, err
	}
	return PutParts(b, n, "the error", more...)
}

// ParseFailure reads an error, and the parts behind it.
func ParseFailure(b []byte, parts uint32) (*actions.Error, []Part, error) {
	all, err := ParseParts(b, parts)
	if err != nil {
		return nil, nil, err
	}
	e, err := parseFailurePart(all[0].Data)
	return e, all[1:], err
}

// PutParts writes parts after the first n bytes of b, and returns where they end. The error
// is TooLarge, and begins with what.
func PutParts(b []byte, n int, what string, parts ...Part) (int, error) {
	if len(parts) == 0 {
		return n, nil
	}
	list := make([]part, len(parts))
	for i, p := range parts {
		list[i] = part{p.Name, p.ContentType, p.Filename, p.Kind, p.Data}
	}
	return putParts(b, n, what, list)
}

// ParseParts reads a payload of one part at least.
func ParseParts(b []byte, count uint32) ([]Part, error) {
	if count == 0 || uint64(count) > uint64(len(b)/partSize) {
		return nil, fmt.Errorf("a payload of %d parts in %d bytes", count, len(b))
	}
	parts := make([]Part, count)
	for i, n := 0, 0; i < len(parts); i++ {
		p, end, err := parsePart(b, n)
		if err != nil {
			return nil, err
		}
		parts[i], n = Part{p.name, p.contentType, p.filename, p.kind, p.data}, end
	}
	return parts, nil
}

// CopyOut appends data that lie in a Memory to buf. Of large ones there is never a second
// copy in this process.
func CopyOut(buf, data []byte) []byte { return copyOut(buf, data) }

// Hide takes the pages of a large payload out of this process, which is done with them. The
// Memory keeps what is in them.
func Hide(b []byte) { hide(b) }
