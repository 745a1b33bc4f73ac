package storage

import (
	"context"

	"gocloud.dev/blob"
	"gocloud.dev/blob/azureblob"
)

// azureOdd are characters that Go Cloud writes in another way in the names of Azure's blobs.
const azureOdd = "\"#%?\\\x7f"

// openAzure opens a container of the account that the environment names
// (AZURE_STORAGE_ACCOUNT, AZURE_STORAGE_CONNECTION_STRING and others).
func openAzure(ctx context.Context, name string) (*blob.Bucket, error) {
	service, err := azureblob.NewServiceURL(azureblob.NewDefaultServiceURLOptions())
	if err != nil {
		return nil, err
	}
	client, err := azureblob.NewDefaultClient(service, azureblob.ContainerName(name))
	if err != nil {
		return nil, err
	}
	return azureblob.OpenBucket(ctx, client, nil)
}
