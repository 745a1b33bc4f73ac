package gpu

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

func TestGLUE2(t *testing.T) {
	gpu := actions.Device{
		UUID: "GPU-1", Name: "NVIDIA A100-SXM4-80GB", Vendor: "NVIDIA", Driver: "570.86.15", ComputeCapability: "8.0",
		MemoryTotal: 80 << 30, Clock: new(1410e6), Health: actions.Healthy,
	}
	sick, divided, part, shared := gpu, gpu, gpu, gpu
	sick.Health, divided.MIG = actions.Unhealthy, true
	part.Parent, part.Name, part.MemoryTotal, part.Clock = "GPU-3", "NVIDIA A100-SXM4-80GB MIG 1g.10gb", 10<<30, nil
	shared.TimeSliced = true
	var text strings.Builder
	err := NewGLUE2("node1", []actions.Device{gpu, gpu, sick, divided, part, shared}, []Port{{State: "ACTIVE", Layer: "InfiniBand"}}).Write(&text)
	want := `{
  "CloudComputingInstanceType": [
    {
      "ID": "node1",
      "Name": "node1",
      "NetworkInfo": "infiniband",
      "Associations": {
        "CloudComputingVirtualAccelerator": [
          "node1_gpu0",
          "node1_gpu1",
          "node1_gpu2"
        ]
      }
    }
  ],
  "CloudComputingVirtualAccelerator": [
    {
      "ID": "node1_gpu0",
      "Name": "node1_gpu0",
      "Type": "GPU",
      "Number": 2,
      "Vendor": "NVIDIA",
      "Model": "NVIDIA A100-SXM4-80GB",
      "Version": "570.86.15",
      "ClockSpeed": 1410,
      "Memory": 81920,
      "ComputeCapability": [
        "8.0"
      ],
      "Associations": {
        "CloudComputingInstanceType": [
          "node1"
        ]
      }
    },
    {
      "ID": "node1_gpu1",
      "Name": "node1_gpu1",
      "Type": "GPU",
      "Number": 1,
      "Vendor": "NVIDIA",
      "Model": "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
      "Version": "570.86.15",
      "Memory": 10240,
      "ComputeCapability": [
        "8.0"
      ],
      "VirtualizationType": "MIG",
      "Associations": {
        "CloudComputingInstanceType": [
          "node1"
        ]
      }
    },
    {
      "ID": "node1_gpu2",
      "Name": "node1_gpu2",
      "Type": "GPU",
      "Number": 1,
      "Vendor": "NVIDIA",
      "Model": "NVIDIA A100-SXM4-80GB",
      "Version": "570.86.15",
      "ClockSpeed": 1410,
      "Memory": 81920,
      "ComputeCapability": [
        "8.0"
      ],
      "VirtualizationType": "time-slicing",
      "Associations": {
        "CloudComputingInstanceType": [
          "node1"
        ]
      }
    }
  ]
}
`
	if diff := cmp.Diff(want, text.String()); diff != "" || err != nil {
		t.Errorf("got %v (-want +got):\n%s", err, diff)
	}
	if g := NewGLUE2("node2", nil, []Port{{State: "ACTIVE", Layer: "Ethernet"}}); g.InstanceTypes[0].NetworkInfo != "" || len(g.Accelerators) != 0 {
		t.Errorf("got %+v, want neither devices nor InfiniBand", g)
	}
}
