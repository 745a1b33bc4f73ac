package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	ort "github.com/yalue/onnxruntime_go"
)

// newValue lends a tensor to the library. The value must be destroyed before the
// tensor's data goes away.
func newValue(t tensor) (ort.Value, error) {
	switch d := t.data.(type) {
	case []float32:
		return lend(t.shape, d)
	case []float64:
		return lend(t.shape, d)
	case []int8:
		return lend(t.shape, d)
	case []int16:
		return lend(t.shape, d)
	case []int32:
		return lend(t.shape, d)
	case []int64:
		return lend(t.shape, d)
	case []uint8:
		return lend(t.shape, d)
	case []uint32:
		return lend(t.shape, d)
	case []uint64:
		return lend(t.shape, d)
	case []bool:
		return lend(t.shape, d)
	case []uint16:
		if t.kind == uint16s {
			return lend(t.shape, d)
		}
		return lendBits(t, d)
	case []string:
		return newStrings(t.shape, d)
	}
	return nil, fmt.Errorf("elements of type %s are not supported", t.kind)
}

func lend[T ort.TensorData](shape []int64, d []T) (ort.Value, error) {
	if len(shape) == 0 {
		return ort.NewScalar(d[0])
	}
	return ort.NewTensor(shape, d)
}

// lendBits hands over the kinds that Go has no type for.
func lendBits(t tensor, d []uint16) (ort.Value, error) {
	if len(t.shape) == 0 || len(d) == 0 {
		return nil, fmt.Errorf("scalars and empty tensors of type %s are not supported", t.kind)
	}
	b := make([]byte, 0, 2*len(d))
	for _, v := range d {
		b = binary.NativeEndian.AppendUint16(b, v)
	}
	return ort.NewCustomDataTensor(t.shape, b, ort.TensorElementDataType(t.kind))
}

func newStrings(shape []int64, d []string) (ort.Value, error) {
	if len(shape) == 0 {
		return nil, errors.New("scalar strings are not supported")
	}
	v, err := ort.NewStringTensor(shape)
	if err != nil {
		return nil, err
	}
	if err := v.SetContents(d); err != nil {
		_ = v.Destroy()
		return nil, err
	}
	return v, nil
}

// supported says why the library's binding cannot hand over such an output; nil when it
// can.
func (p port) supported() error {
	switch {
	case p.kind == 0:
		return errors.New("it is not a tensor (classifiers of scikit-learn: convert with zipmap=False)")
	case !p.kind.known():
		return fmt.Errorf("its elements are of %s, which is not supported", p.kind)
	case p.kind == strs && p.shape != nil && len(p.shape) == 0:
		return errors.New("scalar strings are not supported")
	case (p.kind == fp16 || p.kind == bf16) && (len(p.shape) == 0 || slices.Min(p.shape) < 1):
		return fmt.Errorf("outputs of type %s must have a fixed shape; save the model with outputs of FP32", p.kind)
	}
	return nil
}

// placeholder returns the value that an output is written to, or nil to let the library
// make one, which it does for all but scalars and half floats.
func placeholder(p port) (ort.Value, error) {
	if p.kind == fp16 || p.kind == bf16 {
		n := elements(p.shape, 1<<40)
		return ort.NewCustomDataTensor(p.shape, make([]byte, 2*n), ort.TensorElementDataType(p.kind))
	}
	if p.shape == nil || len(p.shape) > 0 {
		return nil, nil
	}
	return newValue(tensor{p.kind, p.shape, makeData(p.kind, 1)})
}

// fromValue takes an output over. Its data outlives the value.
func fromValue(p port, v ort.Value) (tensor, error) {
	t := tensor{p.kind, v.GetShape(), nil}
	switch v := v.(type) {
	case *ort.Tensor[float32]:
		t.data = v.GetData()
	case *ort.Tensor[float64]:
		t.data = v.GetData()
	case *ort.Tensor[int8]:
		t.data = v.GetData()
	case *ort.Tensor[int16]:
		t.data = v.GetData()
	case *ort.Tensor[int32]:
		t.data = v.GetData()
	case *ort.Tensor[int64]:
		t.data = v.GetData()
	case *ort.Tensor[uint8]:
		t.data = v.GetData()
	case *ort.Tensor[uint16]:
		t.data = v.GetData()
	case *ort.Tensor[uint32]:
		t.data = v.GetData()
	case *ort.Tensor[uint64]:
		t.data = v.GetData()
	case *ort.Tensor[bool]:
		t.data = v.GetData()
	case *ort.StringTensor:
		d, err := v.GetContents()
		t.data = d
		return t, err
	case *ort.CustomDataTensor:
		b := v.GetData()
		d := make([]uint16, len(b)/2)
		for i := range d {
			d[i] = binary.NativeEndian.Uint16(b[2*i:])
		}
		t.data = d
	default:
		return scalarFrom(t, v)
	}
	return t, nil
}

func scalarFrom(t tensor, v ort.Value) (tensor, error) {
	t.shape = []int64{}
	switch v := v.(type) {
	case *ort.Scalar[float32]:
		t.data = []float32{v.GetData()}
	case *ort.Scalar[float64]:
		t.data = []float64{v.GetData()}
	case *ort.Scalar[int8]:
		t.data = []int8{v.GetData()}
	case *ort.Scalar[int16]:
		t.data = []int16{v.GetData()}
	case *ort.Scalar[int32]:
		t.data = []int32{v.GetData()}
	case *ort.Scalar[int64]:
		t.data = []int64{v.GetData()}
	case *ort.Scalar[uint8]:
		t.data = []uint8{v.GetData()}
	case *ort.Scalar[uint16]:
		t.data = []uint16{v.GetData()}
	case *ort.Scalar[uint32]:
		t.data = []uint32{v.GetData()}
	case *ort.Scalar[uint64]:
		t.data = []uint64{v.GetData()}
	case *ort.Scalar[bool]:
		t.data = []bool{v.GetData()}
	default:
		return tensor{}, fmt.Errorf("got a %T from the library", v)
	}
	return t, nil
}
