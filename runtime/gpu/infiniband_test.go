package gpu

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// sysfs lays out the files of ports: "mlx5_0/ports/1/state" and so on.
func sysfs(tb testing.TB, files map[string]string) string {
	tb.Helper()
	root := tb.TempDir()
	for name, content := range files {
		path := filepath.Join(root, "class/infiniband", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return root
}

func TestInfiniBand(t *testing.T) {
	root := sysfs(t, map[string]string{
		"mlx5_1/node_guid":          "0c42:a103:0065:1d5d\n",
		"mlx5_1/ports/1/state":      "1: DOWN\n",
		"mlx5_1/ports/1/phys_state": "3: Disabled\n",
		"mlx5_1/ports/1/rate":       "10 Gb/sec (4X SDR)\n",
		"mlx5_1/ports/1/link_layer": "Ethernet\n",
		"mlx5_0/node_guid":          "0c42:a103:0065:1d5c\n",
		"mlx5_0/board_id":           "MT_0000000222\n",
		"mlx5_0/ports/2/state":      "4: ACTIVE\n",
		"mlx5_0/ports/2/phys_state": "5: LinkUp\n",
		"mlx5_0/ports/2/rate":       "2.5 Gb/sec (1X SDR)\n",
		"mlx5_0/ports/2/link_layer": "InfiniBand\n",
		"mlx5_0/ports/1/state":      "2: INIT\n",
		"mlx5_0/ports/1/link_layer": "InfiniBand\n",
	})
	ports, err := InfiniBand(root)
	want := []Port{
		{Device: "mlx5_0", Number: 1, GUID: "0c42:a103:0065:1d5c", Board: "MT_0000000222", State: "INIT", Layer: "InfiniBand"},
		{
			Device: "mlx5_0", Number: 2, GUID: "0c42:a103:0065:1d5c", Board: "MT_0000000222", State: "ACTIVE", Physical: "LinkUp",
			Layer: "InfiniBand", Rate: 2.5e9, Width: "1X SDR",
		},
		{
			Device: "mlx5_1", Number: 1, GUID: "0c42:a103:0065:1d5d", State: "DOWN", Physical: "Disabled", Layer: "Ethernet",
			Rate: 10e9, Width: "4X SDR",
		},
	}
	if diff := cmp.Diff(want, ports); diff != "" || err != nil {
		t.Errorf("got %v (-want +got):\n%s", err, diff)
	}
	if ports[0].Active() || !ports[1].Active() || ports[2].Active() {
		t.Errorf("got %v, want the second alone active", ports)
	}
	if ports, err = InfiniBand(filepath.Join(root, "[nothing]*")); len(ports) != 0 || err != nil {
		t.Errorf("got %v, %v, want no ports", ports, err)
	}
}

// TestInfiniBandHostile reads what no kernel writes. One bad port does not hide the others.
func TestInfiniBandHostile(t *testing.T) {
	good := map[string]string{"good/ports/1/state": "4: ACTIVE", "good/ports/1/link_layer": "InfiniBand"}
	for name, tt := range map[string]struct {
		file, content string
		fault         bool
	}{
		"endless":         {"bad/ports/1/state", strings.Repeat("x", 1<<20), false},
		"control":         {"bad/ports/1/state", "4: \x1b[2JA\x00CTIVE\xff\nmore", false},
		"no number":       {"bad/ports/one/state", "4: ACTIVE", true},
		"zero":            {"bad/ports/0/state", "4: ACTIVE", true},
		"huge rate":       {"bad/ports/1/rate", "1e308 Gb/sec (", false},
		"not a rate":      {"bad/ports/1/rate", "NaN Gb/sec", false},
		"negative":        {"bad/ports/1/rate", "-5 Gb/sec", false},
		"nothing":         {"bad/ports/1/state", "", false},
		"a folder":        {"bad/ports/1/state/x", "", true},
		"no state at all": {"bad/ports/1/rate2", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{tt.file: tt.content}
			folder := filepath.Dir(strings.TrimSuffix(tt.file, "/x"))
			files[folder+"/link_layer"] = "InfiniBand"
			if !tt.fault {
				if _, ok := files[folder+"/state"]; !ok {
					files[folder+"/state"] = "4: ACTIVE"
				}
			}
			maps.Copy(files, good)
			ports, err := InfiniBand(sysfs(t, files))
			if (err != nil) != tt.fault || len(ports) == 0 || ports[len(ports)-1].Device != "good" {
				t.Fatalf("got %v, %v, want the good port, and an error %v", ports, err, tt.fault)
			}
			for _, p := range ports {
				if len(p.State) > maxAttribute || strings.ContainsAny(p.State, "\x1b\x00\n") || !(p.Rate >= 0 && p.Rate < 1e15) {
					t.Errorf("got %+v", p)
				}
			}
		})
	}
	root := sysfs(t, map[string]string{"bad/ports/1/link_layer": "InfiniBand"})
	if err := unix.Mkfifo(filepath.Join(root, "class/infiniband/bad/ports/1/state"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ports, err := InfiniBand(root); err == nil || len(ports) != 0 {
		t.Errorf("a pipe: got %v, %v, want an error at once", ports, err)
	}
}

func FuzzPort(f *testing.F) {
	f.Add("4: ACTIVE\n", "200 Gb/sec (4X HDR)\n", "InfiniBand\n")
	f.Add("", "1e9 Gb/sec", "\xff\n")
	f.Fuzz(func(t *testing.T, state, rate, layer string) {
		root := sysfs(t, map[string]string{"a/ports/1/state": state, "a/ports/1/rate": rate, "a/ports/1/link_layer": layer})
		ports, err := InfiniBand(root)
		if err != nil || len(ports) != 1 || !(ports[0].Rate >= 0 && ports[0].Rate < 1e15) || strings.ContainsAny(ports[0].State+ports[0].Layer, "\n\x1b") {
			t.Errorf("got %+v, %v", ports, err)
		}
	})
}
