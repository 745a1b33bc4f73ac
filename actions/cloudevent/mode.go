package cloudevent

import (
	"strings"
)

// A Mode is how an HTTP message carries events.
type Mode uint8

// The modes of a message. None carries no event.
const (
	None Mode = iota
	Binary
	Structured
	Batched
)

// A Header calls each for every header of a message. The strings are kept by the event that is
// read from them.
type Header func(each func(name, value string))

// prefix is what the names of the headers of binary mode begin with.
const prefix = "ce-"

// ModeOf says how a message carries events. A message with some of the headers that an event
// must have is Binary, so that it is told which are missing. A format that is not JSON, as
// application/cloudevents+avro, is Structured; see Format.
func ModeOf(contentType string, header Header) Mode {
	if mode := ModeOfType(contentType); mode != None {
		return mode
	}
	mode := None
	header(func(name, _ string) {
		if !hasPrefixFold(name, prefix) {
			return
		}
		for _, required := range [...]string{"specversion", "type", "source", "id"} {
			if strings.EqualFold(name[len(prefix):], required) {
				mode = Binary
			}
		}
	})
	return mode
}

// ModeOfType is ModeOf as far as the media type says it: the mode is Structured, Batched or None,
// which may turn out to be Binary.
func ModeOfType(contentType string) Mode {
	switch {
	case hasPrefixFold(contentType, "application/cloudevents-batch"):
		return Batched
	case hasPrefixFold(contentType, "application/cloudevents"):
		return Structured
	}
	return None
}

// Format is the format of the events in a Structured or Batched message, as the suffix of its media
// type says (RFC 6839): "json", which is the only one that is read here, also without a suffix.
func Format(contentType string) string {
	media, _, _ := strings.Cut(contentType, ";")
	_, format, _ := strings.Cut(media, "+")
	if format = strings.ToLower(strings.TrimSpace(format)); format == "" {
		return "json"
	}
	return format
}

// hasPrefixFold is strings.HasPrefix for text whose case means nothing.
func hasPrefixFold(text, prefix string) bool {
	return len(text) >= len(prefix) && strings.EqualFold(text[:len(prefix)], prefix)
}
