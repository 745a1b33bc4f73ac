package whisk

import (
	"bytes"
	"encoding/json"
)

// The statuses of an activation by their code (ActivationResult.scala).
const (
	Success          = 0
	ApplicationError = 1
	DeveloperError   = 2
	WhiskError       = 3
)

// StatusName is the text of a status.
func StatusName(code int) string {
	switch code {
	case Success:
		return "success"
	case ApplicationError:
		return "application error"
	case DeveloperError:
		return "action developer error"
	}
	return "whisk internal error"
}

// A Response is how an activation ended.
type Response struct {
	// Code is the status. On the wire it is there by its name, and in a list as statusCode
	// of the activation.
	Code int
	// Result is a JSON value.
	Result json.RawMessage
}

// response is a Response on the wire.
type response struct {
	Result  json.RawMessage `json:"result"`
	Size    int             `json:"size"`
	Status  string          `json:"status"`
	Success bool            `json:"success"`
}

// MarshalJSON writes result, size, status and success. The size is that of the result as it
// is written, without spaces, whatever it came as.
func (r Response) MarshalJSON() ([]byte, error) {
	var result bytes.Buffer
	if err := json.Compact(&result, r.Result); err != nil && len(r.Result) > 0 {
		return nil, err
	}
	size := result.Len()
	if size == 0 {
		result.WriteString("null")
	}
	return marshal(response{result.Bytes(), size, StatusName(r.Code), r.Code == Success})
}

// marshal writes a document and leaves the JSON in it as it is: whether < and > are escaped
// is up to who writes the whole.
func marshal(doc any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(doc)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// UnmarshalJSON reads what MarshalJSON has written.
func (r *Response) UnmarshalJSON(data []byte) error {
	var doc response
	if err := json.Unmarshal(data, &doc); err != nil {
		return err
	}
	r.Result, r.Code = doc.Result, Success
	for r.Code < WhiskError && StatusName(r.Code) != doc.Status {
		r.Code++
	}
	return nil
}

// An Activation is the record of one run.
type Activation struct {
	ID          string    `json:"activationId"` // 32 hexadecimal digits
	Namespace   string    `json:"namespace"`    // of who invoked it
	Name        string    `json:"name"`
	Version     string    `json:"version"`
	Subject     string    `json:"subject"`
	Cause       string    `json:"cause,omitempty"` // the id of the sequence that ran it
	Start       int64     `json:"start"`           // milliseconds since 1970
	End         int64     `json:"end"`
	Duration    int64     `json:"duration"` // milliseconds
	Response    Response  `json:"response"`
	Logs        []string  `json:"logs"` // never nil on the wire
	Annotations KeyValues `json:"annotations"`
	Publish     bool      `json:"publish"`
}
