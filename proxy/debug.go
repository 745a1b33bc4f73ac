package proxy

import (
	"context"
	"net/http"
	"sync"

	"github.com/deepfn/deepfn/actions"
)

const (
	textType = "text/plain; charset=utf-8"
	// maxDebug is how many bytes of what models printed are kept for /v2/debug/.
	maxDebug = 1 << 20
)

// A printed keeps the last lines that models printed.
type printed struct {
	mu   sync.Mutex // guards what follows
	text []byte     // whole lines, twice as many bytes as are shown at most
}

func (p *printed) add(lines []actions.LogLine) {
	if len(lines) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range lines {
		text := line.Text[max(0, len(line.Text)-maxDebug+1):]
		if len(p.text)+len(text)+1 > 2*maxDebug {
			p.text = p.text[:copy(p.text, p.last())]
		}
		p.text = append(append(p.text, text...), '\n')
	}
}

// last returns the last whole lines, maxDebug bytes at most. The caller holds mu.
func (p *printed) last() []byte {
	from := max(0, len(p.text)-maxDebug)
	for from > 0 && from < len(p.text) && p.text[from-1] != '\n' {
		from++
	}
	return p.text[from:]
}

func (p *printed) show() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]byte(nil), p.last()...)
}

// printedBy notes what a model printed, if that is shown.
func (s *Server) printedBy(lines []actions.LogLine) {
	if s.cfg.Debug {
		s.printed.add(lines)
	}
}

// debugPage answers GET /v2/debug/.
func (s *Server) debugPage(context.Context, *request) response {
	if !s.cfg.Debug {
		return response{status: http.StatusNoContent}
	}
	return response{status: http.StatusOK, contentType: textType, body: s.printed.show()}
}
