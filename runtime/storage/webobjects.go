package storage

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// ranged asks for length bytes of what is at a URL from offset on.
func (w *web) ranged(ctx context.Context, l location, offset, length int64) (*http.Response, location, error) {
	return w.follow(ctx, l, func(u *url.URL) (*http.Request, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
		if err != nil {
			return nil, err
		}
		switch {
		case length > 0:
			req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
		case offset > 0:
			req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		}
		return req, nil
	})
}

func (w *web) open(ctx context.Context, l location, offset, length int64) (io.ReadCloser, error) {
	resp, l, err := w.ranged(ctx, l, offset, max(length, 0))
	if err != nil {
		return nil, err
	}
	begin, _, _ := contentRange(resp)
	switch {
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		discard(resp)
		return http.NoBody, nil
	case resp.StatusCode == http.StatusPartialContent && begin == offset, resp.StatusCode == http.StatusOK && offset == 0:
		return limited(resp.Body, length), nil
	}
	_ = resp.Body.Close()
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent {
		return nil, actions.Errorf(actions.Unsupported, "%s: the server there does not give a part of it (Range)", l)
	}
	return nil, statusError(l, resp)
}

// limited is a body of which at most length bytes are read, all when that is negative.
func limited(from io.ReadCloser, length int64) io.ReadCloser {
	if length < 0 {
		return from
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(from, length), from}
}

// stat asks for the first byte, since a presigned URL may be asked for with GET only.
func (w *web) stat(ctx context.Context, l location) (actions.Object, error) {
	resp, at, err := w.ranged(ctx, l, 0, 1)
	if err != nil {
		return actions.Object{}, err
	}
	_ = resp.Body.Close()
	o := actions.Object{
		URL: l.url.String(), Size: resp.ContentLength,
		ETag: resp.Header.Get("ETag"), ContentType: mediaType(resp.Header.Get("Content-Type")),
	}
	if t, err := time.Parse(http.TimeFormat, resp.Header.Get("Last-Modified")); err == nil {
		o.Modified = t
	}
	_, size, known := contentRange(resp)
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		if o.Size = size; !known {
			o.Size = -1
		}
	default:
		return actions.Object{}, statusError(at, resp)
	}
	if o.Size < 0 {
		return o, actions.Errorf(actions.Unsupported, "%s: the server there does not say how long it is", at)
	}
	return o, nil
}

// contentRange reads the header of that name: "bytes 0-9/100", or "bytes */0" of what has no
// such range. begin is -1 when there is none.
func contentRange(resp *http.Response) (begin, size int64, known bool) {
	text, ok := strings.CutPrefix(resp.Header.Get("Content-Range"), "bytes ")
	span, total, ok2 := strings.Cut(text, "/")
	if !ok || !ok2 {
		return -1, 0, false
	}
	first, _, _ := strings.Cut(span, "-")
	begin, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		begin = -1
	}
	size, err = strconv.ParseInt(total, 10, 64)
	return begin, size, err == nil && size >= 0
}

func (w *web) list(_ context.Context, l location, _ func(actions.Object) bool) error {
	return unsupported(l, "listed")
}

func (w *web) put(_ context.Context, l location, _ io.Reader, _ int64, _ actions.PutOptions) error {
	return unsupported(l, "written so that it is seen whole or not at all")
}

func (w *web) copy(_ context.Context, from, _ location) error { return unsupported(from, "copied") }

func (w *web) remove(_ context.Context, l location) error { return unsupported(l, "removed") }

func unsupported(l location, what string) error {
	return actions.Errorf(actions.Unsupported, "%s cannot be %s over HTTP; URLs of file, s3, gs and azblob can", l, what)
}
