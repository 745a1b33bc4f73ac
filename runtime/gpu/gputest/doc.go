// Package gputest makes NVIDIA's libraries without a GPU, for tests: libnvidia-ml.so.1 (NVML)
// and libcuda.so.1 (the functions for checkpoints), compiled from C and loaded like the real
// ones. What they answer is what the test says, also while they are in use.
//
//	lib := gputest.NVML(t, gputest.Full)
//	lib.Set(gputest.State{GPUs: []gputest.GPU{gputest.A100(0)}})
//	cmd.Env = append(cmd.Env, "DEEPFN_NVML="+lib.Path())
//
// NVML's functions are bound once in a process: the first library that a process has used is
// the one that it has. So a test with a library of its own starts a process of its own.
//
// # The file
//
// A library reads <its own path>.state in each call: lines of fields with '|' between them.
//
//	serial|N                         counts of calls begin again when N changes
//	driver|VERSION, cuda|NUMBER      versions, CUDA's as 1000·major + 10·minor
//	gpu|UUID|NAME|PCI|TOTAL|USED|ECC|MAJOR|MINOR|ARCHITECTURE|UTILIZATION|TEMPERATURE|POWER|LIMIT|CLOCK|MIG|SILENT|LOST
//	mig|GPU|UUID|TOTAL|USED|GI|CI|GPU SLICES|COMPUTE SLICES
//	process|UUID|PID|BYTES|C, G or M
//	rule|FUNCTION|CODE|GPU or -1|AFTER|MILLISECONDS
//	event|NUMBER|GPU|TYPE|DATA|GI|CI
//
// A rule has a function wait for so long and then, when it was called more than AFTER times,
// answer the code. The rule "handle" is about the handle of one GPU. Units are NVML's own: bytes,
// percent, degrees, milliwatts, megahertz. The other library reads rules alone, and writes what
// it was called for to <its own path>.calls.
package gputest
