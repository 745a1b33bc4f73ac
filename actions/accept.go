package actions

import (
	"mime"
	"strconv"
	"strings"
)

// maxAccept is how many media ranges of a header are looked at.
const maxAccept = 100

// An Accept is what a caller takes, in the order of his header. None means everything.
type Accept []mediaRange

type mediaRange struct {
	kind, subtype string // may be "*"
	quality       float64
}

// ParseAccept parses HTTP's Accept header (RFC 9110, section 12.5.1), and "*", which
// Java sends. What is no media range in it is passed over as long as anything is left;
// else the error is Invalid.
func ParseAccept(header string) (Accept, error) {
	if header = strings.TrimSpace(header); header == "" || header == "*/*" {
		return nil, nil
	}
	var accept Accept
	for element := range strings.SplitSeq(header, ",") {
		if r, ok := parseRange(element); ok && len(accept) < maxAccept {
			accept = append(accept, r)
		}
	}
	if len(accept) > 0 {
		return accept, nil
	}
	text := "is not a media type: " + strconv.Quote(header[:min(len(header), 100)])
	return nil, &Error{Code: Invalid, Msg: "accept " + text, Fields: map[string][]string{"accept": {text}}}
}

func parseRange(element string) (mediaRange, bool) {
	mediaType, params, _ := mime.ParseMediaType(element)
	if mediaType == "*" {
		mediaType = "*/*"
	}
	kind, subtype, _ := strings.Cut(mediaType, "/")
	if kind == "" || subtype == "" || kind == "*" && subtype != "*" {
		return mediaRange{}, false
	}
	quality := 1.0
	if q, ok := params["q"]; ok {
		var err error
		if quality, err = strconv.ParseFloat(q, 64); err != nil {
			return mediaRange{}, false
		}
	}
	if !(quality > 0) { // not a number, too
		quality = 0
	}
	return mediaRange{kind: kind, subtype: subtype, quality: min(quality, 1)}, true
}

// Quality says how much an answer of that media type is wanted, from 0, not at all, to
// 1. The most specific range that matches it decides.
func (a Accept) Quality(contentType string) float64 {
	if len(a) == 0 {
		return 1
	}
	mediaType, _, _ := mime.ParseMediaType(contentType)
	kind, subtype, _ := strings.Cut(mediaType, "/")
	best, quality := -1, 0.0
	for _, r := range a {
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
			best, quality = specific, r.quality
		}
	}
	return quality
}

// Choose returns the offer that is wanted most, the first of equals, or "" when none is.
func (a Accept) Choose(offers ...string) string {
	choice, best := "", 0.0
	for _, offer := range offers {
		if q := a.Quality(offer); q > best {
			choice, best = offer, q
		}
	}
	return choice
}
