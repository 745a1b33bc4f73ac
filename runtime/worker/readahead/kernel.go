package readahead

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// window is how much of a file is mapped at a time to look at its pages.
const window = 1 << 30

// unknownMemory is what counts as available where the system does not say, in bytes.
const unknownMemory = 2 << 30

// A kernel is what the operating system does. Tests have their own.
type kernel struct {
	// cached returns how many bytes of a file of that size are in the page cache, as far as
	// is known.
	cached func(f *os.File, size int64) int64
	// advise asks for a range of a file.
	advise func(f *os.File, at, size int64) error
	// available returns how much memory can be used without swapping, in bytes.
	available func() int64
}

func system() kernel {
	return kernel{
		cached: cached,
		advise: func(f *os.File, at, size int64) error {
			return unix.Fadvise(int(f.Fd()), at, size, unix.FADV_WILLNEED)
		},
		available: available,
	}
}

// cached asks cachestat(2), which is there from Linux 6.5 on, else mincore(2). Both tell about
// files that this process may write to, and no others.
func cached(f *os.File, size int64) int64 {
	n, err := cachestat(f)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
		n, err = mincore(f, size)
	}
	if err != nil {
		return 0
	}
	return n
}

func cachestat(f *os.File) (int64, error) {
	var whole unix.CachestatRange // a length of 0 is to the end
	var stat unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &whole, &stat, 0); err != nil {
		return 0, os.NewSyscallError("cachestat", err)
	}
	return int64(stat.Cache) * int64(os.Getpagesize()), nil
}

// errForeign says that mincore would call every page of a file cached.
var errForeign = errors.New("the file belongs to somebody else")

// mincore maps the file, which reads nothing, and asks for each page.
func mincore(f *os.File, size int64) (int64, error) {
	if !mayWrite(f) {
		return 0, errForeign
	}
	page := int64(os.Getpagesize())
	pages := make([]byte, (min(size, window)+page-1)/page)
	total := int64(0)
	for at := int64(0); at < size; at += window {
		length := min(window, size-at)
		n, err := countCore(f, at, int(length), pages[:(length+page-1)/page])
		if err != nil {
			return 0, err
		}
		total += n * page
	}
	return total, nil
}

// countCore returns how many pages of a part of a file are in memory.
func countCore(f *os.File, at int64, length int, pages []byte) (int64, error) {
	b, err := unix.Mmap(int(f.Fd()), at, length, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return 0, os.NewSyscallError("mmap", err)
	}
	defer func() { _ = unix.Munmap(b) }()
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&b[0])), uintptr(length), //nolint:gosec // a mapping
		uintptr(unsafe.Pointer(&pages[0]))) //nolint:gosec // as long as there are pages in it
	if errno != 0 {
		return 0, os.NewSyscallError("mincore", errno)
	}
	n := int64(0)
	for _, p := range pages {
		n += int64(p & 1)
	}
	return n, nil
}

// mayWrite says whether this process owns a file or may write to it.
func mayWrite(f *os.File) bool {
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return false
	}
	if euid := os.Geteuid(); euid == 0 || uint32(euid) == stat.Uid {
		return true
	}
	return unix.Access(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.W_OK) == nil
}

// available reads how much memory is available: to the machine, and at most what a container
// may have.
func available() int64 {
	n := int64(unknownMemory)
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		n = parseAvailable(string(text))
	}
	text, err := os.ReadFile("/sys/fs/cgroup/memory.max")
	if err != nil {
		return n
	}
	if limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil { // else it is "max"
		n = min(n, limit)
	}
	return n
}

// parseAvailable finds the available memory in /proc/meminfo.
func parseAvailable(text string) int64 {
	for line := range strings.Lines(text) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return unknownMemory
}
