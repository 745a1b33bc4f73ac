package whisk

import (
	"encoding/json"
	"slices"
)

// With returns the list with a key that has that value, instead of the one it had. A value
// that is no JSON is left out.
func (kv KeyValues) With(key string, value any) KeyValues {
	raw, err := json.Marshal(value)
	if err != nil {
		return kv
	}
	return kv.Merge(KeyValues{{Key: key, Value: raw}})
}

// Merge returns the list with the pairs of others, which win; of a key that is there twice
// the last one counts. Neither list is changed.
func (kv KeyValues) Merge(others KeyValues) KeyValues {
	merged := make(KeyValues, 0, len(kv)+len(others))
	places := make(map[string]int, cap(merged))
	for _, list := range []KeyValues{kv, others} {
		for _, pair := range list {
			if i, ok := places[pair.Key]; ok {
				merged[i] = pair
				continue
			}
			places[pair.Key] = len(merged)
			merged = append(merged, pair)
		}
	}
	return merged
}

// Unique returns the list without the pairs whose key comes again.
func (kv KeyValues) Unique() KeyValues { return kv.Merge(nil) }

// Split returns the pairs of the arguments and those of the environment.
func (kv KeyValues) Split() (arguments, environment KeyValues) {
	for _, pair := range kv {
		if pair.Init {
			environment = append(environment, pair)
		} else {
			arguments = append(arguments, pair)
		}
	}
	return slices.Clip(arguments), slices.Clip(environment)
}
