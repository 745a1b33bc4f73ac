package onnxtest

import "encoding/binary"

// A Graph is a tiny model. Bytes writes it as an ONNX file.
type Graph struct {
	Inputs, Outputs []Value
	Nodes           []Node
	// Metadata are the entries of the model's own metadata.
	Metadata map[string]string
}

// A Value is an input or an output of a Graph.
type Value struct {
	Name string
	// Type is ONNX's number of the type of the elements: 1 is float32, 7 int64, 8
	// string.
	Type int
	// Shape has -1 for a dimension of any size. Nil means that there is no shape, empty
	// that the value is a scalar.
	Shape []int64
}

// A Node is an operation. Its attributes are integers.
type Node struct {
	Op              string
	Inputs, Outputs []string
	Attributes      map[string]int64
	// Body is what a Loop repeats.
	Body *Graph
}

// Bytes returns the ONNX file.
func (g Graph) Bytes() []byte {
	b := numberField(nil, 1, 8) // the version of the format
	b = bytesField(b, 7, g.graph())
	b = bytesField(b, 8, numberField(nil, 2, 17)) // the version of the operators
	for key, value := range g.Metadata {
		b = bytesField(b, 14, stringField(stringField(nil, 1, key), 2, value))
	}
	return b
}

func (g Graph) graph() []byte {
	var graph []byte
	for _, n := range g.Nodes {
		graph = bytesField(graph, 1, n.bytes())
	}
	graph = stringField(graph, 2, "tiny")
	for _, v := range g.Inputs {
		graph = bytesField(graph, 11, v.bytes())
	}
	for _, v := range g.Outputs {
		graph = bytesField(graph, 12, v.bytes())
	}
	return graph
}

func (n Node) bytes() []byte {
	var b []byte
	for _, s := range n.Inputs {
		b = stringField(b, 1, s)
	}
	for _, s := range n.Outputs {
		b = stringField(b, 2, s)
	}
	b = stringField(b, 4, n.Op)
	for name, v := range n.Attributes {
		a := numberField(stringField(nil, 1, name), 3, uint64(v))
		b = bytesField(b, 5, numberField(a, 20, 2)) // 2 is an integer
	}
	if n.Body != nil {
		a := bytesField(stringField(nil, 1, "body"), 6, n.Body.graph())
		b = bytesField(b, 5, numberField(a, 20, 5)) // 5 is a graph
	}
	return b
}

func (v Value) bytes() []byte {
	t := numberField(nil, 1, uint64(v.Type))
	if v.Shape != nil {
		var shape []byte
		for _, d := range v.Shape {
			var dim []byte
			if d >= 0 {
				dim = numberField(nil, 1, uint64(d))
			}
			shape = bytesField(shape, 1, dim)
		}
		t = bytesField(t, 2, shape)
	}
	return bytesField(stringField(nil, 1, v.Name), 2, bytesField(nil, 1, t))
}

func numberField(b []byte, number int, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(number)<<3), v)
}

func bytesField(b []byte, number int, v []byte) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(number)<<3|2), uint64(len(v)))
	return append(b, v...)
}

func stringField(b []byte, number int, v string) []byte { return bytesField(b, number, []byte(v)) }
