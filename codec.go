package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/seed-1b628d3f/outbox/internal/usercode"
)

// Codec encodes and decodes the payloads of events in one content type. Implementations must be safe for concurrent use.
// See docs/performance.md for a faster JSON package and protobuf as codecs.
type Codec interface {
	// ContentType returns the media type of Marshal's results, for example "application/x-protobuf". It is stored with every
	// event that is not JSON, so it must not change. NewWriter and NewConsumer call it once.
	ContentType() string
	// Marshal encodes the Data of an event. The result is not changed afterwards. Equal values must have equal encodings, or a
	// repeat of the same event is ErrEventConflict: for protobuf, use MarshalOptions{Deterministic: true}. Only JSON is
	// compared by meaning.
	Marshal(v any) ([]byte, error)
	// Unmarshal decodes data into v, a pointer to a zero value of a handler's payload type; for a handler of *P this is a **P.
	// It may keep data, but must not change it. It must not keep v. Its errors count as permanent. Their text is not logged,
	// because it may quote the payload.
	Unmarshal(data []byte, v any) error
}

// WithCodec sets how payloads are encoded. A Writer encodes with the first codec. A Consumer decodes each event with the codec of
// the event's content type, so that a stream can carry several encodings during a migration: give the new codec to the Consumers
// first, then to the Writers. Content types are compared without case, white space and parameters such as "; charset=utf-8". An
// event whose content type has no codec fails permanently.
//
// Default: JSON by encoding/json. A Consumer always decodes JSON as well; a codec for "application/json" replaces the default one.
// Several WithCodec add up. A nil codec, a codec without a content type, and two codecs for one content type are errors.
// DecodeRecord and DecodeItem leave payloads encoded, and only check the option.
func WithCodec(codecs ...Codec) Option { return codecOption(codecs) }

type codecOption []Codec

func (o codecOption) applyWriter(c *writerConfig) error     { return o.add(&c.codecs) }
func (o codecOption) applyConsumer(c *consumerConfig) error { return o.add(&c.codecs) }
func (o codecOption) applyRecord(*recordConfig) error       { return o.add(&[]namedCodec{}) } // only checked

func (o codecOption) add(codecs *[]namedCodec) error {
	if len(o) == 0 {
		return errors.New("WithCodec: want at least one codec")
	}
	var errs []error
	for i, codec := range o {
		if v := reflect.ValueOf(codec); codec == nil || v.Kind() == reflect.Pointer && v.IsNil() {
			errs = append(errs, fmt.Errorf("WithCodec: codec %d is nil", i))
			continue
		}
		n := namedCodec{Codec: codec}
		if p := usercode.Run(func() { n.contentType = codec.ContentType() }); p != nil {
			errs = append(errs, fmt.Errorf("WithCodec: codec %d (%T): ContentType panicked: %v", i, codec, p.Value))
			continue
		}
		same := func(other namedCodec) bool { return mediaType(other.contentType) == mediaType(n.contentType) }
		switch {
		case mediaType(n.contentType) == "":
			errs = append(errs, fmt.Errorf("WithCodec: codec %d (%T) has no content type", i, codec))
		case slices.ContainsFunc(*codecs, same):
			errs = append(errs, fmt.Errorf("WithCodec: codec %d (%T): there is one for content type %q already", i, codec, n.contentType))
		default:
			*codecs = append(*codecs, n)
		}
	}
	return errors.Join(errs...)
}

// namedCodec is a codec with the content type that it named when it was registered.
type namedCodec struct {
	Codec
	contentType string
}

func (c *namedCodec) isJSON() bool { return mediaType(c.contentType) == contentTypeJSON }

// contentTypeJSON is the content type of an event without a content type.
const contentTypeJSON = "application/json"

// jsonCodec is the default codec.
type jsonCodec struct{}

func (jsonCodec) ContentType() string                { return contentTypeJSON }
func (jsonCodec) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (jsonCodec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// codecs finds codecs by content type.
type codecs struct {
	json  Codec
	named map[string]Codec // by media type; json is one of them
}

func newCodecs(given []namedCodec) codecs {
	set := codecs{named: map[string]Codec{contentTypeJSON: jsonCodec{}}}
	for _, codec := range given {
		set.named[mediaType(codec.contentType)] = codec.Codec
	}
	set.json = set.named[contentTypeJSON]
	return set
}

// find returns the codec of a content type as an event names it.
func (s *codecs) find(contentType string) (Codec, error) {
	if contentType == "" || contentType == contentTypeJSON {
		return s.json, nil
	}
	if codec, ok := s.named[contentType]; ok {
		return codec, nil
	}
	if codec, ok := s.named[mediaType(contentType)]; ok {
		return codec, nil
	}
	const most = 100 // bytes that the error quotes
	return nil, fmt.Errorf("no codec for the payload's content type %q: have %q; see WithCodec",
		contentType[:min(len(contentType), most)], slices.Sorted(maps.Keys(s.named)))
}

// decode decodes a record's payload into data, a pointer to a T. Its errors do not quote the payload. They are permanent, except the
// *PanicError of a codec that panicked.
func (s *codecs) decode(r *Record, data any) error {
	codec, err := s.find(r.ContentType)
	if err != nil {
		return Permanent(err)
	}
	if p := usercode.Run(func() { err = codec.Unmarshal(r.Payload, data) }); p != nil { // its text may quote the payload, too
		text := fmt.Sprintf("a codec panicked with a %T, whose text is left out because it may quote the payload", p.Value)
		return &PanicError{Value: text, Stack: p.Stack}
	}
	if err != nil {
		return Permanent(fmt.Errorf("the payload cannot be decoded into %s: %w", reflect.TypeOf(data).Elem(), discreet(err)))
	}
	return nil
}

// mediaType returns the form of a content type that is compared: by RFC 9110 only parameters have case.
func mediaType(contentType string) string {
	contentType, _, _ = strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(contentType))
}

// discreetError wraps an error of a codec, whose text may quote the payload. Its own text is logged, and quotes nothing. errors.As
// still reaches the codec's error.
type discreetError struct {
	err  error
	kind reflect.Type // of the codec's error
}

func discreet(err error) error {
	return discreetError{usercode.Error("the codec", err), reflect.TypeOf(err)}
}

func (e discreetError) Unwrap() error { return e.err }

func (e discreetError) Error() string {
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(e.err, &wrong) {
		kind, _, _ := strings.Cut(wrong.Value, " ") // "number 5" names the value
		return fmt.Sprintf("field %q at byte %d: a JSON %s does not fit %s", wrong.Field, wrong.Offset, kind, wrong.Type)
	}
	if wrong := (*json.SyntaxError)(nil); errors.As(e.err, &wrong) {
		return fmt.Sprintf("no JSON from byte %d on", wrong.Offset)
	}
	if unsupported := (*json.UnsupportedTypeError)(nil); errors.As(e.err, &unsupported) {
		return unsupported.Error()
	}
	return fmt.Sprintf("%s, whose text is left out because it may quote the payload", e.kind)
}
