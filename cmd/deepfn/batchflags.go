package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/actions"
)

// batchFlags are the flags of a batch prediction. What none says, the file --spec says, else the
// default of actions.Batch.
type batchFlags struct {
	spec           string
	batch          actions.Batch
	chunkBytes     bytesFlag
	columns, fixed []string
	flags          *pflag.FlagSet
}

func (b *batchFlags) add(f *pflag.FlagSet) {
	b.flags = f
	in, out, of := &b.batch.Input, &b.batch.Output, &b.batch.Batching
	f.StringVar(&in.URL, "input", "", "path of a file or a folder, or the URL of an object, or with / at its end of all below it")
	f.StringVar(&out.URL, "output", "", "path or URL of a folder, which nothing else uses")
	f.StringVar(&in.Format, "format", "", "ndjson, csv, parquet, tar, zip or objects (default: told by the name)")
	f.StringVar(&in.Match, "match", "", "pattern that names in a folder or an archive have to match, such as *.png")
	f.StringVar(&in.Key, "key", "", "column that says in the output which row it was (default: the number of the row)")
	f.StringVar(&in.Delimiter, "delimiter", "", "what separates the columns of CSV (default: a comma, a tab for .tsv)")
	f.StringSliceVar(&in.Text, "text", nil, "columns of CSV that are texts, whatever they look like (default: those of arguments that are texts)")
	f.StringVar(&out.Format, "output-format", "", "ndjson, csv, parquet, tar, zip or objects (default: ndjson)")
	f.StringSliceVar(&out.Join, "join", nil, "columns of the input that each answer is given with; * is all")
	f.StringSliceVar(&out.Select, "select", nil, "members of the answer that are kept, a.b for one within another (default: all)")
	f.StringArrayVar(&b.columns, "map", nil, "ARGUMENT=COLUMN, for each argument that is not the column of its name; a.b for a part of it")
	f.StringArrayVar(&b.fixed, "arg", nil, "NAME=TEXT or NAME:=JSON that each prediction is given")
	f.IntVar(&of.Size, "batch-size", 0, "rows of one call (default: what the model says, or the engine finds best)")
	f.StringVar(&of.Argument, "batch-argument", "", "argument that takes a list of rows")
	f.BoolVar(&of.Columns, "batch-columns", false, "every argument takes a list of the values of its rows")
	f.StringVar(&of.Answer, "batch-answer", "", "member of the answer that has the list of the rows' answers")
	f.IntVar(&b.batch.Concurrency, "concurrency", 0, "calls at the same time (default: as many as there may be instances)")
	f.IntVar(&b.batch.ChunkRows, "chunk-rows", 0, "rows of a chunk, which is done as a whole or not at all (default 10000, of files 64)")
	f.Var(&b.chunkBytes, "chunk-bytes", "bytes of a chunk (default 8 MiB)")
	f.StringVar(&b.batch.MaxErrors, "max-errors", "", "rows that may fail, 100 or 1% (default: any number, but not all)")
	f.IntVar(&b.batch.Retries, "retries", 0, "tries of a row whose error may go away, beside the first; negative: none (default 5)")
	f.StringVar(&b.spec, "spec", "", "file with all that, the JSON of the API; flags win over it")
}

// addServers adds what is for a batch of a server alone.
func (b *batchFlags) addServers(f *pflag.FlagSet) {
	f.StringVar(&b.batch.Through, "through", "", "who does the chunks: URL of a Knative Broker, or openwhisk:/NAMESPACE/ACTION (default: the server)")
	f.StringVar(&b.batch.Sink, "sink", "", "URL that the events of the batch go to (default: the server's own)")
}

// read returns the batch of a command line. Paths become file URLs.
func (b *batchFlags) read(model string) (actions.Batch, error) {
	in := actions.Batch{}
	if b.spec != "" {
		text, err := os.ReadFile(b.spec)
		if err != nil {
			return in, actions.Errorf(actions.NotFound, "--spec: %w", err)
		}
		if in, err = actions.ParseBatch(text); err != nil {
			return in, hinted(err, "it is in "+b.spec)
		}
	}
	if in.Model != "" && in.Model != model {
		return in, usageError{fmt.Errorf("--spec %s is a batch of the model %s, not of %s", b.spec, in.Model, model)}
	}
	in.Model = model
	b.override(&in)
	if err := b.pairs(&in); err != nil {
		return in, err
	}
	switch {
	case in.Input.URL == "":
		return in, usageError{errors.New("--input is missing: the URL or path of what is predicted on")}
	case in.Output.URL == "":
		return in, usageError{errors.New("--output is missing: the URL or path of a folder for the answers")}
	}
	var err error
	if in.Input.URL, err = urlOfPath(in.Input.URL, false); err == nil {
		in.Output.URL, err = urlOfPath(in.Output.URL, true)
	}
	return in, err
}

