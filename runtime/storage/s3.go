package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"
	"gocloud.dev/gcerrors"

	"github.com/deepfn/deepfn/actions"
)

// Buckets fetch and store objects of a store that Go Cloud knows: scheme://bucket/key.
// Another store is another open.
type buckets struct {
	open func(ctx context.Context, bucket string) (*blob.Bucket, error)
}

// check refuses what is no object, and what no operator has allowed.
func (b *buckets) check(l location) error {
	switch {
	case l.url.RawQuery != "" || l.url.ForceQuery:
		return actions.Errorf(actions.Invalid, "%s must not have a query: the server decides about region, endpoint and keys", l)
	case l.url.Port() != "" || !isBucket(l.url.Host):
		return actions.Errorf(actions.Invalid, "%s does not begin with the name of a bucket", l)
	case !l.allowed:
		return actions.Errorf(actions.Forbidden,
			"%s would be read or written with the server's own keys, which its operator must allow, with --allow-url %s://%s/",
			l, l.url.Scheme, l.url.Host)
	case len(l.url.Host) < minBucket:
		return actions.Errorf(actions.Invalid, "%s: the name of a bucket has at least %d characters", l, minBucket)
	case key(l) == "" || strings.HasSuffix(key(l), "/"):
		return actions.Errorf(actions.Invalid, "%s does not name an object: it is %s://bucket/key", l, l.url.Scheme)
	case !isKey(key(l)):
		return actions.Errorf(actions.Invalid, "%s names an object by control characters, '../' or what is no UTF-8, which the server cannot", l)
	}
	return nil
}

// minBucket is how long the name of a bucket is at least.
const minBucket = 3

// isBucket says whether a name can be a bucket's, but for a short one. It becomes a part of
// a host's name.
func isBucket(name string) bool {
	if name == "" || len(name) > 63 || name[0] == '.' || name[len(name)-1] == '.' {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

func key(l location) string { return strings.TrimPrefix(l.url.Path, "/") }

// isKey says whether an object has this very key. Go Cloud writes others in another way, as
// "a..__0x2f__b", which nobody else finds.
func isKey(key string) bool {
	return utf8.ValidString(key) && !strings.Contains(key, "../") && !strings.ContainsFunc(key, func(r rune) bool { return r < ' ' })
}

// fetch opens an object.
func (b *buckets) fetch(ctx context.Context, l location) (object, error) {
	bucket, err := b.open(ctx, l.url.Host)
	if err != nil {
		return object{}, bucketError(ctx, l, err)
	}
	r, err := bucket.NewReader(ctx, key(l), nil)
	if err != nil {
		_ = bucket.Close()
		return object{}, bucketError(ctx, l, err)
	}
	o := object{
		body: reading{r, bucket}, size: r.Size(),
		contentType: mediaType(r.ContentType()), filename: baseName(path.Base(key(l))),
	}
	var got s3.GetObjectOutput
	if r.As(&got) { // which is so of S3
		err = o.decode(l, aws.ToString(got.ContentEncoding))
	}
	return o, err
}

// A reading closes its bucket too.
type reading struct {
	*blob.Reader
	bucket *blob.Bucket
}

func (r reading) Close() error {
	return errors.Join(r.Reader.Close(), r.bucket.Close())
}

// store writes an object, which is seen when it is complete.
func (b *buckets) store(ctx context.Context, l location, f actions.File) error {
	bucket, err := b.open(ctx, l.url.Host)
	if err != nil {
		return bucketError(ctx, l, err)
	}
	defer func() { _ = bucket.Close() }()
	err = bucket.Upload(ctx, key(l), unseekable{bytes.NewReader(f.Data)}, &blob.WriterOptions{ContentType: f.ContentType})
	if err != nil {
		return bucketError(ctx, l, err)
	}
	return nil
}

// An unseekable reader is read before Upload returns, piece by piece into memory of the
// SDK's. One that can seek would be the body of a request, which may outlive the call.
type unseekable struct{ io.Reader }

// bucketError says what went wrong with an object, in words that repeat nothing of the
// store's answer: that may hold keys and requests.
func bucketError(ctx context.Context, l location, err error) error {
	e := &actions.Error{Code: actions.Unavailable, Msg: l.String() + " cannot be reached", Err: err}
	status := 0
	if answer, ok := errors.AsType[interface {
		error
		HTTPStatusCode() int
	}](err); ok {
		status = answer.HTTPStatusCode()
	}
	switch {
	case ctx.Err() != nil:
		e.Code, e.Msg = actions.Deadline, l.String()+" did not answer in time"
	case status == http.StatusMovedPermanently:
		e.Msg = l.String() + " is in another region than the server's; its operator sets AWS_REGION"
	case gcerrors.Code(err) == gcerrors.NotFound:
		e.Code, e.Msg = actions.NotFound, l.String()+": there is no such object"
	case status >= http.StatusBadRequest:
		e.Code, e.Msg = statusCode(status), l.String()+" answered "+statusText(status)
	}
	return e
}

// An s3Opener opens buckets of S3 with one client.
type s3Opener struct {
	mu     sync.Mutex // guards client
	client *s3.Client // nil before the first use
}

func (o *s3Opener) open(ctx context.Context, bucket string) (*blob.Bucket, error) {
	client, err := o.connect(ctx)
	if err != nil {
		return nil, err
	}
	return s3blob.OpenBucket(ctx, client, bucket, nil)
}

// connect makes the client of what the AWS SDK finds in the environment and in ~/.aws.
func (o *s3Opener) connect(ctx context.Context) (*s3.Client, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.client != nil {
		return o.client, nil
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1" // as the tools of Amazon do; others do not care
	}
	o.client = s3.NewFromConfig(cfg, func(options *s3.Options) {
		if options.BaseEndpoint == nil {
			return
		}
		// Stores that are not Amazon's have no name for each bucket, and most know none of
		// its newer checksums.
		options.UsePathStyle = true
		options.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		options.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
	return o.client, nil
}
