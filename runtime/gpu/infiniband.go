package gpu

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	// systemSysfs is where Linux shows devices.
	systemSysfs = "/sys"
	// maxPorts bounds the ports, and maxAttribute the bytes of what sysfs tells of one: it is
	// a line of a few words.
	maxPorts     = 256
	maxAttribute = 256
)

// A Port is a port of an InfiniBand adapter, or of one that speaks RDMA over Ethernet.
type Port struct {
	// Device is the adapter, "mlx5_0", and Number the port's on it, from 1.
	Device string `json:"device"`
	Number int    `json:"port"`
	// GUID identifies the adapter, "0c42:a103:0065:1d5c"; Board is its kind, "MT_0000000222".
	// Both may be empty.
	GUID  string `json:"guid,omitempty"`
	Board string `json:"board,omitempty"`
	// State is the logical state ("ACTIVE", "DOWN", "INIT", "ARMED"), Physical that of the
	// link ("LinkUp", "Polling", "Disabled"), Layer what it is ("InfiniBand", "Ethernet").
	State    string `json:"state"`
	Physical string `json:"physical_state,omitempty"`
	Layer    string `json:"link_layer"`
	// Rate is in bits per second, and Width the part of the rate that says how, "4X HDR".
	Rate  float64 `json:"rate_bits_per_second,omitempty"`
	Width string  `json:"rate_width,omitempty"`
}

// Active says whether the port carries traffic over InfiniBand, rather than Ethernet.
func (p Port) Active() bool { return p.State == "ACTIVE" && p.Layer == "InfiniBand" }

// InfiniBand lists the ports of the machine, in the order of their names. Sysfs is where sysfs
// is mounted; empty is /sys. A machine without adapters has no ports, which is no error. A port
// that cannot be read is left out, and the error says why; the others are there all the same.
func InfiniBand(sysfs string) ([]Port, error) {
	class := filepath.Join(cmp.Or(sysfs, systemSysfs), "class", "infiniband")
	folders, err := filepath.Glob(filepath.Join(escapeGlob(class), "*", "ports", "*"))
	if err != nil {
		return nil, fmt.Errorf("gpu: InfiniBand: %w", err)
	}
	var ports []Port
	var errs []error
	for _, folder := range folders[:min(len(folders), maxPorts)] {
		port, err := readPort(folder)
		if err != nil {
			errs = append(errs, fmt.Errorf("gpu: InfiniBand: %w", err))
			continue
		}
		ports = append(ports, port)
	}
	slices.SortFunc(ports, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Device, b.Device), cmp.Compare(a.Number, b.Number))
	})
	return ports, errors.Join(errs...)
}

// escapeGlob makes a path mean itself in a pattern.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

func readPort(folder string) (Port, error) {
	adapter := filepath.Dir(filepath.Dir(folder))
	number, err := strconv.Atoi(filepath.Base(folder))
	if err != nil || number < 1 {
		return Port{}, fmt.Errorf("%s: %q is no number of a port", filepath.Base(adapter), filepath.Base(folder))
	}
	p := Port{Device: text(filepath.Base(adapter)), Number: number}
	var errs [4]error
	var state, physical, rate string
	state, errs[0] = attribute(folder, "state")
	physical, errs[1] = attribute(folder, "phys_state")
	rate, errs[2] = attribute(folder, "rate")
	p.Layer, errs[3] = attribute(folder, "link_layer")
	if err := errors.Join(errs[0], errs[3]); err != nil { // without them nothing can be said
		return Port{}, fmt.Errorf("%s port %d: %w", p.Device, number, err)
	}
	p.State, p.Physical = word(state), word(physical)
	p.Rate, p.Width = parseRate(rate)
	p.GUID, _ = attribute(adapter, "node_guid")
	p.Board, _ = attribute(adapter, "board_id")
	return p, nil
}

// attribute reads a file of sysfs: one short line.
func attribute(folder, name string) (string, error) {
	path := filepath.Join(folder, name)
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() { // a pipe would block
		return "", cmp.Or(err, error(&fs.PathError{Op: "read", Path: path, Err: fs.ErrInvalid}))
	}
	f, err := os.Open(path) // #nosec G304 -- a folder of sysfs
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxAttribute))
	return text(string(data)), err
}

// text is the first line of what the kernel says, without what a terminal would act on.
func text(s string) string {
	line, _, _ := strings.Cut(strings.ToValidUTF8(s, "?"), "\n")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return -1
		}
		return r
	}, line))
}

// word is the name in a state such as "4: ACTIVE".
func word(state string) string {
	if _, name, found := strings.Cut(state, ":"); found {
		return strings.TrimSpace(name)
	}
	return state
}

// parseRate reads "200 Gb/sec (4X HDR)".
func parseRate(rate string) (bits float64, width string) {
	number, rest, _ := strings.Cut(rate, " ")
	value, err := strconv.ParseFloat(number, 64)
	if err != nil || !(value >= 0 && value < 1e6) || !strings.HasPrefix(rest, "Gb/sec") {
		return 0, ""
	}
	_, width, _ = strings.Cut(rest, "(")
	return value * 1e9, strings.TrimSuffix(width, ")")
}
