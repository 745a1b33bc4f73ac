package proxy

import (
	"encoding/json"
	"io"
	"iter"
	"log/slog"
	"net/http"
)

// listInMemory is how many bytes a list of documents has before it is sent while it is made.
const listInMemory = 1 << 20

// documentList answers with a JSON array of documents, of which few are in memory at a
// time. An error after listInMemory bytes breaks the answer off, so that no client takes it for whole.
func (s *Server) documentList(id string, docs iter.Seq2[json.RawMessage, error]) (response, error) {
	next, stop := iter.Pull2(docs)
	l := &longList{next: next, stop: stop, log: s.log, id: id}
	begun := []byte{'['}
	for !l.ended && len(begun) < listInMemory {
		if err := l.more(); err != nil {
			stop()
			return response{}, err
		}
		for _, part := range l.parts {
			begun = append(begun, part...)
		}
	}
	if l.ended {
		stop()
		return response{status: http.StatusOK, contentType: jsonType, body: begun}, nil
	}
	l.parts = [][]byte{begun}
	return response{status: http.StatusOK, contentType: jsonType, stream: l}, nil
}

// A longList is the body of a list of documents. One reads it.
type longList struct {
	next  func() (json.RawMessage, error, bool)
	stop  func()
	log   *slog.Logger
	id    string   // of the request
	some  bool     // of the documents were there
	ended bool     // there are no more parts than these
	parts [][]byte // what comes next
}

// more sets parts to the next document, or the end of the list.
func (l *longList) more() error {
	doc, err, ok := l.next()
	switch {
	case !ok:
		l.ended, l.parts = true, [][]byte{[]byte("]\n")}
	case err != nil:
		return err
	case l.some:
		l.parts = [][]byte{{','}, doc}
	default:
		l.some, l.parts = true, [][]byte{doc}
	}
	return nil
}

// Read implements io.Reader.
func (l *longList) Read(p []byte) (int, error) {
	for {
		for len(l.parts) > 0 && len(l.parts[0]) == 0 {
			l.parts = l.parts[1:]
		}
		switch {
		case len(l.parts) > 0:
			n := copy(p, l.parts[0])
			l.parts[0] = l.parts[0][n:]
			return n, nil
		case l.ended:
			return 0, io.EOF
		}
		if err := l.more(); err != nil {
			l.log.Error("list broken off", "request_id", l.id, "error", err.Error())
			return 0, err
		}
	}
}

// Close implements io.Closer.
func (l *longList) Close() error {
	l.parts = nil
	l.stop()
	return nil
}
