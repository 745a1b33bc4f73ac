package proxy

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// MemoryLimit returns how many bytes of memory the control groups of this process
// allow, 0 without a limit. fsys is the root of the file system.
func MemoryLimit(fsys fs.FS) int64 {
	const root = "sys/fs/cgroup"
	files := []string{root + "/memory.max", root + "/memory/memory.limit_in_bytes"}
	// Outside a container the process's group is below the root.
	groups, _ := fs.ReadFile(fsys, "proc/self/cgroup")
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(parts) < 3:
		case parts[0] == "0":
			for group := parts[2]; group != "/" && group != "."; group = path.Dir(group) {
				files = append(files, path.Join(root, group, "memory.max"))
			}
		case parts[1] == "memory":
			files = append(files, path.Join(root, "memory", parts[2], "memory.limit_in_bytes"))
		}
	}
	var limit int64
	for _, file := range files {
		text, err := fs.ReadFile(fsys, file)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		// The first kind of groups says a huge number for no limit.
		if err == nil && n > 0 && n < 1<<60 && (limit == 0 || n < limit) {
			limit = n
		}
	}
	return limit
}
