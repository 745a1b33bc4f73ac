package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/gpu"
)

// readDevices is how long the command waits for a driver that does not answer.
const readDevices = 10 * time.Second

// A listing is what `deepfn devices --json` prints.
type listing struct {
	State   gpu.State        `json:"state"`
	Reason  string           `json:"reason,omitempty"`
	Devices []actions.Device `json:"devices"`
	Ports   []gpu.Port       `json:"infiniband"`
}

// devicesCommand shows the devices of this machine. That there are none is no error.
func devicesCommand(s *settings) *cobra.Command {
	var asJSON, asGLUE bool
	var sysfs string
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "Shows the GPUs and InfiniBand ports of this machine",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON && asGLUE {
				return usageError{errors.New("--json and --glue2: want one of them")}
			}
			if err := s.resolve(); err != nil {
				return err
			}
			l, err := listDevices(cmd.Context(), s, sysfs)
			if err != nil {
				return err
			}
			switch {
			case asJSON:
				return printJSON(cmd.OutOrStdout(), l)
			case asGLUE:
				host, err := os.Hostname()
				return errors.Join(err, gpu.NewGLUE2(cmp.Or(host, "localhost"), l.Devices, l.Ports).Write(cmd.OutOrStdout()))
			}
			return l.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&asGLUE, "glue2", false, "print JSON with the GLUE 2 attributes of an accelerator, as EGI's cloud-info-provider does")
	cmd.Flags().StringVar(&sysfs, "sysfs", "/sys", "where sysfs is, which knows the InfiniBand ports")
	return cmd
}

func listDevices(ctx context.Context, s *settings, sysfs string) (listing, error) {
	log, err := s.logger()
	if err != nil {
		return listing{}, err
	}
	monitor := gpu.Open(gpu.Config{
		Library: s.nvml, MPSPipe: s.getenv("CUDA_MPS_PIPE_DIRECTORY"), TimeSliced: gpu.TimeSliced(s.getenv), Log: log,
	})
	defer func() { _ = monitor.Close() }()
	reading, cancel := context.WithTimeout(ctx, readDevices)
	defer cancel()
	l := listing{Devices: []actions.Device{}, Ports: []gpu.Port{}}
	devices, err := monitor.Read(reading)
	if ctx.Err() != nil {
		return l, err
	}
	l.Devices = append(l.Devices, devices...)
	state, reason := monitor.State()
	if reason = cmp.Or(reason, err); reason != nil {
		l.Reason = reason.Error()
	}
	l.State = state
	ports, err := gpu.InfiniBand(sysfs)
	if err != nil {
		log.Warn("some InfiniBand ports cannot be read", "error", err)
	}
	l.Ports = append(l.Ports, ports...)
	return l, nil
}

// print writes tables for people.
func (l listing) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(l.Devices) == 0 {
		_, _ = fmt.Fprintf(w, "There is no GPU: %s.\n", cmp.Or(l.Reason, string(l.State)))
	} else {
		_, _ = fmt.Fprintln(w, "DEVICE\tNAME\tMEMORY\tCC\tUSE\tTEMP\tPOWER\tHEALTH")
		for i := range l.Devices {
			printDevice(w, &l.Devices[i])
		}
		if l.Reason != "" {
			_, _ = fmt.Fprintf(w, "\n%s.\n", l.Reason)
		}
	}
	if len(l.Ports) > 0 {
		_, _ = fmt.Fprintln(w, "\nPORT\tLAYER\tSTATE\tLINK\tRATE\tGUID")
		for _, p := range l.Ports {
			_, _ = fmt.Fprintf(w, "%s/%d\t%s\t%s\t%s\t%s\t%s\n", p.Device, p.Number, p.Layer, p.State, orDash(p.Physical), rate(p), orDash(p.GUID))
		}
	}
	return w.Flush()
}

func printDevice(w io.Writer, d *actions.Device) {
	name := d.UUID
	if d.Parent != "" {
		name = "  " + name
	}
	use := measured(d.Utilization, func(f float64) string { return fmt.Sprintf("%.0f%%", f*100) })
	temperature := measured(d.Temperature, func(f float64) string { return fmt.Sprintf("%.0f °C", f) })
	power := measured(d.Power, func(f float64) string { return fmt.Sprintf("%.0f W", f) })
	if d.Power != nil && d.PowerLimit != nil {
		power = fmt.Sprintf("%.0f / %.0f W", *d.Power, *d.PowerLimit)
	}
	_, _ = fmt.Fprintf(w, "%s\t%s\t%v / %v\t%s\t%s\t%s\t%s\t%s\n", name, orDash(d.Name), actions.Bytes(d.MemoryUsed), actions.Bytes(d.MemoryTotal),
		orDash(d.ComputeCapability), use, temperature, power, fare(d))
}

// fare is how a device fares, and how it is shared.
func fare(d *actions.Device) string {
	text := string(d.Health)
	if d.Reason != "" {
		text += ": " + d.Reason
	}
	var marks []string
	for _, mark := range []struct {
		set  bool
		text string
	}{{d.MIG, "MIG"}, {d.MPS, "MPS"}, {d.TimeSliced, "time-sliced"}} {
		if mark.set {
			marks = append(marks, mark.text)
		}
	}
	if len(marks) > 0 {
		text += " (" + strings.Join(marks, ", ") + ")"
	}
	return text
}

func rate(p gpu.Port) string {
	if p.Rate == 0 {
		return "-"
	}
	text := fmt.Sprintf("%g Gb/s", p.Rate/1e9)
	if p.Width != "" {
		text += " (" + p.Width + ")"
	}
	return text
}

func measured(value *float64, text func(float64) string) string {
	if value == nil {
		return "-"
	}
	return text(*value)
}

func orDash(s string) string { return cmp.Or(s, "-") }