// override sets what flags have set.
func (b *batchFlags) override(in *actions.Batch) {
	given := &b.batch
	if b.flags.Changed("chunk-bytes") {
		in.ChunkBytes = b.chunkBytes.Bytes
	}
	for name, set := range map[string]func(){
		"input":          func() { in.Input.URL = given.Input.URL },
		"output":         func() { in.Output.URL = given.Output.URL },
		"format":         func() { in.Input.Format = given.Input.Format },
		"match":          func() { in.Input.Match = given.Input.Match },
		"key":            func() { in.Input.Key = given.Input.Key },
		"delimiter":      func() { in.Input.Delimiter = given.Input.Delimiter },
		"text":           func() { in.Input.Text = given.Input.Text },
		"output-format":  func() { in.Output.Format = given.Output.Format },
		"join":           func() { in.Output.Join = given.Output.Join },
		"select":         func() { in.Output.Select = given.Output.Select },
		"batch-size":     func() { in.Batching.Size = given.Batching.Size },
		"batch-argument": func() { in.Batching.Argument = given.Batching.Argument },
		"batch-columns":  func() { in.Batching.Columns = given.Batching.Columns },
		"batch-answer":   func() { in.Batching.Answer = given.Batching.Answer },
		"concurrency":    func() { in.Concurrency = given.Concurrency },
		"chunk-rows":     func() { in.ChunkRows = given.ChunkRows },
		"max-errors":     func() { in.MaxErrors = given.MaxErrors },
		"retries":        func() { in.Retries = given.Retries },
		"through":        func() { in.Through = given.Through },
		"sink":           func() { in.Sink = given.Sink },
	} {
		if b.flags.Changed(name) {
			set()
		}
	}
}

// pairs adds the columns and the constant arguments.
func (b *batchFlags) pairs(in *actions.Batch) error {
	for _, text := range b.columns {
		argument, column, ok := strings.Cut(text, "=")
		if !ok || argument == "" || column == "" {
			return usageError{fmt.Errorf("--map %s: want ARGUMENT=COLUMN", text)}
		}
		if in.Map == nil {
			in.Map = map[string]string{}
		}
		in.Map[argument] = column
	}
	for _, text := range b.fixed {
		name, value, ok := strings.Cut(text, "=")
		raw := json.RawMessage(value)
		jsonName, isJSON := strings.CutSuffix(name, ":")
		if !isJSON {
			raw, _ = json.Marshal(value) // a text always can be
		}
		if !ok || jsonName == "" || !json.Valid(raw) {
			return usageError{fmt.Errorf("--arg %s: want NAME=TEXT or NAME:=JSON", text)}
		}
		if in.Arguments == nil {
			in.Arguments = map[string]json.RawMessage{}
		}
		in.Arguments[jsonName] = raw
	}
	return nil
}

// isPath says whether a text is the path of a file and no URL.
func isPath(text string) bool { return !strings.Contains(text, "://") }

// urlOfPath makes a file URL of a path, without the symbolic links in it, which a store does not
// follow. The URL of a folder ends in a slash.
func urlOfPath(text string, folder bool) (string, error) {
	if !isPath(text) {
		if folder && !strings.HasSuffix(text, "/") {
			text += "/"
		}
		return text, nil
	}
	path, err := filepath.Abs(text)
	if err != nil {
		return "", usageError{fmt.Errorf("%s: %w", text, err)}
	}
	path = withoutLinks(path)
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		folder = true
	} else if err != nil && strings.HasSuffix(text, string(filepath.Separator)) {
		folder = true
	}
	if folder && path != "/" {
		path += "/"
	}
	return (&url.URL{Scheme: "file", Path: path}).String(), nil
}

// withoutLinks is a path with the symbolic links resolved in as much of it as is there.
func withoutLinks(path string) string {
	if plain, err := filepath.EvalSymlinks(path); err == nil {
		return plain
	}
	parent := filepath.Dir(path)
	if parent == path {
		return path
	}
	return filepath.Join(withoutLinks(parent), filepath.Base(path))
}
