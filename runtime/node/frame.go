package node

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/deepfn/deepfn/actions"
)

// version is the version of the protocol that this package speaks.
const version = 1

const (
	frameSize  = 64
	headerSize = 8
	nonceSize  = 24
	// frameMagic are the first bytes of every frame, "DFNN" as a little-endian number.
	frameMagic = uint32('D') | uint32('F')<<8 | uint32('N')<<16 | uint32('N')<<24
)

// A frameType says what a frame is.
type frameType uint8

// The types of a frame, and who sends them.
const (
	frameChallenge frameType = 1  // node: prove that you may
	frameHello     frameType = 2  // relay: here is the proof
	frameWelcome   frameType = 3  // node: here is the memory
	frameRefused   frameType = 4  // node: no, because …
	frameCall      frameType = 5  // relay: here is a request
	frameAsk       frameType = 6  // relay: here is a question
	frameResult    frameType = 7  // node: here is the answer
	frameError     frameType = 8  // node: it ended in an error
	frameCancel    frameType = 9  // relay: nobody waits for this call
	frameBeat      frameType = 10 // both: I am alive
	frameBye       frameType = 11 // node: I end this
)

// The flags of the frames.
const (
	hasToken     = 1 // challenge, hello
	onlyProbes   = 2 // hello
	wasCold      = 1 // result, error
	hasDied      = 2 // error
	diedLoading  = 4 // error
	finishesThis = 1 // bye
)

// A question is what an ask asks.
type question uint8

// The questions.
const (
	askReady  question = 1
	askModels question = 2
	askModel  question = 3
	askInfo   question = 4
	askStats  question = 5
	askImport question = 6
	askWarm   question = 7
	askCool   question = 8
)

// quick says that a question is answered at once.
func (q question) quick() bool { return q != askImport && q != askWarm }

// The kinds of the parts behind the first of an answer.
const (
	kindLogs = 1
	kindInfo = 2
)

// A frame is a message from call on. The package comment says which field means what in
// which type.
type frame struct {
	typ    frameType
	flags  uint8
	what   uint8
	lane   uint32
	parts  uint32
	id     uint64
	length uint64
	// Of a call the deadline and the limit, of an answer the times of the queue, of the
	// start and of the run.
	times [3]int64
}

// putHeader writes what each frame begins with, and zeros behind it.
func putHeader(b *[frameSize]byte, typ frameType, flags uint8) {
	*b = [frameSize]byte{}
	binary.LittleEndian.PutUint32(b[0:], frameMagic)
	binary.LittleEndian.PutUint16(b[4:], version)
	b[6], b[7] = byte(typ), flags
}

// parseHeader reads what each frame begins with.
func parseHeader(b *[frameSize]byte) (frameType, uint8, error) {
	if m := binary.LittleEndian.Uint32(b[0:]); m != frameMagic {
		return 0, 0, fmt.Errorf("the socket carries something else than frames (%q)", b[:headerSize])
	}
	if v := binary.LittleEndian.Uint16(b[4:]); v != version {
		return 0, 0, fmt.Errorf("the other side speaks version %d of the node protocol, this side version %d: "+
			"they must come from the same release", v, version)
	}
	typ := frameType(b[6])
	if typ < frameChallenge || typ > frameBye {
		return 0, 0, fmt.Errorf("a frame of unknown type %d", typ)
	}
	return typ, b[7], nil
}

// put writes f to b.
func (f *frame) put(b *[frameSize]byte) {
	putHeader(b, f.typ, f.flags)
	le := binary.LittleEndian
	le.PutUint64(b[8:], f.id)
	le.PutUint32(b[16:], f.lane)
	le.PutUint32(b[20:], f.parts)
	le.PutUint64(b[24:], f.length)
	for i, t := range f.times {
		le.PutUint64(b[32+8*i:], uint64(t))
	}
	b[56] = f.what
}

// parseFrame reads a frame of a lease. It checks what can be checked without knowing the
// receiver.
func parseFrame(b *[frameSize]byte) (frame, error) {
	typ, flags, err := parseHeader(b)
	if err != nil {
		return frame{}, err
	}
	if typ < frameCall {
		return frame{}, fmt.Errorf("a frame of type %d after the handshake", typ)
	}
	le := binary.LittleEndian
	f := frame{
		typ: typ, flags: flags, what: b[56], id: le.Uint64(b[8:]), lane: le.Uint32(b[16:]),
		parts: le.Uint32(b[20:]), length: le.Uint64(b[24:]),
	}
	for i := range f.times {
		f.times[i] = int64(le.Uint64(b[32+8*i:]))
	}
	return f, nil
}

// A greeting is a frame of the handshake.
type greeting struct {
	typ   frameType
	flags uint8
	nonce [nonceSize]byte // of challenge and hello
	// Of a welcome.
	lanes, ttl uint32 // ttl in milliseconds
	limit      uint64
	proof      [sha256.Size]byte // of hello and welcome
	length     uint64            // of a refusal
}

func (g *greeting) put(b *[frameSize]byte) {
	putHeader(b, g.typ, g.flags)
	le := binary.LittleEndian
	switch g.typ {
	case frameWelcome:
		le.PutUint32(b[8:], g.lanes)
		le.PutUint32(b[12:], g.ttl)
		le.PutUint64(b[16:], g.limit)
	case frameRefused:
		le.PutUint64(b[24:], g.length)
		return
	default:
		copy(b[8:], g.nonce[:])
	}
	copy(b[32:], g.proof[:])
}

// parseGreeting reads a frame of the handshake, which is of a wanted type or a refusal.
func parseGreeting(b *[frameSize]byte, want frameType) (greeting, error) {
	typ, flags, err := parseHeader(b)
	if err != nil {
		return greeting{}, err
	}
	g := greeting{typ: typ, flags: flags}
	le := binary.LittleEndian
	switch {
	case typ == frameRefused && want != frameHello:
		g.length = le.Uint64(b[24:])
		return g, nil
	case typ != want:
		return greeting{}, fmt.Errorf("a frame of type %d in the handshake", typ)
	case typ == frameWelcome:
		g.lanes, g.ttl, g.limit = le.Uint32(b[8:]), le.Uint32(b[12:]), le.Uint64(b[16:])
	default:
		copy(g.nonce[:], b[8:])
	}
	copy(g.proof[:], b[32:])
	return g, nil
}

// prove makes the proof that the side has the token; without one it is zeros.
func prove(token []byte, side string, node, relay *[nonceSize]byte) (proof [sha256.Size]byte) {
	if len(token) == 0 {
		return proof
	}
	mac := hmac.New(sha256.New, token)
	mac.Write([]byte(side))
	mac.Write(node[:])
	mac.Write(relay[:])
	return [sha256.Size]byte(mac.Sum(nil))
}

// proves compares in a time that does not depend on where the difference is.
func proves(got, want [sha256.Size]byte) bool { return hmac.Equal(got[:], want[:]) }

// tiers are the tiers by their number in a frame.
func tiers() [5]actions.Tier {
	return [...]actions.Tier{"", actions.TierWarm, actions.TierHost, actions.TierCache, actions.TierDisk}
}

func tierNumber(t actions.Tier) uint8 {
	for i, tier := range tiers() {
		if tier == t {
			return uint8(i)
		}
	}
	return 0
}

// tierOf is tierNumber's way back; a number that is none is no tier.
func tierOf(n uint8) actions.Tier {
	if all := tiers(); int(n) < len(all) {
		return all[n]
	}
	return ""
}
