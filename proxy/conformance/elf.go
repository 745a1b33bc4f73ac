package conformance

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
)

// elf makes a program for Linux on x86-64, in base64: not a script, but machine code,
// which replaces itself by a shell that runs a script. So what the suites do with
// compiled programs needs no compiler here.
func elf(script string) string {
	const (
		base   = 0x400000
		header = 64 + 56 // of the file and of its one segment
	)
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
	shell := uint64(base + header + len(code))
	flag := shell + uint64(len("/bin/sh\x00"))
	text := flag + uint64(len("-c\x00"))
	list := (text + uint64(len(script)) + 1 + 7) &^ 7
	binary.LittleEndian.PutUint64(code[11:], shell)
	binary.LittleEndian.PutUint64(code[21:], list)

	var b bytes.Buffer
	le := func(v any) {
		_ = binary.Write(&b, binary.LittleEndian, v) // into memory
	}
	size := list - base + 4*8
	b.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00") // 64 bits, little endian
	le([]uint16{2, 62})                                                      // a program, for x86-64
	le(uint32(1))
	le([]uint64{base + header, 64, 0}) // the entry, the segment, no sections
	le(uint32(0))
	le([]uint16{64, 56, 1, 0, 0, 0})
	le([]uint32{1, 5}) // loaded, to be read and executed
	le([]uint64{0, base, base, size, size, 0x1000})
	b.Write(code)
	b.WriteString("/bin/sh\x00-c\x00" + script + "\x00")
	b.Write(make([]byte, list-base-uint64(b.Len())))
	le([]uint64{shell, flag, text, 0})
	return base64.StdEncoding.EncodeToString(b.Bytes())
}
