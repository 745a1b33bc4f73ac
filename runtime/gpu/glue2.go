package gpu

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/deepfn/deepfn/actions"
)

// A GLUE2 document describes devices as EGI's cloud-info-provider publishes those of a site: its
// objects and attributes have the names that it gives them.
type GLUE2 struct {
	InstanceTypes []GLUE2InstanceType `json:"CloudComputingInstanceType"`
	Accelerators  []GLUE2Accelerator  `json:"CloudComputingVirtualAccelerator"`
}

// A GLUE2InstanceType is the machine that the devices are in.
type GLUE2InstanceType struct {
	ID           string              `json:"ID"`
	Name         string              `json:"Name"`
	NetworkInfo  string              `json:"NetworkInfo,omitempty"`
	Associations map[string][]string `json:"Associations,omitempty"`
}

// A GLUE2Accelerator is a number of devices that are the same.
type GLUE2Accelerator struct {
	ID   string `json:"ID"`
	Name string `json:"Name"`
	// Type is GPU, Number how many there are, Model the product, and Version the driver's.
	Type    string `json:"Type"`
	Number  int    `json:"Number"`
	Vendor  string `json:"Vendor,omitempty"`
	Model   string `json:"Model,omitempty"`
	Version string `json:"Version,omitempty"`
	// ClockSpeed is in megahertz, Memory of one device in mebibytes.
	ClockSpeed int64 `json:"ClockSpeed,omitempty"`
	Memory     int64 `json:"Memory,omitempty"`
	// ComputeCapability are CUDA's.
	ComputeCapability []string `json:"ComputeCapability"`
	// VirtualizationType says how a device is shared: "MIG", "MPS" or "time-slicing". It is
	// absent for a GPU that is whole.
	VirtualizationType string              `json:"VirtualizationType,omitempty"`
	Associations       map[string][]string `json:"Associations,omitempty"`
}

// NewGLUE2 describes the devices that instances can be placed on, and the network. Host names
// the machine. Devices of one model, memory and way of sharing are one accelerator.
func NewGLUE2(host string, devices []actions.Device, ports []Port) GLUE2 {
	machine := GLUE2InstanceType{ID: host, Name: host}
	if slices.ContainsFunc(ports, Port.Active) {
		machine.NetworkInfo = "infiniband"
	}
	g := GLUE2{Accelerators: []GLUE2Accelerator{}}
	for i := range devices {
		d := &devices[i]
		if !d.Usable() {
			continue
		}
		a := accelerator(d)
		same := slices.IndexFunc(g.Accelerators, func(b GLUE2Accelerator) bool {
			return a.Model == b.Model && a.Memory == b.Memory && a.VirtualizationType == b.VirtualizationType
		})
		if same >= 0 {
			g.Accelerators[same].Number++
			continue
		}
		a.ID = fmt.Sprintf("%s_gpu%d", host, len(g.Accelerators))
		a.Name = a.ID
		a.Associations = map[string][]string{"CloudComputingInstanceType": {host}}
		g.Accelerators = append(g.Accelerators, a)
	}
	var ids []string
	for _, a := range g.Accelerators {
		ids = append(ids, a.ID)
	}
	if len(ids) > 0 {
		machine.Associations = map[string][]string{"CloudComputingVirtualAccelerator": ids}
	}
	g.InstanceTypes = []GLUE2InstanceType{machine}
	return g
}

func accelerator(d *actions.Device) GLUE2Accelerator {
	a := GLUE2Accelerator{
		Type: "GPU", Number: 1, Vendor: d.Vendor, Model: d.Name, Version: d.Driver, Memory: d.MemoryTotal >> 20,
		ComputeCapability: []string{},
	}
	if d.ComputeCapability != "" {
		a.ComputeCapability = []string{d.ComputeCapability}
	}
	if d.Clock != nil {
		a.ClockSpeed = int64(*d.Clock / 1e6)
	}
	switch {
	case d.Parent != "":
		a.VirtualizationType = "MIG"
	case d.MPS:
		a.VirtualizationType = "MPS"
	case d.TimeSliced:
		a.VirtualizationType = "time-slicing"
	}
	return a
}

// Write writes the document as JSON.
func (g GLUE2) Write(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(g); err != nil {
		return fmt.Errorf("gpu: GLUE 2: %w", err)
	}
	return nil
}
