package whisk_test

import (
	"encoding/json"
	"testing"

	"github.com/deepfn/deepfn/actions/whisk"
)

func TestKeyValues(t *testing.T) {
	pair := func(key, value string) whisk.KeyValue { return whisk.KeyValue{Key: key, Value: json.RawMessage(value)} }
	list := whisk.KeyValues{pair("a", "1"), pair("b", "2"), pair("a", "3")}
	hidden := whisk.KeyValue{Key: "e", Value: json.RawMessage(`"x"`), Init: true}
	arguments, environment := whisk.KeyValues{pair("a", "1"), hidden}.Split()
	for name, test := range map[string]struct {
		got  whisk.KeyValues
		want string
	}{
		"unique":      {list.Unique(), `[{"key":"a","value":3},{"key":"b","value":2}]`},
		"merge":       {list.Merge(whisk.KeyValues{pair("c", "4"), pair("b", "5")}), `[{"key":"a","value":3},{"key":"b","value":5},{"key":"c","value":4}]`},
		"with":        {list.With("b", []string{"x"}), `[{"key":"a","value":3},{"key":"b","value":["x"]}]`},
		"with none":   {whisk.KeyValues(nil).With("k", false), `[{"key":"k","value":false}]`},
		"no JSON":     {list.With("b", func() {}), `[{"key":"a","value":1},{"key":"b","value":2},{"key":"a","value":3}]`},
		"unchanged":   {list, `[{"key":"a","value":1},{"key":"b","value":2},{"key":"a","value":3}]`},
		"none":        {whisk.KeyValues(nil).Unique(), `[]`},
		"arguments":   {arguments, `[{"key":"a","value":1}]`},
		"environment": {environment, `[{"key":"e","value":"x","init":true}]`},
	} {
		if got, err := json.Marshal(test.got); err != nil || string(got) != test.want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, test.want)
		}
	}
}
