package storage

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"

	"github.com/deepfn/deepfn/actions"
)

// errRefused and errTooLarge are told from what servers and networks do.
const (
	errRefused  = refusal("the address is not public")
	errTooLarge = refusal("too large")
	// errLocal is errRefused for what only this machine reaches, such as its cloud's keys.
	errLocal = refusal("the address is of this machine's own network link")
)

// A refusal is an error of this package's own.
type refusal string

func (r refusal) Error() string { return string(r) }

// refusedAddress is the error of an address that is not public. The way to allow it is no
// advice for addresses of the network link, which have the keys of clouds: whoever wants
// them finds the flag in its help.
func refusedAddress(l location, why error) error {
	if errors.Is(why, errLocal) {
		return &actions.Error{
			Code: actions.Forbidden, Err: errLocal, Msg: l.String() + " has no public address, and the server does not reach it",
		}
	}
	return &actions.Error{
		Code: actions.Forbidden, Err: errRefused,
		Msg: fmt.Sprintf("%s has no public address, and the server reaches others only where its operator allows it, with --allow-url %s://%s/",
			l, l.url.Scheme, cut(l.url.Host)),
	}
}

// unreachable says why there is no answer, in words that tell no addresses.
func unreachable(ctx context.Context, l location, err error) error {
	e := &actions.Error{Code: actions.Unavailable, Err: err}
	name, named := errors.AsType[*net.DNSError](err)
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case errors.Is(err, errRefused), errors.Is(err, errLocal):
		return refusedAddress(l, err)
	case ctx.Err() != nil:
		e.Code, e.Msg = actions.Deadline, l.String()+" did not answer in time"
	case named && name.IsNotFound:
		e.Msg = fmt.Sprintf("%s: there is no address of %s", l, cut(l.url.Hostname()))
	case named:
		e.RetryAfter = later
		e.Msg = fmt.Sprintf("%s: the address of %s cannot be looked up", l, cut(l.url.Hostname()))
	case certificate:
		e.Msg = l.String() + ": the server's certificate is not trusted"
	case plain:
		e.Msg = l.String() + ": the server does not speak TLS"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Msg, e.RetryAfter = l.String()+": the connection is refused", later
	default:
		e.Msg, e.RetryAfter = l.String()+" cannot be reached", later
	}
	return e
}

// brokenOff says that reading has ended before the end.
func brokenOff(l location, err error) error {
	switch {
	case errors.Is(err, errTooLarge):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return passing(err, "%s ended before it was complete", l)
	}
	return passing(err, "%s broke off", l)
}

// statusError says what a server answered instead of what was asked for.
func statusError(l location, resp *http.Response) error {
	e := actions.Errorf(statusCode(resp.StatusCode), "%s answered %s", l, statusText(resp.StatusCode))
	if e.Code == actions.Unavailable {
		e.RetryAfter = max(retryAfter(resp), later)
	}
	return e
}

// statusCode maps the status of another server.
func statusCode(status int) actions.Code {
	switch {
	case status == http.StatusNotFound, status == http.StatusGone:
		return actions.NotFound
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return actions.Forbidden
	case status == http.StatusRequestEntityTooLarge:
		return actions.TooLarge
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500:
		return actions.Unavailable
	}
	return actions.Invalid
}
