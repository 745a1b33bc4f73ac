package storage

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"syscall"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"gocloud.dev/gcerrors"
	"google.golang.org/api/googleapi"

	"github.com/deepfn/deepfn/actions"
)

const (
	// later is when to try again what may go away soon, muchLater what somebody has to make
	// room for.
	later     = time.Second
	muchLater = 10 * time.Second
)

// passing is an error that may go away by itself.
func passing(cause error, format string, args ...any) *actions.Error {
	e := actions.Errorf(actions.Unavailable, format, args...)
	e.Err, e.RetryAfter = cause, later
	return e
}

// full is the error of a store that takes no more.
func full(l location, cause error) *actions.Error {
	e := passing(cause, "%s cannot be stored: the store is full, or what may be stored in it is used up", l)
	e.RetryAfter = muchLater
	return e
}

// A reply is what a store has answered instead of what was asked for.
type reply struct {
	status     int    // 0 is none
	code       string // the store's own word for the error
	retryAfter time.Duration
}

// replyOf finds the reply in an error.
func replyOf(err error) reply {
	var r reply
	if e, ok := errors.AsType[interface {
		error
		ErrorCode() string
	}](err); ok {
		r.code = e.ErrorCode()
	}
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		r.status = e.HTTPStatusCode()
		if e.Response != nil {
			r.retryAfter = retryAfter(e.Response.Response)
		}
	}
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		r.status, r.code = e.StatusCode, e.ErrorCode
		if e.RawResponse != nil {
			r.retryAfter = retryAfter(e.RawResponse)
		}
	}
	if e, ok := errors.AsType[*googleapi.Error](err); ok {
		r.status = e.Code
		if len(e.Errors) > 0 {
			r.code = e.Errors[0].Reason
		}
	}
	return r
}

// bucketError says what went wrong with an object, in words that repeat nothing of the
// store's answer: that may hold keys and requests.
func bucketError(ctx context.Context, l location, err error) error {
	r := replyOf(err)
	e := &actions.Error{Code: actions.Unavailable, Msg: l.String() + " cannot be reached", Err: err}
	switch {
	case ctx.Err() != nil:
		e.Code, e.Msg = actions.Deadline, l.String()+" did not answer in time"
	case isFull(r):
		return full(l, err)
	case r.status == http.StatusMovedPermanently:
		e.Msg = l.String() + " is in another region than the server's; its operator sets AWS_REGION"
	case r.code == "NoSuchBucket":
		e.Code, e.Msg = actions.NotFound, l.String()+": there is no such bucket"
	case r.status == http.StatusForbidden || r.status == http.StatusUnauthorized:
		e.Code, e.Msg = actions.Forbidden, l.String()+" answered "+statusText(r.status)
	case gcerrors.Code(err) == gcerrors.NotFound:
		e.Code, e.Msg = actions.NotFound, l.String()+": there is no such object"
	case goesAway(r):
		e.Msg, e.RetryAfter = l.String()+" answered "+statusText(r.status), max(r.retryAfter, later)
	case r.status >= http.StatusBadRequest:
		e.Code, e.Msg = statusCode(r.status), l.String()+" answered "+statusText(r.status)
	case connectionLost(err):
		e.RetryAfter = later
	}
	return e
}

// isFull says whether a store takes no more. Amazon's has no end; the others have words of
// their own for it.
func isFull(r reply) bool {
	return r.status == http.StatusInsufficientStorage ||
		slices.Contains([]string{"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}, r.code)
}

// goesAway says whether the same request may do later.
func goesAway(r reply) bool {
	switch r.status {
	case http.StatusTooManyRequests, http.StatusRequestTimeout:
		return true
	case http.StatusConflict:
		return r.code == "ConditionalRequestConflict" || r.code == "OperationAborted"
	case http.StatusBadRequest:
		return r.code == "RequestTimeout" // S3's word for a body that came too slowly
	case http.StatusNotImplemented:
		return false
	}
	return r.status >= http.StatusInternalServerError
}

// connectionLost says whether there was no connection, or no whole answer: not so of wrong
// keys, which need no connection to be found wrong.
func connectionLost(err error) bool {
	_, network := errors.AsType[net.Error](err)
	_, sent := errors.AsType[interface {
		error
		ConnectionError() bool
	}](err)
	return network || sent || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNREFUSED)
}

// onceError is bucketError of an object that must not be there yet.
func onceError(ctx context.Context, l location, err error) error {
	r := replyOf(err)
	switch {
	case gcerrors.Code(err) == gcerrors.FailedPrecondition, r.status == http.StatusPreconditionFailed, r.code == "BlobAlreadyExists":
		return &actions.Error{Code: actions.Conflict, Msg: l.String() + ": there is an object already", Err: err}
	case r.status == http.StatusNotImplemented, r.code == "NotImplemented":
		return &actions.Error{
			Code: actions.Unsupported, Err: err,
			Msg: l.String() + ": the store cannot put an object only if there is none (If-None-Match: *), by which one of several that " +
				"write the same is chosen; use a newer release of it, or another store",
		}
	}
	return bucketError(ctx, l, err)
}
