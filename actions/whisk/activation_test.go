package whisk

import (
	"encoding/json"
	"testing"
)

func TestResponseMarshals(t *testing.T) {
	for _, tt := range []struct {
		in   Response
		want string
	}{
		{Response{}, `{"result":null,"size":0,"status":"success","success":true}`},
		{
			Response{Code: ApplicationError, Result: json.RawMessage(` {"error": "a b"} `)},
			`{"result":{"error":"a b"},"size":15,"status":"application error","success":false}`,
		},
		{Response{Code: DeveloperError, Result: json.RawMessage(`[ ]`)}, `{"result":[],"size":2,"status":"action developer error","success":false}`},
		{Response{Code: WhiskError, Result: json.RawMessage(`1`)}, `{"result":1,"size":1,"status":"whisk internal error","success":false}`},
	} {
		got, err := json.Marshal(tt.in)
		if err != nil || string(got) != tt.want {
			t.Errorf("got %s, %v, want %s", got, err, tt.want)
		}
		var back Response
		if err := json.Unmarshal(got, &back); err != nil || back.Code != tt.in.Code {
			t.Errorf("got %v, %v back, want %v", back, err, tt.in)
		}
		again, err := json.Marshal(back)
		if err != nil || tt.in.Result != nil && string(again) != tt.want {
			t.Errorf("got %s, %v the second time, want %s", again, err, tt.want)
		}
	}
	if got, err := json.Marshal(Response{Result: json.RawMessage(`{`)}); err == nil {
		t.Errorf("got %s, want an error", got)
	}
}
