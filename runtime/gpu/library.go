package gpu

/*
#cgo LDFLAGS: -ldl
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

// The error of dlopen belongs to the thread, so it is taken in the same call.
static void *deepfn_open(const char *path, int global, const char **error) {
	void *handle = dlopen(path, RTLD_LAZY | (global ? RTLD_GLOBAL : RTLD_LOCAL));
	*error = handle ? NULL : dlerror();
	return handle;
}

static void *deepfn_bound(const char *name) { return dlsym(RTLD_DEFAULT, name); }
*/
import "C"

import (
	"errors"
	"unsafe"
)

// A library is a shared library of the system that was loaded. It is never unloaded: what it has
// started may still run.
type library struct{ handle unsafe.Pointer }

// openLibrary loads a library, by its path or by its name where the system looks for libraries.
// Global ones are those that undefined functions of the program are bound to.
func openLibrary(path string, global bool) (library, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	flag, text := C.int(0), (*C.char)(nil)
	if global {
		flag = 1
	}
	handle := C.deepfn_open(name, flag, &text)
	switch {
	case handle != nil:
		return library{handle}, nil
	case text == nil:
		return library{}, errors.New("the library cannot be loaded")
	}
	return library{}, errors.New(C.GoString(text))
}

// symbol returns the address of a function, nil when the library has none of that name.
func (l library) symbol(name string) unsafe.Pointer {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	return C.dlsym(l.handle, text)
}

// bound returns the address of the function that a call of the program by this name reaches,
// nil when there is none.
func bound(name string) unsafe.Pointer {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	return C.deepfn_bound(text)
}
