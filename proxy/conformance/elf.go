package conformance

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
)

// Where a program of machine code lies in memory: the headers of the file and of its one
// segment, then what the segment holds.
const (
	elfBase  = 0x400000
	elfEntry = elfBase + 64 + 56
)

// elfScript makes a program for Linux on x86-64, in base64: not a script, but machine
// code, which replaces itself by a shell that runs a script. So what the suites do with
// compiled programs needs no compiler here.
func elfScript(script string) string {
	// On entry the stack holds argc, the arguments, a zero, and the environment.
	code := []byte{
		0x48, 0x8b, 0x04, 0x24, // mov rax, [rsp]
		0x48, 0x8d, 0x54, 0xc4, 0x10, // lea rdx, [rsp+rax*8+16]: the environment
		0x48, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0, // mov rdi, the shell
		0x48, 0xbe, 0, 0, 0, 0, 0, 0, 0, 0, // mov rsi, its arguments
		0xb8, 59, 0, 0, 0, 0x0f, 0x05, // execve
		0xbf, 127, 0, 0, 0, // if that failed
		0xb8, 60, 0, 0, 0, 0x0f, 0x05, // exit(127)
	}
	const shell, flag = "/bin/sh\x00", "-c\x00"
	at := uint64(elfEntry + len(code)) // of the texts
	list := (at + uint64(len(shell)+len(flag)+len(script)) + 1 + 7) &^ 7
	binary.LittleEndian.PutUint64(code[11:], at)
	binary.LittleEndian.PutUint64(code[21:], list)
	segment := append(code, shell+flag+script...)
	segment = append(segment, make([]byte, list-elfEntry-uint64(len(segment)))...)
	for _, address := range []uint64{at, at + uint64(len(shell)), at + uint64(len(shell)+len(flag)), 0} {
		segment = binary.LittleEndian.AppendUint64(segment, address)
	}
	return elf(segment)
}

// elfHello makes a program that prints a text and ends, at once.
func elfHello(text string) string {
	code := []byte{
		0xbf, 1, 0, 0, 0, // mov edi, stdout
		0x48, 0xbe, 0, 0, 0, 0, 0, 0, 0, 0, // mov rsi, the text
		0xba, 0, 0, 0, 0, // mov edx, its length
		0xb8, 1, 0, 0, 0, 0x0f, 0x05, // write
		0x31, 0xff, // no error
		0xb8, 60, 0, 0, 0, 0x0f, 0x05, // exit(0)
	}
	binary.LittleEndian.PutUint64(code[7:], uint64(elfEntry+len(code)))
	binary.LittleEndian.PutUint32(code[16:], uint32(len(text)))
	return elf(append(code, text...))
}

// elf makes a program of one segment, which begins with the code.
func elf(segment []byte) string {
	var b bytes.Buffer
	le := func(v any) {
		_ = binary.Write(&b, binary.LittleEndian, v) // into memory
	}
	size := uint64(elfEntry - elfBase + len(segment))
	b.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00") // 64 bits, little endian
	le([]uint16{2, 62})                                                      // a program, for x86-64
	le(uint32(1))
	le([]uint64{elfEntry, 64, 0}) // where it begins, the segment's header, no sections
	le(uint32(0))
	le([]uint16{64, 56, 1, 0, 0, 0})
	le([]uint32{1, 5}) // loaded, to be read and executed
	le([]uint64{0, elfBase, elfBase, size, size, 0x1000})
	b.Write(segment)
	return base64.StdEncoding.EncodeToString(b.Bytes())
}
