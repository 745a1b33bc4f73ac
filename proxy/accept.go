package proxy

import (
	"mime"
	"strconv"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// maxAccept is how many media ranges of an Accept header count.
const maxAccept = 32

// A mediaRange is one element of an Accept header, */* for example.
type mediaRange struct {
	kind, subtype string // may be "*"
	refused       bool   // q=0
}

// mediaRanges are what a caller takes. None means everything.
type mediaRanges []mediaRange

// parseAccept parses an Accept header. What is no media range in it is passed over, as
// long as anything is left.
func parseAccept(header string) (mediaRanges, error) {
	if header == "" || header == "*/*" {
		return nil, nil
	}
	var ranges mediaRanges
	for element := range strings.SplitSeq(header, ",") {
		r, ok := parseRange(element)
		if ok && len(ranges) < maxAccept {
			ranges = append(ranges, r)
		}
	}
	if len(ranges) > 0 {
		return ranges, nil
	}
	text := "is not a media type: " + strconv.Quote(header[:min(len(header), 100)])
	return nil, &actions.Error{
		Code: actions.Invalid, Msg: "accept " + text, Fields: map[string][]string{"accept": {text}},
	}
}

func parseRange(element string) (mediaRange, bool) {
	mediaType, params, _ := mime.ParseMediaType(element)
	if mediaType == "*" { // as Java's URLConnection sends it
		mediaType = "*/*"
	}
	kind, subtype, _ := strings.Cut(mediaType, "/")
	if kind == "" || subtype == "" || kind == "*" && subtype != "*" {
		return mediaRange{}, false
	}
	weight := 1.0
	if q, ok := params["q"]; ok {
		var err error
		if weight, err = strconv.ParseFloat(q, 64); err != nil {
			return mediaRange{}, false
		}
	}
	return mediaRange{kind: kind, subtype: subtype, refused: !(weight > 0)}, true
}

// notAcceptable is the error of an answer that the caller does not take.
func notAcceptable(m actions.Model, contentType, accept string) error {
	return actions.Errorf(actions.Unsupported, "%s answers %s, which the request does not accept: %s",
		m.Name, contentType, strconv.Quote(accept[:min(len(accept), 100)]))
}

// accept says whether an answer of that type may be sent: the most specific range that
// matches it decides.
func (ranges mediaRanges) accept(contentType string) bool {
	if len(ranges) == 0 {
		return true
	}
	mediaType, _, _ := mime.ParseMediaType(contentType)
	kind, subtype, _ := strings.Cut(mediaType, "/")
	best, ok := -1, false
	for _, r := range ranges {
		specific := 0
		switch {
		case r.kind == kind && r.subtype == subtype:
			specific = 2
		case r.kind == kind && r.subtype == "*":
			specific = 1
		case r.kind != "*":
			continue
		}
		if specific > best {
			best, ok = specific, !r.refused
		}
	}
	return ok
}
