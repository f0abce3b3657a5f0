// Package protobuf is the codec for Protocol Buffers. A program that does not import it does not link them.
//
//	conn, err := bus.Connect(ctx, bus.Config{Codec: protobuf.Codec{}})
//
// or, to understand it beside another, Codecs: []bus.Codec{protobuf.Codec{}}.
package protobuf

import (
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"
)

// ContentType is the media type of draft-ietf-dispatch-mime-protobuf.
const ContentType = "application/protobuf"

// Codec encodes generated messages in the binary format. It implements bus.Codec and has no state. Unknown fields are kept,
// as the format wants it.
type Codec struct{}

// ContentType is application/protobuf.
func (Codec) ContentType() string { return ContentType }

// Marshal encodes v, which must be a proto.Message or nil, which is no bytes.
func (Codec) Marshal(v any) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("protobuf codec: want a generated message, got %T", v)
	}
	return proto.Marshal(m)
}

// Unmarshal decodes data into v, which must be a proto.Message or a pointer to one; that is given a new message.
func (Codec) Unmarshal(data []byte, v any) error {
	if m, ok := v.(proto.Message); ok {
		return proto.Unmarshal(data, m)
	}
	p := reflect.ValueOf(v)
	if p.Kind() == reflect.Pointer && !p.IsNil() && p.Type().Elem().Kind() == reflect.Pointer {
		if m, ok := reflect.TypeAssert[proto.Message](reflect.New(p.Type().Elem().Elem())); ok {
			if err := proto.Unmarshal(data, m); err != nil {
				return err
			}
			p.Elem().Set(reflect.ValueOf(m))
			return nil
		}
	}
	return fmt.Errorf("protobuf codec: want a pointer to a generated message, got %T", v)
}
