package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	maxRedirects = 5
	// stallTime is how long a download may stand still.
	stallTime = time.Minute
)

// httpsOnly is a client that follows few redirects, and to HTTPS alone.
func httpsOnly(client *http.Client) *http.Client {
	var own http.Client
	if client != nil {
		own = *client
	} else {
		own.Transport = &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout:   30 * time.Second,
			ResponseHeaderTimeout: stallTime,
			IdleConnTimeout:       30 * time.Second,
			ForceAttemptHTTP2:     true,
		}
	}
	own.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if req.URL.Scheme != "https" {
			return fmt.Errorf("refused a redirect to %s, which is not https", req.URL.Redacted())
		}
		if len(via) > maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		return nil
	}
	return &own
}

// download fetches a piece from its URL.
func (c *Catalog) download(ctx context.Context, p piece, work string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.file.URL, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Accept-Encoding", "identity") // the hash is that of the file
	resp, err := c.cfg.HTTPClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", p.file.URL, resp.Status)
	}
	if resp.ContentLength > c.cfg.MaxFile {
		return fmt.Errorf("%s has %d bytes; at most %d are fetched", p.file.URL, resp.ContentLength, c.cfg.MaxFile)
	}
	c.cfg.Log.Info("fetching", "file", p.name, "url", p.file.URL, "size_bytes", resp.ContentLength)
	started := time.Now()

	stalled := fmt.Errorf("GET %s: nothing came for %v", p.file.URL, c.stallTime)
	stall := time.AfterFunc(c.stallTime, func() { cancel(stalled) })
	defer stall.Stop()
	err = c.store(p, p.file.URL, work, progress{resp.Body, stall, c.stallTime})
	if errors.Is(context.Cause(ctx), stalled) {
		return stalled
	}
	if err == nil {
		c.cfg.Log.Info("fetched", "file", p.name, "path", p.path, "seconds", time.Since(started).Seconds())
	}
	return err
}

// progress puts the stall timer off with everything that comes.
type progress struct {
	r     io.Reader
	stall *time.Timer
	d     time.Duration
}

func (p progress) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if n > 0 {
		p.stall.Reset(p.d)
	}
	return n, err
}
