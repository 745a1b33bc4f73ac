package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/deepfn/deepfn/actions/cloudevent"
)

// maxNotices is how many objects one notification may tell of.
const maxNotices = 1000

// A bucketNotice is a notification that an object is there, or, without a URL, that something
// else has happened in a bucket.
type bucketNotice struct {
	event cloudevent.Event
	url   string
}

// An s3Notice is a notification in S3's own JSON, as S3, MinIO and Ceph send it.
type s3Notice struct {
	Records []s3Record `json:"Records"`
	Event   string     `json:"Event"`
}

// An s3Record is one thing that has happened. The key of the object is URL-encoded.
type s3Record struct {
	EventSource string `json:"eventSource"`
	EventName   string `json:"eventName"`
	EventTime   string `json:"eventTime"`
	S3          struct {
		Bucket struct {
			Name string `json:"name"`
		} `json:"bucket"`
		Object struct {
			Key       string `json:"key"`
			VersionID string `json:"versionId"`
			Sequencer string `json:"sequencer"`
		} `json:"object"`
	} `json:"s3"`
}

// isS3 says whether it is a record of S3, or of a store that speaks its language.
func (rec *s3Record) isS3() bool {
	return strings.HasSuffix(rec.EventSource, ":s3") && rec.S3.Bucket.Name != ""
}

// object is the URL of the object that is there now, empty for one that was removed, and for
// all else that may happen to one.
func (rec *s3Record) object() string {
	if !strings.HasPrefix(strings.TrimPrefix(rec.EventName, "s3:"), "ObjectCreated:") {
		return ""
	}
	key, err := url.QueryUnescape(rec.S3.Object.Key)
	if err != nil {
		key = rec.S3.Object.Key
	}
	return objectURL("s3", rec.S3.Bucket.Name, key)
}

// objectURL is the URL of an object, empty when it has no name.
func objectURL(scheme, bucket, key string) string {
	if bucket == "" || key == "" || strings.HasSuffix(key, "/") { // which stands for a folder
		return ""
	}
	return (&url.URL{Scheme: scheme, Host: bucket, Path: "/" + key}).String()
}

// parseS3 reads a notification in S3's own JSON.
func parseS3(data []byte) (*s3Notice, bool) {
	if !bytes.Contains(data, []byte(`"Records"`)) && !bytes.Contains(data, []byte(`"s3:TestEvent"`)) {
		return nil, false
	}
	var n s3Notice
	if json.Unmarshal(data, &n) != nil || len(n.Records) > maxNotices {
		return nil, false
	}
	for i := range n.Records {
		if !n.Records[i].isS3() {
			return nil, false
		}
	}
	return &n, len(n.Records) > 0 || n.Event == "s3:TestEvent"
}

// parseBucketNotice reads a notification that came as it is, without an event around it, and
// makes an event of each of its records.
func parseBucketNotice(body []byte) ([]bucketNotice, bool) {
	n, is := parseS3(body)
	if !is {
		return nil, false
	}
	list := make([]bucketNotice, len(n.Records))
	for i := range n.Records {
		list[i] = bucketNotice{n.Records[i].event(), n.Records[i].object()}
	}
	return list, true
}

// event is the event that a record is as a CloudEvent. It is the same one each time the
// record comes.
func (rec *s3Record) event() cloudevent.Event {
	hash := sha256.New()
	for _, part := range []string{
		rec.EventSource, rec.EventName, rec.EventTime, rec.S3.Bucket.Name,
		rec.S3.Object.Key, rec.S3.Object.VersionID, rec.S3.Object.Sequencer,
	} {
		_ = json.NewEncoder(hash).Encode(part) // a hash takes everything
	}
	e := cloudevent.Event{
		SpecVersion: cloudevent.V1,
		ID:          hex.EncodeToString(hash.Sum(nil)[:16]),
		Source:      (&url.URL{Scheme: "s3", Host: rec.S3.Bucket.Name}).String(),
		Type:        "com.amazonaws.s3." + strings.TrimPrefix(rec.EventName, "s3:"),
		Subject:     rec.S3.Object.Key,
		Time:        rec.EventTime,
	}
	if key, err := url.QueryUnescape(e.Subject); err == nil {
		e.Subject = key
	}
	return e
}

// notices answers a request that is a notification of a bucket without an event around it.
func (s *Server) notices(ctx context.Context, r *request, t *eventTarget, list []bucketNotice) response {
	if err := r.isForeign(); err != nil {
		return s.rejectEvent(ctx, r, t, err)
	}
	w := r.wishes()
	if w.async {
		if err := r.keepBody(); err != nil {
			return eventFailure(asError(err, r.id))
		}
	}
	ds := make([]delivery, 0, len(list))
	for i := range list {
		if list[i].url == "" {
			s.ignore(ctx, r, &list[i].event)
			continue
		}
		ds = append(ds, delivery{event: list[i].event, of: t, url: list[i].url})
	}
	switch len(ds) {
	case 0:
		return response{status: http.StatusNoContent}
	case 1:
		return s.oneEvent(ctx, r, w, &ds[0], false)
	}
	return s.manyEvents(ctx, r, w, ds)
}

