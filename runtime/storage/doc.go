// Package storage fetches and stores what callers name by URL: https, objects of S3 and other
// stores, and files. For batch predictions it lists, reads, puts and copies them too.
//
// What a caller may reach is decided here, because the server stands where the caller does
// not: inside of a network, beside services that trust it, and with keys of its own.
//
//	https://host/path    GET to fetch, PUT to store; public addresses
//	http://host/path     the same, only under a prefix that the operator allows
//	s3://bucket/key      only under a prefix that the operator allows; gs:// and azblob:// the same
//	file:///path         only in a folder that the operator allows
//
// An address is looked at when it is dialled, after the name's resolution and again at each
// redirect: loopback, link-local, private, shared (RFC 6598), multicast, reserved and
// documentation ranges, addresses of clouds' metadata services, and all of these written as
// IPv4-mapped or NAT64 addresses are refused. An operator's prefix (Config.Allow) lifts that
// for the URLs under it, and for them alone: a connection that was made for one of them is
// never used for another URL.
//
// Objects of S3 are read and written with the server's own credentials, which is why no
// caller may name one unless a prefix says so. Region, credentials and endpoint come from
// where the AWS SDK looks: AWS_REGION, AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL_S3 and the others,
// ~/.aws, the instance's role. With an endpoint of one's own (MinIO, Ceph) the bucket is a
// part of the path. A URL cannot steer any of that: a query is refused.
//
// Of gs the application's default credentials are used, of azblob what AZURE_STORAGE_ACCOUNT
// and its companions say. A file is opened through an os.Root of the allowed folder, so that
// no link leads out of it.
//
// An object is put whole or not at all. With PutOptions.Once it is put only where there is
// none: the store decides who wins, by If-None-Match: *, a generation of 0, or a hard link.
//
// Errors that may go away are Unavailable with a RetryAfter. The stores' own clients have
// tried two or three times by then; to try for longer is the caller's part, and nobody else's.
//
// Errors and log lines show scheme, host and path of a URL. The query of a presigned one is
// a secret.
package storage
