package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

// isForeign says that the body is compressed, or in another way not what its media type says, or
// has events in another format than JSON. No body is undone here: its size would be known only
// afterwards.
func (r *request) isForeign() error {
	e := &actions.Error{Code: actions.Unsupported, Status: http.StatusUnsupportedMediaType}
	if coding := r.headerText("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		e.Msg = fmt.Sprintf("the body is encoded as %s; send it as it is, without Content-Encoding", short(coding))
		return e
	}
	if cloudevent.ModeOfType(r.contentType) == cloudevent.None {
		return nil
	}
	if format := cloudevent.Format(r.contentType); format != "json" {
		e.Msg = fmt.Sprintf("the event is in the format %s; send it in JSON, as %s, or in binary mode", short(format), cloudevent.StructuredType)
		return e
	}
	return nil
}

// takeData takes the memory for data that were decoded, which do not lie in the body: those in
// base64, and texts with escapes.
func (r *request) takeData(events []cloudevent.Event) error {
	if len(r.body) <= payload {
		return nil
	}
	encoded := bytes.Contains(r.body, []byte(`"data_base64"`)) || bytes.Contains(r.body, []byte(`"datacontentencoding"`))
	n := int64(0)
	for i := range events {
		if encoded || !events[i].IsJSON() {
			n += int64(len(events[i].Data))
		}
	}
	err := r.take(n)
	if err == nil && r.kept > 0 {
		r.kept += n
	}
	return err
}
