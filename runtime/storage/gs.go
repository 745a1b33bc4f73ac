package storage

import (
	"context"
	"net/http"
	"os"
	"sync"

	gcs "cloud.google.com/go/storage"
	"gocloud.dev/blob"
	"gocloud.dev/blob/gcsblob"
	"gocloud.dev/gcp"
)

// gsTries is how often a request is sent to Google's store, as Amazon's SDK does it. Without
// a number its client goes on until the end of the call.
const gsTries = 3

// A gsOpener opens buckets of Google Cloud Storage with one client.
type gsOpener struct {
	mu     sync.Mutex // guards client
	client *gcp.HTTPClient
}

func (o *gsOpener) open(ctx context.Context, name string) (*blob.Bucket, error) {
	client, err := o.connect(ctx)
	if err != nil {
		return nil, err
	}
	bucket, err := gcsblob.OpenBucket(ctx, client, name, nil)
	if err != nil {
		return nil, err
	}
	var inner *gcs.Client
	if bucket.As(&inner) {
		inner.SetRetry(gcs.WithMaxAttempts(gsTries), gcs.WithPolicy(gcs.RetryAlways)) // what is put twice is the same
	}
	return bucket, nil
}

// connect makes the client of the application's default credentials. An emulator
// (STORAGE_EMULATOR_HOST), which gcsblob asks for by itself, needs none.
func (o *gsOpener) connect(ctx context.Context) (*gcp.HTTPClient, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.client != nil {
		return o.client, nil
	}
	if os.Getenv("STORAGE_EMULATOR_HOST") != "" {
		o.client = gcp.NewAnonymousHTTPClient(http.DefaultTransport)
		return o.client, nil
	}
	// Tokens are asked for with this context for as long as the process lives.
	credentials, err := gcp.DefaultCredentials(context.WithoutCancel(ctx))
	if err != nil {
		return nil, err
	}
	o.client, err = gcp.NewHTTPClient(gcp.DefaultTransport(), gcp.CredentialsTokenSource(credentials))
	return o.client, err
}
