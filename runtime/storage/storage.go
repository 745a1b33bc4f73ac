package storage

import (
	_ "github.com/aws/aws-sdk-go-v2/config"
	_ "github.com/aws/aws-sdk-go-v2/service/s3"
	_ "gocloud.dev/blob"
	_ "gocloud.dev/blob/s3blob"
)
