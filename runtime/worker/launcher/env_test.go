package launcher

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

func TestEnvironment(t *testing.T) {
	t.Setenv("OMP_NUM_THREADS", "7")
	t.Setenv("CUDA_VISIBLE_DEVICES", "0,1")
	t.Setenv("CUDA_MODULE_LOADING", "EAGER")
	tests := []struct {
		name string
		cfg  Config
		run  Run
		want []string
	}{
		{name: "nothing"},
		{
			name: "threads and devices", cfg: Config{Threads: 2, Devices: "GPU-1"},
			want: []string{"MKL_NUM_THREADS=2", "OPENBLAS_NUM_THREADS=2", "CUDA_VISIBLE_DEVICES=GPU-1"},
		},
		{
			name: "the order", cfg: Config{Devices: "GPU-1"},
			run: Run{
				Spec:  actionSpec(map[string]string{"CUDA_VISIBLE_DEVICES": "2", "A": "spec"}),
				Model: actions.Model{Env: map[string]string{"A": "init"}},
				Env:   []string{"A=run"},
			},
			want: []string{"CUDA_VISIBLE_DEVICES=GPU-1", "A=spec", "CUDA_VISIBLE_DEVICES=2", "A=init", "A=run"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := &Launcher{cfg: tt.cfg}
			if diff := cmp.Diff(tt.want, l.environment(&tt.run)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func actionSpec(env map[string]string) Spec { return Spec{Env: env} }

func TestAnyDevice(t *testing.T) {
	for _, tt := range []struct {
		name       string
		one, other []string
		same       bool
	}{
		{"one device", []string{"A=b", visible + "GPU-1a-2b"}, []string{"A=b", visible + "MIG-3c/0/1"}, true},
		{"two devices", []string{visible + "0,1"}, []string{visible + "GPU-1,GPU-2"}, true},
		{"more devices", []string{visible + "0"}, []string{visible + "0,1"}, false},
		{"no device", []string{visible + "0"}, []string{visible}, false},
		{"nor this", []string{visible + "0"}, []string{visible + "-1"}, false},
		{"the rest", []string{"A=b", visible + "0"}, []string{"A=c", visible + "0"}, false},
		{"any or one", nil, []string{visible + "0"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			one, other := anyDevice(tt.one), anyDevice(tt.other)
			if got := cmp.Equal(one, other); got != tt.same {
				t.Errorf("%q and %q: the same is %v, want %v", one, other, got, tt.same)
			}
		})
	}
}
