package actions

import (
	"encoding/json"
	"fmt"
)

// ParseBatch reads a Batch of JSON as people and platforms write it: its input and its output may
// be their URLs alone, {"input": "s3://in/rows.csv", "output": "s3://out/run-1/"}. A member that
// there is not is refused by name. The error is an *Error Invalid.
func ParseBatch(data []byte) (Batch, error) {
	var b Batch
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil || members == nil {
		return b, Errorf(Invalid, "a batch is a JSON object with an input and an output")
	}
	for name, part := range map[string]struct {
		url  *string
		into any
	}{"input": {&b.Input.URL, &b.Input}, "output": {&b.Output.URL, &b.Output}} {
		raw, given := members[name]
		if !given {
			continue
		}
		delete(members, name)
		if json.Unmarshal(raw, part.url) == nil {
			continue
		}
		if err := DecodeStrict(raw, part.into); err != nil {
			return b, Errorf(Invalid, "the %s of the batch: %s", name, err)
		}
	}
	rest, err := json.Marshal(members)
	if err == nil {
		err = DecodeStrict(rest, &b)
	}
	if err != nil {
		return b, &Error{Code: Invalid, Msg: fmt.Sprintf("the batch: %s", err), Err: err}
	}
	return b, nil
}
