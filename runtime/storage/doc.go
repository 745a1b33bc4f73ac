// Package storage fetches and stores what callers name by URL: https, and objects of S3.
// What a caller may reach is decided here, after name resolution and at each redirect.
package storage
