package node

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/deepfn/deepfn/actions"
)

// maxCodes and maxCodeBytes bound the code that a lease may hold: it is unpacked, and stays
// until the lease ends. A relay of OpenWhisk imports once.
const (
	maxCodes     = 64
	maxCodeBytes = 64 << 20
)

// codeRoom counts the code of a lease, also that which is being imported.
type codeRoom struct {
	codes int
	bytes int
}

// take makes room for code, or says why there is none.
func (r *codeRoom) take(size int) error {
	switch {
	case size > maxCodeBytes:
		return actions.Errorf(actions.TooLarge, "the code has %d bytes, a node takes %d of a relay", size, maxCodeBytes)
	case r.codes >= maxCodes:
		return actions.Errorf(actions.Busy,
			"this relay has imported %d different codes, the most that a node takes of one; start another relay for more", maxCodes)
	case r.bytes+size > maxCodeBytes:
		return actions.Errorf(actions.TooLarge,
			"the code has %d bytes, that which this relay has imported already %d, and a node takes %d of a relay; start another relay for it",
			size, r.bytes, maxCodeBytes)
	}
	r.codes++
	r.bytes += size
	return nil
}

// give gives room back.
func (r *codeRoom) give(size int) {
	r.codes--
	r.bytes -= size
}

// load makes a model of code, which the lease holds from then on.
func (l *lease) load(ctx context.Context, req actions.Request) (actions.Response, error) {
	// The relay could change it while it is hashed and unpacked.
	args := slices.Clone(req.Args)
	var sent sentSource
	if err := json.Unmarshal(args, &sent); err != nil || len(req.Files) != 1 {
		return actions.Response{}, actions.Errorf(actions.Invalid, "the code of a function with its main and env is wanted")
	}
	size := len(args) + len(req.Files[0].Data)
	if size > maxCodeBytes {
		return actions.Response{}, new(codeRoom).take(size)
	}
	m, err := l.hold(ctx, actions.Source{Main: sent.Main, Env: sent.Env, Data: slices.Clone(req.Files[0].Data)}, size)
	if err != nil {
		return actions.Response{}, err
	}
	return document(m)
}

// hold has the lease hold code of a size, once however often it is imported.
func (l *lease) hold(ctx context.Context, source actions.Source, size int) (actions.Model, error) {
	name := codeName(source)
	source.Name = name
	l.mu.Lock()
	_, again := l.held[name]
	var err error
	if !again {
		err = l.room.take(size)
	}
	l.mu.Unlock()
	if err != nil {
		return actions.Model{}, err
	}
	m, entry, err := l.node.codes.hold(ctx, source)
	l.mu.Lock()
	_, twice := l.held[name]
	if err == nil && !twice {
		l.held[name] = entry
	}
	if !again && (err != nil || twice) {
		l.room.give(size)
	}
	l.mu.Unlock()
	if err == nil && twice {
		l.node.codes.release(name, entry)
	}
	return m, err
}
