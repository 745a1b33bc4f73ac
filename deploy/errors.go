package deploy

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"

	openwhisk "github.com/apache/openwhisk-client-go/whisk"

	"github.com/deepfn/deepfn/actions"
)

// noAnswer is the error of a request that was not answered.
func (c *Client) noAnswer(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		code := actions.Canceled
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			code = actions.Deadline
		}
		return actions.Errorf(code, "OpenWhisk at %s: %w", c.base, ctx.Err())
	}
	if wsk, ok := errors.AsType[*openwhisk.WskError](err); ok && wsk.RootErr != nil {
		err = wsk.RootErr // the library's error does not unwrap
	}
	hint := ""
	switch text := fmt.Sprint(err); {
	case errors.Is(err, context.DeadlineExceeded):
		return actions.Errorf(actions.Deadline, "OpenWhisk at %s has not answered within %s", c.base, c.cfg.Timeout)
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "; nobody listens there: start it ('deepfn serve' is one for this machine), or correct --apihost or WHISK_APIHOST"
	case isCertificate(err):
		hint = "; --insecure takes a certificate that nobody vouches for"
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		hint = "; it speaks HTTP: write --apihost http://" + c.base.Host
	case strings.Contains(text, "malformed HTTP response"):
		hint = "; it may speak HTTPS: write --apihost https://" + c.base.Host
	default:
		if _, ok := errors.AsType[*net.DNSError](err); ok {
			hint = "; correct --apihost or WHISK_APIHOST"
		}
	}
	return &actions.Error{Code: actions.Unavailable, Err: err, Msg: fmt.Sprintf("OpenWhisk at %s: %v%s", c.base, err, hint)}
}

func isCertificate(err error) bool {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	_, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok
}

// refused is the error of an answer that is not 2xx.
func (c *Client) refused(what string, a answer) error {
	text, isWhisk := errorText(a.body)
	if !isWhisk && a.status != http.StatusUnauthorized && a.status != http.StatusRequestEntityTooLarge {
		return actions.Errorf(actions.Unavailable, "%s: %s answers %d, but not as an OpenWhisk does; is --apihost the host of one, with its port?",
			what, c.base, a.status)
	}
	code, hint := actions.Unavailable, ""
	switch a.status {
	case http.StatusBadRequest:
		code = actions.Invalid
	case http.StatusUnauthorized:
		code, hint = actions.Unauthorized, fmt.Sprintf("%s does not know the key; name another with --auth or WHISK_AUTH", c.base)
	case http.StatusForbidden:
		code, hint = actions.Forbidden, "the key may not do that in this namespace"
	case http.StatusNotFound:
		code = actions.NotFound
	case http.StatusConflict:
		code, hint = actions.Conflict, "if somebody else deploys the same, run it again"
	case http.StatusRequestEntityTooLarge:
		code, hint = actions.TooLarge, "code may have 48 MiB in base64 unless whisk.exec-size-limit says otherwise: "+
			"put the model into the image and deploy it by its name, or have its files fetched (files: {url, sha256} in its action.yaml)"
	case http.StatusTooManyRequests:
		code, hint = actions.Busy, "wait a minute and run it again; what is there already stays"
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable:
		hint = "run it again; what is there already stays"
	}
	parts := []string{what}
	if text != "" {
		parts = append(parts, strings.TrimSuffix(text, "."))
	} else {
		parts = append(parts, fmt.Sprintf("status %d", a.status))
	}
	msg := strings.Join(parts, ": ")
	if hint != "" {
		msg += "; " + hint
	}
	return &actions.Error{Code: code, Msg: msg}
}

// errorText reads the error document of OpenWhisk, {"code": id, "error": text}.
func errorText(body []byte) (text string, ok bool) {
	var doc struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(body, &doc) != nil || doc.Error == nil {
		return "", false
	}
	if json.Unmarshal(doc.Error, &text) != nil {
		text = string(doc.Error)
	}
	return text, true
}
