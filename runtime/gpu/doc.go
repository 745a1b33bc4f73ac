// Package gpu knows the devices: what NVIDIA's driver says of GPUs and MIG instances, how they
// fare, which InfiniBand ports the machine has, how much memory models were seen to take, and
// the driver's own checkpoints of processes.
//
// Nothing of it is required of a machine. [Open] and [OpenCheckpoint] always return something
// that can be used; without a GPU, without the driver or with one that is broken it says so.
//
// # NVML
//
// libnvidia-ml.so.1 is loaded when it is there. Three things are guarded against, because each
// of them would end the process or hang it:
//
//   - A function that a library lacks ends the process at its first call. So each is looked up
//     before it is called, under each of its versions: the binding takes the newest one that is
//     there.
//   - Functions are bound once in a process. A second library would be opened, and the first one
//     called. So a library whose functions are not those that would be called is refused.
//   - A driver may take forever. So it is called by goroutines of a [Monitor] alone, and who
//     asks waits as long as its context allows.
//
// Return codes are put into words here: the binding would ask the library for them, which has
// the same risk.
//
// # CUDA
//
// libcuda.so.1 is only asked for checkpoints. cuInit is what its functions need; it creates no
// context, so this process takes no memory of a device.
package gpu
