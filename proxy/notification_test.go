package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

// s3Records is a notification in S3's own JSON.
func s3Records(source, name string, keys ...string) string {
	var records []string
	for _, key := range keys {
		records = append(records, fmt.Sprintf(`{"eventVersion":"2.1","eventSource":%q,"awsRegion":"eu","eventTime":"2026-11-30T01:02:03.000Z","eventName":%q,`+
			`"s3":{"s3SchemaVersion":"1.0","bucket":{"name":"in","arn":"arn:aws:s3:::in"},"object":{"key":%q,"size":5,"sequencer":"0A"}}}`, source, name, key))
	}
	return `{"Records":[` + strings.Join(records, ",") + `]}`
}

// What stores say of their objects, and the objects that are predicted on.
func TestNotifications(t *testing.T) {
	const (
		google = `{"bucket":"in","name":"a b/c.png","contentType":"image/png","size":"5"}`
		azure  = `{"api":"PutBlob","contentType":"image/png","url":"https://acct.blob.core.windows.net/in/a%20b/c.png"}`
		bridge = `{"version":"0","bucket":{"name":"in"},"object":{"key":"a b/c.png","size":5},"reason":"PutObject"}`
	)
	testEvent := `{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-11-30T01:02:03.000Z","Bucket":"in"}`
	for _, tt := range []struct {
		name, kind, data string // without a type it comes as it is
		urls             []string
		status           int
	}{
		{"S3", "", s3Records("aws:s3", "ObjectCreated:Put", "a+b/c.png"), []string{"s3://in/a%20b/c.png"}, 200},
		{"MinIO", "", `{"EventName":"s3:ObjectCreated:Put","Key":"in/a",` + s3Records("minio:s3", "s3:ObjectCreated:Put", "a%2Bb.png")[1:], []string{"s3://in/a+b.png"}, 200},
		{"several", "", s3Records("aws:s3", "ObjectCreated:Copy", "a", "b", "c/"), []string{"s3://in/a", "s3://in/b"}, 200},
		{"removed", "", s3Records("aws:s3", "ObjectRemoved:Delete", "a"), nil, 204},
		{"test", "", testEvent, nil, 204},
		{"S3 in an event", "com.amazonaws.s3.ObjectCreated:Put", s3Records("aws:s3", "ObjectCreated:Put", "%C3%A9.png"), []string{"s3://in/%C3%A9.png"}, 200},
		{"several in an event", "x", s3Records("aws:s3", "ObjectCreated:Put", "a", "b"), []string{"s3://in/a", "s3://in/b"}, 200},
		{"one record in an event", "com.amazon.s3.objectcreated", strings.TrimSuffix(strings.TrimPrefix(s3Records("aws:s3", "ObjectCreated:Put", "a"), `{"Records":[`), `]}`), []string{"s3://in/a"}, 200},
		{"removed in an event", "com.amazonaws.s3.ObjectRemoved:Delete", s3Records("aws:s3", "ObjectRemoved:Delete", "a"), nil, 204},
		{"test in an event", "x", testEvent, nil, 204},
		{"EventBridge", "aws.s3.object", `{"source":"aws.s3","detail-type":"Object Created","detail":` + bridge + `}`, []string{"s3://in/a%20b/c.png"}, 200},
		{"EventBridge, the detail alone", "Object Created", bridge, []string{"s3://in/a%20b/c.png"}, 200},
		{"EventBridge, deleted", "aws.s3.object", `{"source":"aws.s3","detail-type":"Object Deleted","detail":` + bridge + `}`, nil, 204},
		{"Google", "google.cloud.storage.object.v1.finalized", google, []string{"gs://in/a%20b/c.png"}, 200},
		{"Google, deleted", "google.cloud.storage.object.v1.deleted", google, nil, 204},
		{"Azure", "Microsoft.Storage.BlobCreated", azure, []string{"azblob://in/a%20b/c.png"}, 200},
		{"Azure under a name of its own", "Microsoft.Storage.BlobCreated", `{"url":"https://files.example.com/in/a"}`, []string{"https://files.example.com/in/a"}, 200},
		{"Azure, a data lake", "Microsoft.Storage.BlobCreated", `{"api":"FlushWithClose","url":"https://acct.dfs.core.windows.net/in/d/c.png"}`, []string{"azblob://in/d/c.png"}, 200},
		{"Azure, a data lake's empty file", "Microsoft.Storage.BlobCreated", `{"api":"CreateFile","contentLength":0,"url":"https://acct.dfs.core.windows.net/in/d/c.png"}`, nil, 204},
		{"Azure in another cloud", "Microsoft.Storage.BlobCreated", `{"url":"https://acct.blob.core.chinacloudapi.cn/in/a"}`, []string{"azblob://in/a"}, 200},
		{"Azure, deleted", "Microsoft.Storage.BlobDeleted", azure, nil, 204},
	} {
		t.Run(tt.name, func(t *testing.T) {
			storage := newFakeStorage()
			for _, url := range tt.urls {
				storage.has[url] = actions.File{Data: []byte("bytes of " + url)}
			}
			inv := &fakeInvoker{}
			for _, path := range []string{"/", "/v2/models/echo/events/"} {
				s, _ := newServer(t, Config{Model: "echo", Invoker: inv, Storage: storage})
				storage.asked = nil
				r := eventRequest(path, tt.data, "Content-Type", jsonType)
				if tt.kind != "" {
					r = binaryEvent("1", jsonType, tt.data, "Ce-Type", tt.kind)
					r.header = eventHeaders([]string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", tt.kind})
					r.path = path
				}
				resp := s.handle(t.Context(), r)
				wantEventual(t, resp)
				if resp.status != tt.status {
					t.Fatalf("%s: got %d %s, want %d", path, resp.status, resp.body, tt.status)
				}
				if len(storage.asked) != len(tt.urls) || len(tt.urls) == 1 && storage.asked[0] != tt.urls[0] {
					t.Errorf("%s: got %q fetched, want %q", path, storage.asked, tt.urls)
				}
				if len(tt.urls) == 1 {
					files := inv.lastRequest().Files
					if len(files) != 1 || string(files[0].Data) != "bytes of "+tt.urls[0] || files[0].Name != "image" {
						t.Errorf("%s: got files %+v", path, files)
					}
					replyOf(t, resp)
				}
				if len(tt.urls) > 1 && len(repliesOf(t, resp)) != len(tt.urls) {
					t.Errorf("%s: got %s", path, resp.body)
				}
			}
		})
	}
}

// A notification that comes as it is becomes the event that it is elsewhere, the same one each
// time it comes.
func TestNotificationEvent(t *testing.T) {
	storage := newFakeStorage()
	storage.has["s3://in/a%20b.png"] = actions.File{Data: []byte("x")}
	inv := &fakeInvoker{}
	s, _ := newServer(t, Config{Model: "echo", Invoker: inv, Storage: storage, Sink: &fakeSink{none: true}, EventResults: "s3://out/results/"})
	var first cloudevent.Event
	for n := range 2 {
		got := replyOf(t, post(t, s, "/", s3Records("aws:s3", "ObjectCreated:Put", "a+b.png")))
		if n == 0 {
			first = got
		}
		if diff := cmp.Diff(first, got); diff != "" || inv.calls() != 1 {
			t.Errorf("again: got %d calls, %s", inv.calls(), diff)
		}
	}
	if first.Subject != "a b.png" || len(first.Extension("causationid")) != 32 {
		t.Errorf("got %+v", first)
	}
	if stored := storage.stored["s3://out/results/a%20b.png.json"]; string(stored.Data) != "{}" || !strings.Contains(string(first.Data), "s3://out/results/a%20b.png.json") {
		t.Errorf("got %s, stored %v", first.Data, storage.stored)
	}
}

// What is no notification stays what it was.
func TestNotNotifications(t *testing.T) {
	for _, body := range []string{
		`{}`,
		`{"Records":[]}`,
		`{"Records":[{"eventSource":"aws:sqs"}]}`,
		`{"Records":[{"eventSource":"aws:s3"}]}`,
		`{"Records":"x"}`,
		`{"value":{},"Records":[{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}]}`,
	} {
		s, _ := newServer(t, Config{Model: "echo"})
		wantResponse(t, toEntry(t, s, "POST", "/", body), 200, "{}")
		if resp := post(t, s, "/v2/models/echo/events/", body); resp.status != http.StatusUnsupportedMediaType && !strings.Contains(body, "value") {
			t.Errorf("%s: got %d %s", body, resp.status, resp.body)
		}
	}
	for _, object := range []string{`{"bucket":"b"}`, `{"bucket":{"name":"b"},"object":{}}`, `{"detail":{}}`, `{"detail":5}`} {
		e := cloudevent.Event{Type: "aws.s3", Data: []byte(object)}
		if urls, is := noticeOf(&e); is {
			t.Errorf("%s: got %v", object, urls)
		}
	}
}

// Where the storage says no, or there is none, the event is not tried again in vain.
func TestNotificationErrors(t *testing.T) {
	body := s3Records("aws:s3", "ObjectCreated:Put", "a")
	for _, tt := range []struct {
		name   string
		err    error
		none   bool
		status int
	}{
		{"not there", nil, false, 400},
		{"not allowed", actions.Errorf(actions.Forbidden, "m"), false, 400},
		{"for now", actions.Errorf(actions.Unavailable, "m"), false, 502},
		{"no storage", nil, true, 400},
	} {
		storage := newFakeStorage()
		storage.err["s3://in/a"] = tt.err
		cfg := Config{Model: "echo", Storage: storage}
		if tt.none {
			cfg.Storage = nil
		}
		s, _ := newServer(t, cfg)
		if resp := post(t, s, "/", body); resp.status != tt.status {
			t.Errorf("%s: got %d %s, want %d", tt.name, resp.status, resp.body, tt.status)
		}
	}
}

// FuzzNotice reads what a store may send.
func FuzzNotice(f *testing.F) {
	f.Add("x", s3Records("aws:s3", "ObjectCreated:Put", "a+b", "%zz"))
	f.Add("google.cloud.storage.object.v1.finalized", `{"bucket":"b","name":"n"}`)
	f.Add("Microsoft.Storage.BlobCreated", `{"url":"https://x.blob.core.windows.net/c/%2e%2e"}`)
	f.Add("Microsoft.Storage.", " ")
	f.Add("aws.s3", `{"detail":{"bucket":{"name":"b"},"object":{"key":"k"}},"detail-type":"Object Created"}`)
	f.Fuzz(func(t *testing.T, kind, data string) {
		e := cloudevent.Event{Type: kind, Data: []byte(data)}
		urls, is := noticeOf(&e)
		if len(urls) > 0 && !is {
			t.Errorf("got %q of no notification", urls)
		}
		for _, url := range urls {
			if url == "" || keyOfURL(url) == ".." || strings.HasPrefix(keyOfURL(url), "../") {
				t.Errorf("got %q of %q", url, data)
			}
		}
		if list, is := parseBucketNotice([]byte(data)); is {
			for i := range list {
				if _, err := json.Marshal(list[i].event.Subject); err != nil {
					t.Error(err)
				}
			}
		}
	})
}
