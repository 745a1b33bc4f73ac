package controller

import (
	"encoding/json"
	"maps"
	"net/url"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// batchRequested is the member of a value that begins a batch prediction: the type of the event
// that does so. Its value is an actions.Batch.
const batchRequested = "dev.deepfn.batch.requested"

// batchAction is the action that begins batch predictions with a model.
func (c *Controller) batchAction(m actions.Model) action {
	a := c.modelAction(m)
	a.Batch, a.Namespace = true, whisk.System+"/"+batchPackage
	a.Annotations = a.Annotations.With("description", "Begins a batch prediction with "+m.Name+" and answers its job").
		With("parameters", []parameterNote{
			{Name: "input", Description: "URL of an object, or of a prefix that ends in a slash", Type: "string", Required: true},
			{Name: "output", Description: "URL of a prefix that ends in a slash", Type: "string", Required: true},
		})
	return a
}

// batchValue is the value that begins a batch prediction with a model: the members of an
// actions.Batch, or a notification of a bucket, which says the input, beside them.
func batchValue(model string, args json.RawMessage) (json.RawMessage, error) {
	members := make(map[string]json.RawMessage)
	if len(args) > 0 {
		if err := decode(args, &members); err != nil {
			return nil, err
		}
	}
	maps.DeleteFunc(members, func(name string, _ json.RawMessage) bool {
		return strings.HasPrefix(name, "__ow_") // which the firing of a trigger adds
	})
	if err := takeNotice(members); err != nil {
		return nil, err
	}
	var err error
	if members["model"], err = encode(model); err != nil {
		return nil, err
	}
	return encode(map[string]any{batchRequested: members})
}

// A bucketRecord is what S3, and those who do as it does, say of an object
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html).
type bucketRecord struct {
	EventName string `json:"eventName"`
	S3        struct {
		Bucket struct {
			Name string `json:"name"`
		} `json:"bucket"`
		Object struct {
			Key string `json:"key"` // as the value of a form
		} `json:"object"`
	} `json:"s3"`
}

// takeNotice makes the input of a notification of a bucket. Its output is a folder of the object's
// own below the one that is given, because each batch has its own.
func takeNotice(members map[string]json.RawMessage) error {
	raw, is := members["Records"]
	if _, given := members["input"]; !is || given {
		return nil
	}
	var records []bucketRecord
	if err := json.Unmarshal(raw, &records); err != nil || len(records) != 1 {
		return actions.Errorf(actions.Invalid, "Records is no notification of a bucket about one object; name the input of the batch")
	}
	r := records[0]
	key, err := url.QueryUnescape(r.S3.Object.Key)
	if err != nil || key == "" || r.S3.Bucket.Name == "" {
		return actions.Errorf(actions.Invalid, "the notification names no object of a bucket")
	}
	if name := strings.TrimPrefix(r.EventName, "s3:"); !strings.HasPrefix(name, "ObjectCreated") {
		return actions.Errorf(actions.Invalid, "the notification is of %.40q, and a batch is of an object that was created", r.EventName)
	}
	for _, name := range []string{"Records", "EventName", "Key"} { // the last two are MinIO's
		delete(members, name)
	}
	input := url.URL{Scheme: "s3", Host: r.S3.Bucket.Name, Path: "/" + key}
	if members["input"], err = encode(input.String()); err != nil {
		return err
	}
	if output := textOf(members["output"]); output != "" { // else who begins it says what is wrong
		output = strings.TrimSuffix(output, "/") + (&url.URL{Path: "/" + key + "/"}).EscapedPath()
		members["output"], err = encode(output)
	}
	return err
}

// textOf is the text of a JSON string, "" of anything else.
func textOf(raw json.RawMessage) (text string) {
	_ = json.Unmarshal(raw, &text) // which leaves it empty
	return text
}
