package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The library tells a session's inputs and outputs only by loading the model a second
// time, so they are read from the file. An ONNX file is one protocol buffer message,
// ModelProto; of it these fields are read:
//
//	ModelProto           7 graph, 14 metadata_props
//	GraphProto           5 initializer, 11 input, 12 output
//	TensorProto          8 name, 14 data_location
//	ValueInfoProto       1 name, 2 type
//	TypeProto            1 tensor_type
//	TypeProto.Tensor     1 elem_type, 2 shape
//	TensorShapeProto     1 dim
//	Dimension            1 dim_value
//	StringStringEntry    1 key, 2 value

// A model is what an ONNX file says about itself.
type model struct {
	inputs, outputs []port
	metadata        map[string]string
}

// A port is an input or an output of a model.
type port struct {
	name string
	// kind is 0 for what is not a tensor (a sequence, a map).
	kind kind
	// shape has -1 for a dimension of any size. It is nil when even the number of
	// dimensions is open, and empty for a scalar.
	shape []int64
}

var (
	errNotONNX  = errors.New("it is not an ONNX file")
	errCutShort = errors.New("it is not an ONNX file, or it is cut short")
)

// inspect reads the file at path, without its weights.
func inspect(path string) (model, error) {
	f, err := os.Open(path) //nolint:gosec // the setup names the file
	if err != nil {
		return model{}, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return model{}, err
	}
	if info.Size() == 0 {
		return model{}, errors.New("the file is empty")
	}
	// Mapped, because most of it is weights that are skipped.
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return model{}, fmt.Errorf("mapping the file: %w", err)
	}
	defer unix.Munmap(data) //nolint:errcheck // nothing depends on it
	return parseModel(data)
}

func parseModel(data []byte) (model, error) {
	m := model{metadata: map[string]string{}}
	weights := map[string]bool{}
	graph := false
	err := fields(data, func(number, _ uint64, body []byte) error {
		switch number {
		case 7:
			graph = true
			return m.readGraph(body, weights)
		case 14:
			return m.readMetadata(body)
		}
		return nil
	})
	if err != nil {
		return model{}, err
	}
	if !graph || len(m.outputs) == 0 {
		return model{}, errNotONNX
	}
	// Old files list their weights among their inputs.
	inputs := m.inputs[:0]
	for _, p := range m.inputs {
		if !weights[p.name] {
			inputs = append(inputs, p)
		}
	}
	m.inputs = inputs
	return m, nil
}

func (m *model) readGraph(data []byte, weights map[string]bool) error {
	return fields(data, func(number, _ uint64, body []byte) error {
		switch number {
		case 5:
			name, external, err := readInitializer(body)
			if external {
				return fmt.Errorf("its weight %q lies in a separate file; save the model as one file", name)
			}
			weights[name] = true
			return err
		case 11, 12:
			p, err := readPort(body)
			if number == 11 {
				m.inputs = append(m.inputs, p)
			} else {
				m.outputs = append(m.outputs, p)
			}
			return err
		}
		return nil
	})
}

func (m *model) readMetadata(data []byte) error {
	var key, value string
	err := fields(data, func(number, _ uint64, body []byte) error {
		switch number {
		case 1:
			key = string(body)
		case 2:
			value = string(body)
		}
		return nil
	})
	m.metadata[key] = value
	return err
}

func readInitializer(data []byte) (name string, external bool, err error) {
	err = fields(data, func(number, value uint64, body []byte) error {
		switch number {
		case 8:
			name = string(body)
		case 14:
			external = value == 1
		}
		return nil
	})
	return name, external, err
}

func readPort(data []byte) (port, error) {
	var p port
	err := fields(data, func(number, _ uint64, body []byte) error {
		switch number {
		case 1:
			p.name = string(body)
		case 2:
			return fields(body, func(number, _ uint64, body []byte) error {
				if number == 1 {
					return p.readTensor(body)
				}
				return nil
			})
		}
		return nil
	})
	return p, err
}

func (p *port) readTensor(data []byte) error {
	return fields(data, func(number, value uint64, body []byte) error {
		switch number {
		case 1:
			p.kind = kind(value)
		case 2:
			p.shape = []int64{}
			return fields(body, func(number, _ uint64, body []byte) error {
				if number != 1 {
					return nil
				}
				size := int64(-1)
				err := fields(body, func(number, value uint64, _ []byte) error {
					if v := int64(value); number == 1 && v >= 0 {
						size = v
					}
					return nil
				})
				p.shape = append(p.shape, size)
				return err
			})
		}
		return nil
	})
}

// fields calls f for each field of a message, with the value of a number or the body of
// a string or message.
func fields(data []byte, f func(number, value uint64, body []byte) error) error {
	for len(data) > 0 {
		tag, n := binary.Uvarint(data)
		if n <= 0 || tag>>3 == 0 {
			return errNotONNX
		}
		data = data[n:]
		var value uint64
		var body []byte
		switch tag & 7 {
		case 0:
			if value, n = binary.Uvarint(data); n <= 0 {
				return errCutShort
			}
		case 1:
			n = 8
		case 5:
			n = 4
		case 2:
			size, used := binary.Uvarint(data)
			if used <= 0 || size > uint64(len(data)-used) {
				return errCutShort
			}
			n = used + int(size)
			body = data[used:n]
		default:
			return errNotONNX
		}
		if n > len(data) {
			return errCutShort
		}
		data = data[n:]
		if err := f(tag>>3, value, body); err != nil {
			return err
		}
	}
	return nil
}
