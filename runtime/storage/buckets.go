package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"unicode/utf8"

	gcs "cloud.google.com/go/storage"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	azblob "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/deepfn/deepfn/actions"
)

const (
	// minBucket is how long the name of a bucket is at least.
	minBucket = 3
	// maxOpen is how many buckets are kept open.
	maxOpen = 256
	// partBytes is the size of the parts of a large object, and up to which an object is put
	// in one request. maxParts is how many parts S3 takes, partsAtOnce how many are under way:
	// the memory that a Put takes.
	partBytes   = 8 << 20
	maxParts    = 10_000
	partsAtOnce = 2
)

// Buckets have objects of a store that Go Cloud knows: scheme://bucket/key.
type buckets struct {
	connect func(ctx context.Context, bucket string) (*blob.Bucket, error)
	// odd are characters that Go Cloud writes in another way in this store's keys, beside
	// those below the space.
	odd string

	mu     sync.Mutex // guards opened
	opened map[string]*blob.Bucket
}

func newBuckets(connect func(ctx context.Context, bucket string) (*blob.Bucket, error), odd string) *buckets {
	return &buckets{connect: connect, odd: odd, opened: map[string]*blob.Bucket{}}
}

// bucket is the bucket of a location. It is kept open, since opening one may ask for keys.
func (b *buckets) bucket(ctx context.Context, l location) (*blob.Bucket, error) {
	name := l.url.Host
	b.mu.Lock()
	bucket := b.opened[name]
	b.mu.Unlock()
	if bucket != nil {
		return bucket, nil
	}
	bucket, err := b.connect(ctx, name)
	if err != nil {
		return nil, bucketError(ctx, l, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.opened) >= maxOpen { // a bucket holds nothing that has to be closed
		clear(b.opened)
	}
	b.opened[name] = bucket
	return bucket, nil
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
	case !l.folder && (key(l) == "" || strings.HasSuffix(key(l), "/")):
		return actions.Errorf(actions.Invalid, "%s does not name an object: it is %s://bucket/key", l, l.url.Scheme)
	case !b.isKey(key(l)):
		return actions.Errorf(actions.Invalid, "%s names an object by control characters, '../'%s or what is no UTF-8, which the server cannot", l, b.odd)
	}
	return nil
}

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
func (b *buckets) isKey(key string) bool {
	return utf8.ValidString(key) && !strings.Contains(key, "../") && !strings.ContainsAny(key, b.odd) &&
		!strings.ContainsFunc(key, func(r rune) bool { return r < ' ' })
}

// fetch opens an object, without its compression.
func (b *buckets) fetch(ctx context.Context, l location) (object, error) {
	r, err := b.reader(ctx, l, 0, -1)
	if err != nil {
		return object{}, err
	}
	o := object{
		body: r, size: r.Size(),
		contentType: mediaType(r.ContentType()), filename: baseName(path.Base(key(l))),
	}
	return o, o.decode(l, contentEncoding(r))
}

// contentEncoding is the encoding that an object has in its store.
func contentEncoding(r *blob.Reader) string {
	var ofS3 s3.GetObjectOutput
	var ofGS *gcs.Reader
	var ofAzure azblob.DownloadStreamResponse
	switch {
	case r.As(&ofS3):
		return aws.ToString(ofS3.ContentEncoding)
	case r.As(&ofGS):
		return ofGS.Attrs.ContentEncoding
	case r.As(&ofAzure) && ofAzure.ContentEncoding != nil:
		return *ofAzure.ContentEncoding
	}
	return ""
}

// asStored has Google's store give an object with its compression.
func asStored(as func(any) bool) error {
	var object **gcs.ObjectHandle
	if as(&object) {
		*object = (*object).ReadCompressed(true)
	}
	return nil
}

// reader opens a part of an object as it is stored.
func (b *buckets) reader(ctx context.Context, l location, offset, length int64) (*blob.Reader, error) {
	bucket, err := b.bucket(ctx, l)
	if err != nil {
		return nil, err
	}
	ctx = policy.WithHTTPHeader(ctx, http.Header{"Accept-Encoding": {"identity"}}) // of Azure's client
	r, err := bucket.NewRangeReader(ctx, key(l), offset, length, &blob.ReaderOptions{BeforeRead: asStored})
	if err != nil {
		return nil, bucketError(ctx, l, err)
	}
	return r, nil
}

func (b *buckets) open(ctx context.Context, l location, offset, length int64) (io.ReadCloser, error) {
	r, err := b.reader(ctx, l, offset, length)
	switch {
	case replyOf(err).status == http.StatusRequestedRangeNotSatisfiable:
		return http.NoBody, nil
	case err != nil:
		return nil, err
	}
	return r, nil
}

// store writes an object, which is seen when it is complete.
func (b *buckets) store(ctx context.Context, l location, f actions.File) error {
	return b.put(ctx, l, bytes.NewReader(f.Data), int64(len(f.Data)), actions.PutOptions{ContentType: f.ContentType})
}

