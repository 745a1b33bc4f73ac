package onnx

import (
	"mime"
	"strconv"
	"strings"
)

// choose returns the offer that an Accept header likes best, the first of equals, or ""
// when it takes none. An empty header takes everything. A range that names more wins
// over one that names less; a range that cannot be read is left out.
func choose(accept string, offers ...string) string {
	if strings.TrimSpace(accept) == "" {
		return offers[0]
	}
	best, bestQuality := "", 0.0
	for _, offer := range offers {
		if q := quality(accept, offer); q > bestQuality {
			best, bestQuality = offer, q
		}
	}
	return best
}

func quality(accept, offer string) float64 {
	q, named := 0.0, 0
	kind, _, _ := strings.Cut(offer, "/")
	for part := range strings.SplitSeq(accept, ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		n := 0
		switch media {
		case offer:
			n = 3
		case kind + "/*":
			n = 2
		case "*/*":
			n = 1
		}
		if n <= named {
			continue
		}
		q, named = 1, n
		if v, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(v, 64); err != nil || q < 0 || q > 1 {
				q, named = 0, 0
			}
		}
	}
	return q
}
