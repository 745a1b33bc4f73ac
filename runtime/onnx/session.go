package onnx

import (
	"context"
	"errors"
	"fmt"
	"strings"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/deepfn/deepfn/actions"
)

// The execution providers.
const (
	providerCPU  = "CPUExecutionProvider"
	providerCUDA = "CUDAExecutionProvider"
)

// A session is a loaded model. Many may run it at a time.
type session struct {
	s        *ort.DynamicAdvancedSession
	inputs   []port
	outputs  []port // those that are asked for
	provider string
	cache    string
}

// sessionConfig says what to load.
type sessionConfig struct {
	path    string
	inputs  []port
	outputs []port
	threads int
	device  string
	cache   cache
	// accelerate gives a session to the GPU; appendCUDA does.
	accelerate func(*ort.SessionOptions) error
}

// openSession loads the model for the device. With auto it tries a GPU first.
func openSession(c sessionConfig) (*session, error) {
	s := &session{inputs: c.inputs, outputs: c.outputs}
	if c.device != "cpu" {
		err := s.open(c, c.path, providerCUDA, level(ort.GraphOptimizationLevelEnableAll), "")
		if err == nil {
			s.provider, s.cache = providerCUDA, cacheOff
			return s, nil
		}
		if c.device == "cuda" {
			return nil, fmt.Errorf("the device is cuda, but the model cannot be loaded there: %w", err)
		}
	}
	s.provider = providerCPU
	return s, s.openCached(c)
}

// openCached loads the optimised model from the cache, or optimises the model and puts
// it there.
func (s *session) openCached(c sessionConfig) error {
	s.cache = cacheOff
	if path, ok := c.cache.find(); ok {
		if s.open(c, path, providerCPU, level(ort.GraphOptimizationLevelDisableAll), "") == nil {
			s.cache = cacheHit
			return nil
		}
		c.cache.discard(path)
	}
	if c.cache.enabled() {
		temp, err := c.cache.temp()
		if err == nil {
			err = s.open(c, c.path, providerCPU, level(ort.GraphOptimizationLevelEnableAll), temp)
			if err == nil {
				s.cache = c.cache.keep(temp)
				return nil
			}
			c.cache.discard(temp)
		}
		// The model or the cache is at fault: without the cache it shows which.
		s.cache = "unusable: " + err.Error()
	}
	return s.open(c, c.path, providerCPU, level(ort.GraphOptimizationLevelEnableAll), "")
}

type level ort.GraphOptimizationLevel

// open creates the session. save is where the optimised model is written, if anywhere.
func (s *session) open(c sessionConfig, path, provider string, l level, save string) error {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return err
	}
	defer o.Destroy() //nolint:errcheck // it always succeeds
	err = errors.Join(
		o.SetIntraOpNumThreads(c.threads),
		o.SetInterOpNumThreads(1),
		o.SetExecutionMode(ort.ExecutionModeSequential),
		o.SetGraphOptimizationLevel(ort.GraphOptimizationLevel(l)),
		o.SetLogSeverityLevel(ort.LoggingLevelFatal),
		// Spinning threads take the processor from their neighbours.
		o.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
		o.AddSessionConfigEntry("session.inter_op.allow_spinning", "0"),
	)
	if err == nil && save != "" {
		err = o.SetOptimizedModelFilePath(save)
	}
	if err == nil && provider == providerCUDA {
		err = c.accelerate(o)
	}
	if err != nil {
		return err
	}
	s.s, err = ort.NewDynamicAdvancedSession(path, names(c.inputs), names(c.outputs), o)
	return err
}

func appendCUDA(o *ort.SessionOptions) error {
	cuda, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	defer cuda.Destroy() //nolint:errcheck // it always succeeds
	err = cuda.Update(map[string]string{
		// The default tries every algorithm for each new shape.
		"cudnn_conv_algo_search": "HEURISTIC",
		// The default doubles the arena, on a device that others share.
		"arena_extend_strategy": "kSameAsRequested",
	})
	if err != nil {
		return err
	}
	return o.AppendExecutionProviderCUDA(cuda)
}

func names(ports []port) []string {
	out := make([]string, len(ports))
	for i, p := range ports {
		out[i] = p.name
	}
	return out
}

// run runs the model. The inputs are in the order of s.inputs, and so are the outputs.
func (s *session) run(ctx context.Context, in []tensor) (out []tensor, err error) {
	values := make([]ort.Value, 0, len(in)+len(s.outputs))
	defer func() {
		for _, v := range values {
			if v != nil {
				_ = v.Destroy()
			}
		}
	}()
	for i, t := range in {
		v, err := newValue(t)
		if err != nil {
			return nil, fmt.Errorf("input %s: %w", s.inputs[i].name, err)
		}
		values = append(values, v)
	}
	for _, p := range s.outputs {
		v, err := placeholder(p)
		if err != nil {
			return nil, fmt.Errorf("output %s: %w", p.name, err)
		}
		values = append(values, v)
	}
	if err := s.runValues(ctx, values[:len(in)], values[len(in):]); err != nil {
		return nil, err
	}
	for i, v := range values[len(in):] {
		t, err := fromValue(s.outputs[i], v)
		if err != nil {
			return nil, fmt.Errorf("output %s: %w", s.outputs[i].name, err)
		}
		out = append(out, t)
	}
	return out, nil
}

// runValues runs the model and stops it when ctx ends.
func (s *session) runValues(ctx context.Context, in, out []ort.Value) error {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	if ctx.Done() == nil {
		return failed(s.s.Run(in, out))
	}
	o, err := ort.NewRunOptions()
	if err != nil {
		return err
	}
	defer o.Destroy() //nolint:errcheck // it always succeeds
	terminated := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(terminated)
		_ = o.Terminate() // without success the run takes its time
	})
	err = s.s.RunWithOptions(in, out, o)
	if !stop() {
		<-terminated
	}
	if err != nil && ctx.Err() != nil {
		return ended(ctx)
	}
	return failed(err)
}

func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return actions.Errorf(actions.Deadline, "the time for the request is over")
	}
	return actions.Errorf(actions.Canceled, "the caller has gone")
}

func failed(err error) error {
	if err == nil {
		return nil
	}
	msg := strings.TrimPrefix(err.Error(), "Error running network: ")
	return &actions.Error{Code: actions.Failed, Msg: "the model raised an error: " + msg, Err: err}
}

func (s *session) close() {
	if s.s != nil {
		_ = s.s.Destroy()
	}
}

// fits says in words why a shape is not one that the port takes; empty when it is.
func (p port) fits(shape []int64) string {
	if p.shape == nil {
		return ""
	}
	ok := len(shape) == len(p.shape)
	for i := 0; ok && i < len(shape); i++ {
		ok = p.shape[i] < 0 || p.shape[i] == shape[i]
	}
	if ok {
		return ""
	}
	return "got the shape " + shapeText(shape) + ", the model takes " + shapeText(p.shape)
}
