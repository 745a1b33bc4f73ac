package storage

import (
	"context"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"
)

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
