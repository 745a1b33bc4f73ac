package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/runtime/storage"
)

// storageSettings say what callers may name by URL.
type storageSettings struct {
	allow   []string
	timeout time.Duration
}

func (r *storageSettings) addFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&r.allow, "allow-url", nil, "prefix of URLs that callers may have fetched, and stored to, though they are no public https:\n"+
		"http://minio.local:9000/in/, s3://bucket/, gs://bucket/, azblob://container/, file:///data/ (DEEPFN_ALLOW_URL, separated by spaces)")
	f.DurationVar(&r.timeout, "fetch-timeout", time.Minute, "most time for one argument or result by URL (DEEPFN_FETCH_TIMEOUT)")
}

// resolve fills in from the environment what no flag has set.
func (srv *server) resolveStorage() error {
	r := &srv.storage
	if !srv.flags.Changed("allow-url") {
		r.allow = strings.Fields(srv.getenv("DEEPFN_ALLOW_URL"))
	}
	if err := srv.duration(srv.flags, "fetch-timeout", "DEEPFN_FETCH_TIMEOUT", &r.timeout); err != nil {
		return err
	}
	if r.timeout <= 0 {
		return usageError{errors.New("--fetch-timeout wants more than 0")}
	}
	return nil
}

// open returns what arguments are fetched with. It takes as many bytes as the body of a
// request may have: more than that no model gets.
func (r *storageSettings) open(maxBody int64, log *slog.Logger) (*storage.Storage, error) {
	s, err := storage.New(storage.Config{Allow: r.allow, MaxBytes: maxBody, Timeout: r.timeout, Log: log})
	if err != nil {
		return nil, usageError{fmt.Errorf("--allow-url: %w", err)}
	}
	return s, nil
}
