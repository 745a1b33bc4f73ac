package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// settings are what all commands share: flags, each with a variable of the
// environment behind it. A flag wins over its variable.
type settings struct {
	getenv func(string) string
	stderr io.Writer

	catalog     []string
	cache       string
	data        string
	python      string
	offline     bool
	onnxruntime string
	threads     int
	device      string
	nvml        string
	libcuda     string
	logLevel    string
	quiet       bool // stderr has a progress bar: no lines of level info between it
	flags       *pflag.FlagSet
}

func (s *settings) addFlags(flags *pflag.FlagSet) {
	s.flags = flags
	flags.StringSliceVar(&s.catalog, "catalog", nil, "folders of actions, each NAME/action.yaml (DEEPFN_CATALOG, separated by ':')")
	flags.StringVar(&s.cache, "cache", "", "folder for fetched files and optimised models (DEEPFN_CACHE; default: deepfn in the user's cache folder)")
	flags.StringVar(&s.data, "data", "", "folder for what must be kept: added modules, trained models, jobs (DEEPFN_DATA; default: deepfn in\nXDG_DATA_HOME or ~/.local/share)")
	flags.StringVar(&s.python, "python", "", "interpreter for Python models that name none, and that fetches packages (DEEPFN_PYTHON; default python3)")
	flags.BoolVar(&s.offline, "offline", false, "never fetch anything (DEEPFN_OFFLINE=1)")
	flags.StringVar(&s.onnxruntime, "onnxruntime", "", "libonnxruntime to load (DEEPFN_ONNXRUNTIME; default: fetched)")
	flags.IntVar(&s.threads, "threads", 0, "threads inside one operator of a model (DEEPFN_THREADS; default 1 for ONNX; Python models decide)")
	flags.StringVar(&s.device, "device", "", "auto, cpu or cuda (DEEPFN_DEVICE; default auto: CUDA where there is one)")
	flags.StringVar(&s.nvml, "nvml", "", "libnvidia-ml.so.1, which knows the GPUs (DEEPFN_NVML; default: where the system has it)")
	flags.StringVar(&s.libcuda, "libcuda", "", "libcuda.so.1, which suspends processes (DEEPFN_LIBCUDA; default: where the system has it)")
	flags.StringVar(&s.logLevel, "log-level", "", "debug, info, warn or error (DEEPFN_LOG_LEVEL; default info on a terminal and on\nKnative, else warn, because OpenWhisk takes stderr for the activation's log)")
}

// resolve fills in from the environment what no flag has set, and checks it.
func (s *settings) resolve() error {
	fromEnv := func(flag, name string, value *string) {
		if !s.flags.Changed(flag) {
			*value = s.getenv(name)
		}
	}
	if !s.flags.Changed("catalog") {
		s.catalog = filepath.SplitList(s.getenv("DEEPFN_CATALOG"))
	}
	fromEnv("cache", "DEEPFN_CACHE", &s.cache)
	fromEnv("data", "DEEPFN_DATA", &s.data)
	fromEnv("python", "DEEPFN_PYTHON", &s.python)
	fromEnv("onnxruntime", "DEEPFN_ONNXRUNTIME", &s.onnxruntime)
	fromEnv("device", "DEEPFN_DEVICE", &s.device)
	fromEnv("nvml", "DEEPFN_NVML", &s.nvml)
	fromEnv("libcuda", "DEEPFN_LIBCUDA", &s.libcuda)
	fromEnv("log-level", "DEEPFN_LOG_LEVEL", &s.logLevel)
	if v := s.getenv("DEEPFN_OFFLINE"); v != "" && !s.flags.Changed("offline") {
		offline, err := strconv.ParseBool(v)
		if err != nil {
			return usageError{fmt.Errorf("DEEPFN_OFFLINE=%s: want 1 or 0", v)}
		}
		s.offline = offline
	}
	if v := s.getenv("DEEPFN_THREADS"); v != "" && !s.flags.Changed("threads") {
		n, err := strconv.Atoi(v)
		if err != nil {
			return usageError{fmt.Errorf("DEEPFN_THREADS=%s: want a number", v)}
		}
		s.threads = n
	}
	if s.threads < 0 || s.threads > 1024 {
		return usageError{fmt.Errorf("--threads %d: want 1 to 1024", s.threads)}
	}
	switch s.device {
	case "", "auto", "cpu", "cuda":
	default:
		return usageError{fmt.Errorf("--device %s: want auto, cpu or cuda", s.device)}
	}
	for _, dir := range s.catalog {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return usageError{fmt.Errorf("--catalog %s: there is no such folder", dir)}
		}
	}
	return errors.Join(s.resolveFolder("cache", &s.cache, os.UserCacheDir), s.resolveFolder("data", &s.data, userDataDir))
}

// resolveFolder makes a folder of ours absolute; the default is deepfn in the user's.
func (s *settings) resolveFolder(flag string, folder *string, users func() (string, error)) error {
	if *folder == "" {
		dir, err := users()
		if err != nil {
			return usageError{fmt.Errorf("no folder for --%[1]s: %[2]w; name one with --%[1]s or DEEPFN_%[3]s", flag, err, strings.ToUpper(flag))}
		}
		*folder = filepath.Join(dir, "deepfn")
	}
	abs, err := filepath.Abs(*folder)
	if err != nil {
		return usageError{fmt.Errorf("--%s %s: %w", flag, *folder, err)}
	}
	*folder = abs
	return nil
}

// userDataDir returns the folder for a user's data, as the XDG base directory
// specification has it.
func userDataDir() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".local", "share"), err
}

// modules is the folder of the modules that were added.
func (s *settings) modules() string { return filepath.Join(s.data, "modules") }

// devices are the GPUs that Python models see, in the syntax of CUDA_VISIBLE_DEVICES;
// empty leaves that to the environment.
func (s *settings) devices() string {
	if s.device == "cpu" {
		return "-1"
	}
	return ""
}

// logger returns the logger of the commands, on stderr.
func (s *settings) logger() (*slog.Logger, error) {
	level := slog.LevelWarn
	switch {
	case s.logLevel != "":
		if err := level.UnmarshalText([]byte(s.logLevel)); err != nil {
			return nil, usageError{fmt.Errorf("--log-level %s: want debug, info, warn or error", s.logLevel)}
		}
	case !s.quiet && isTerminal(s.stderr) || s.getenv("K_SERVICE") != "":
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(s.stderr, &slog.HandlerOptions{Level: level})), nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// duration reads a duration from the environment variable unless the flag was given.
func (s *settings) duration(flags *pflag.FlagSet, flag, name string, value *time.Duration) error {
	v := s.getenv(name)
	if v == "" || flags.Changed(flag) {
		return nil
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		return usageError{fmt.Errorf("%s=%s: want a duration such as 10m; %w", name, strings.TrimSpace(v), err)}
	}
	*value = d
	return nil
}
