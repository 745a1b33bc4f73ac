package conformance

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// act does what the loaded action does, in Go. The caller holds the lock, except while
// the action sleeps.
func (f *fake) act(value any, doc map[string]any) string {
	args, _ := value.(map[string]any)
	has := func(text string) bool { return strings.Contains(f.code, text) }
	switch {
	case has("not a json object"):
		return notADict
	case has("hello stdout"):
		if f.fault != "lost logs" {
			fmt.Println("hello stdout")
		}
		fmt.Fprintln(os.Stderr, "hello stderr")
	case has("' ☃ '"):
		text := fmt.Sprintf("%[1]s ☃ %[1]s", args["delimiter"])
		if f.fault == "latin" {
			text = strings.ReplaceAll(text, "☃", "?")
		}
		fmt.Println(text)
		return encode(map[string]any{"winter": text})
	case has("seen = {n"):
		if f.fault == "no environment" {
			return `{"SOME_VAR":"","ANOTHER_VAR":""}`
		}
		return encode(f.env)
	case has("'__OW_' + n.upper()"):
		seen := map[string]any{"api_host": os.Getenv("__OW_API_HOST")}
		for k, v := range doc {
			if k != "value" && (k != "deadline" || f.fault != "no deadline variable") {
				seen[k] = v
			}
		}
		return encode(seen)
	case has("'NUMBER'"):
		seen := map[string]any{}
		for k, v := range f.env {
			seen[k] = v
			if _, text := v.(string); !text && f.fault != "typed environment" {
				seen[k] = encode(v)
			}
		}
		return encode(seen)
	case has("ValueError('nothing"):
		fmt.Fprintln(os.Stderr, "Traceback")
		return refusal("nothing to see here")
	case has("sys.exit(1)"):
		return refusal("command exited")
	case has("sys.version_info"):
		return `{"version":"python3.11"}`
	case has("sys.executable"):
		return `{"interpreter":"/usr/bin/python3"}`
	case has("'sorry'"):
		return `{"error":"sorry"}`
	case has("['a', 'b']"):
		return `["a","b"]`
	case has("return None"):
		if f.fault == "null answer" {
			return "null"
		}
		return "{}"
	case has("exit_later"):
		return f.tool(args, doc)
	}
	if f.fault == "swapped answers" {
		return f.swapped(value)
	}
	return encode(value)
}

// swapped gives an answer of a caller to the next one.
func (f *fake) swapped(value any) string {
	args, _ := value.(map[string]any)
	if caller, _ := args["caller"].(string); strings.HasPrefix(caller, "1-7") {
		return `{"caller":"0-7","pad":""}`
	}
	return encode(value)
}

func number(v any) float64 {
	n, _ := v.(json.Number)
	f, _ := n.Float64()
	return f
}

// tool does what tool does.
func (f *fake) tool(args, doc map[string]any) string {
	result := map[string]any{"id": args["id"]}
	if say, ok := args["say"].(string); ok {
		if f.fault != "forged sentinels" {
			say = strings.ReplaceAll(say, sentinel, "(sentinel)")
		}
		if !strings.HasSuffix(say, "\n") && f.fault != "torn lines" {
			say += "\n"
		}
		fmt.Print(say)
		fmt.Fprint(os.Stderr, say)
	}
	for i := range int(number(args["lines"])) {
		if f.fault == "late lines" && i == 1000 {
			f.end()
		}
		fmt.Printf("line %d\n", i)
		fmt.Fprintf(os.Stderr, "line %d\n", i)
	}
	if error := f.sleep(args, doc); error != "" {
		return refusal(error)
	}
	if text, ok := args["raise"].(string); ok {
		return refusal(text)
	}
	if _, ok := args["exit"]; ok {
		if f.fault == "hangs up" {
			return "hang up"
		}
		return refusal("command exited")
	}
	if names, ok := args["env"].([]any); ok {
		result["env"] = f.variables(names, doc)
	}
	if args["exists"] != nil {
		result["exists"] = []any{}
	}
	if args["pid"] == true {
		result["pid"] = os.Getpid()
		if f.fault == "new process" {
			result["pid"] = time.Now().UnixNano()
		}
	}
	if args["size"] != nil {
		result["data"] = strings.Repeat("x", int(number(args["size"])))
		if f.fault == "cut answers" {
			result["data"] = "x"
		}
	}
	return encode(result)
}

// variables is the environment that the action sees.
func (f *fake) variables(names []any, doc map[string]any) map[string]any {
	seen := map[string]any{}
	for _, n := range names {
		name := n.(string)
		seen[name] = os.Getenv(name)
		if f.fault == "bare environment" {
			seen[name] = nil
		}
		if v, ok := doc[strings.ToLower(strings.TrimPrefix(name, "__OW_"))]; ok {
			seen[name] = v
		}
		if f.fault == "old variables" && f.early != "" {
			seen[name] = f.early
		}
		f.early, _ = seen[name].(string)
	}
	return seen
}

// sleep waits as long as an action is told to, or until a little before the deadline.
func (f *fake) sleep(args, doc map[string]any) (late string) {
	d := time.Duration(number(args["sleep"]) * float64(time.Second))
	if text, ok := doc["deadline"].(string); ok && f.fault != "no deadline" {
		if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms > 1e11 {
			if left := time.Until(time.UnixMilli(ms)) - 200*time.Millisecond; left < d {
				d, late = left, "the deadline has passed"
			}
		}
	}
	if d > 0 {
		f.mu.Unlock()
		time.Sleep(d)
		f.mu.Lock()
	}
	return late
}