func (b *buckets) put(ctx context.Context, l location, body io.Reader, size int64, opts actions.PutOptions) error {
	bucket, err := b.bucket(ctx, l)
	if err != nil {
		return err
	}
	body, err = owned(body, size)
	if err != nil {
		return err
	}
	sending, cancel := context.WithCancel(ctx)
	defer cancel()
	if long, ok := body.(unseekable); ok {
		body = aborting{long, cancel}
	}
	err = bucket.Upload(sending, key(l), body, &blob.WriterOptions{
		ContentType: opts.ContentType, IfNotExist: opts.Once, MaxConcurrency: partsAtOnce,
		BufferSize: int(max(partBytes, (size/maxParts+1<<20)&^(1<<20-1))),
	})
	switch {
	case err == nil:
		return nil
	case opts.Once:
		return onceError(ctx, l, err)
	}
	return bucketError(ctx, l, err)
}

// owned is a body that nobody reads of the caller's after a Put. A body that can seek is
// sent again by the SDK and may outlive the call, so a short one is copied; a long one is
// read before Upload returns, part by part into memory of the SDK's.
func owned(body io.Reader, size int64) (io.Reader, error) {
	if size > partBytes {
		return unseekable{body}, nil
	}
	data := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead)) // so that it does not grow
	if _, err := data.ReadFrom(body); err != nil {
		return nil, err
	}
	return bytes.NewReader(data.Bytes()), nil
}

type unseekable struct{ io.Reader }

// An aborting is a body whose error ends the request. Go Cloud would store what it has read
// before, where the store is Google's.
type aborting struct {
	unseekable
	cancel context.CancelFunc
}

func (a aborting) Read(p []byte) (int, error) {
	n, err := a.unseekable.Read(p)
	if err != nil && !errors.Is(err, io.EOF) { // as source gives it, not wrapped
		a.cancel()
	}
	return n, err
}

func (b *buckets) stat(ctx context.Context, l location) (actions.Object, error) {
	bucket, err := b.bucket(ctx, l)
	if err != nil {
		return actions.Object{}, err
	}
	a, err := bucket.Attributes(ctx, key(l))
	if err != nil {
		return actions.Object{}, bucketError(ctx, l, err)
	}
	return actions.Object{
		URL: urlOf(l, key(l)), Size: a.Size, ETag: quoted(a.ETag), Modified: a.ModTime, ContentType: a.ContentType,
	}, nil
}

// urlOf is the URL of an object in the bucket of a location.
func urlOf(l location, key string) string {
	return (&url.URL{Scheme: l.url.Scheme, Host: l.url.Host, Path: "/" + key}).String()
}

// pageSize is how many objects a store lists at once.
const pageSize = 1000

func (b *buckets) list(ctx context.Context, l location, yield func(actions.Object) bool) error {
	bucket, err := b.bucket(ctx, l)
	if err != nil {
		return err
	}
	for token := blob.FirstPageToken; ; {
		page, next, err := bucket.ListPage(ctx, token, pageSize, &blob.ListOptions{Prefix: key(l)})
		if err != nil {
			return bucketError(ctx, l, err)
		}
		for _, o := range page {
			if listed := listedObject(l, o); o.Size == 0 && strings.HasSuffix(listed.URL, "/") {
				continue // it stands for a folder
			} else if !yield(listed) {
				return nil
			}
		}
		if len(next) == 0 {
			return nil
		}
		token = next
	}
}

// listedObject is an object of a list, by the very key that it has in its store.
func listedObject(l location, o *blob.ListObject) actions.Object {
	key, etag := o.Key, ""
	var ofS3 types.Object
	var ofGS gcs.ObjectAttrs
	var ofAzure container.BlobItem
	switch {
	case o.As(&ofS3):
		key, etag = aws.ToString(ofS3.Key), aws.ToString(ofS3.ETag)
	case o.As(&ofGS):
		key, etag = ofGS.Name, quoted(ofGS.Etag)
	case o.As(&ofAzure):
		if ofAzure.Name != nil {
			key = *ofAzure.Name
		}
		if ofAzure.Properties != nil && ofAzure.Properties.ETag != nil {
			etag = quoted(string(*ofAzure.Properties.ETag))
		}
	}
	return actions.Object{URL: urlOf(l, key), Size: o.Size, ETag: etag, Modified: o.ModTime}
}

// quoted is an entity tag as HTTP writes it, which the lists of some stores do not.
func quoted(etag string) string {
	if etag == "" || strings.HasSuffix(etag, `"`) {
		return etag
	}
	return `"` + etag + `"`
}

func (b *buckets) copy(ctx context.Context, from, to location) error {
	bucket, err := b.bucket(ctx, to)
	if err != nil {
		return err
	}
	if err := bucket.Copy(ctx, key(to), key(from), nil); err != nil {
		return bucketError(ctx, from, err)
	}
	return nil
}

func (b *buckets) remove(ctx context.Context, l location) error {
	bucket, err := b.bucket(ctx, l)
	if err != nil {
		return err
	}
	if err := bucket.Delete(ctx, key(l)); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return bucketError(ctx, l, err)
	}
	return nil
}