// manyNotices answers an event that tells of several objects: as if it were a batch.
func (s *Server) manyNotices(ctx context.Context, r *request, t *eventTarget, w wish, e *cloudevent.Event) response {
	return s.manyEvents(ctx, r, w, s.unfold(ctx, r, nil, t, e))
}

// A storeNotice has what the events of stores say of objects, each in its own way.
type storeNotice struct {
	// EventBridge's Object Created, the whole event or its detail.
	DetailType string       `json:"detail-type"`
	Source     string       `json:"source"`
	Detail     *storeObject `json:"detail"`
	storeObject
	// Azure's BlobCreated.
	URL string `json:"url"`
	API string `json:"api"`
}

// A storeObject is an object of a bucket, whose name is the bucket in Google's events and in
// those of Amazon a part of it.
type storeObject struct {
	Bucket json.RawMessage `json:"bucket"`
	Name   string          `json:"name"`
	Object struct {
		Key string `json:"key"`
	} `json:"object"`
}

// noticeOf returns the URLs of the objects that an event tells of, and whether it is a
// notification of a store at all.
func noticeOf(e *cloudevent.Event) (urls []string, is bool) {
	if !e.IsJSON() || !bytes.HasPrefix(bytes.TrimLeft(e.Data, " \t\r\n"), []byte("{")) {
		return nil, false
	}
	kind := e.Type
	switch {
	case strings.HasPrefix(kind, "google.cloud.storage.object."):
		return fromStore(e, "gs", kind == "google.cloud.storage.object.v1.finalized")
	case strings.HasPrefix(kind, "Microsoft.Storage."):
		return fromStore(e, "azblob", kind == "Microsoft.Storage.BlobCreated")
	}
	if n, s3 := parseS3(e.Data); s3 {
		for i := range n.Records {
			if object := n.Records[i].object(); object != "" {
				urls = append(urls, object)
			}
		}
		return urls, true
	}
	if bytes.Contains(e.Data, []byte(`"eventSource"`)) { // one record alone
		var rec s3Record
		if json.Unmarshal(e.Data, &rec) == nil && rec.isS3() {
			return oneURL(rec.object()), true
		}
	}
	if isAmazon(kind) || isAmazon(e.Source) {
		return fromStore(e, "s3", true)
	}
	return nil, false
}

// isAmazon says whether a type or a source of events is Amazon's S3.
func isAmazon(text string) bool {
	return strings.HasPrefix(text, "aws.s3") || strings.HasPrefix(text, "com.amazonaws.s3") || text == "Object Created"
}

// fromStore reads the notification of a store; created says that the type is that of an object
// that is there, as far as a type says it.
func fromStore(e *cloudevent.Event, scheme string, created bool) (urls []string, is bool) {
	if !created {
		return nil, true
	}
	var n storeNotice
	if json.Unmarshal(e.Data, &n) != nil {
		return nil, false
	}
	object, bucket := n.storeObject, ""
	if n.Detail != nil {
		object = *n.Detail
	}
	switch scheme {
	case "gs":
		return oneURL(objectURL("gs", jsonText(object.Bucket), object.Name)), true
	case "azblob":
		if n.API == "CreateFile" { // of a data lake, whose FlushWithClose says that there is something in it
			return nil, true
		}
		return oneURL(blobURL(n.URL)), true
	}
	bucket = jsonText(memberOf(object.Bucket, "name"))
	if bucket == "" || object.Object.Key == "" {
		return nil, false // it has another form, or is something else
	}
	kind := n.DetailType + e.Type
	if !strings.Contains(kind, "Object Created") && !strings.Contains(kind, "ObjectCreated") && !strings.Contains(kind, "ObjectPut") {
		return nil, true
	}
	return oneURL(objectURL("s3", bucket, object.Object.Key)), true
}

// blobURL is the URL of a blob as a storage has it: of Azure's own hosts by its container, of
// others as it is.
func blobURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return ""
	}
	if host := u.Hostname(); !strings.Contains(host, ".blob.core.") && !strings.Contains(host, ".dfs.core.") {
		return text
	}
	container, blob, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	return objectURL("azblob", container, blob)
}

// oneURL is a list of a URL, or of none.
func oneURL(text string) []string {
	if text == "" {
		return nil
	}
	return []string{text}
}
