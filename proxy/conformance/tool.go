package conformance

// tool is an action that does what its arguments say, in their order here, and returns
// the argument id:
//
//	say         text to print on both streams, as it is
//	lines       how many lines to print on each stream
//	sleep       seconds to wait
//	raise       text of an exception
//	exit        status with which the process ends
//	exit_later  seconds after which the process ends, when the run is over
//	env         names of variables, whose values are returned
//	exists      names of files, of which those that are there are returned
//	pid         true to return the number of the process
//	size        bytes of text to return
func tool() action {
	return action{python: pythonTool, node: nodeTool, golang: goTool}
}

const pythonTool = `import os, sys, threading, time
def main(args):
    result = {"id": args.get("id")}
    if "say" in args:
        sys.stdout.write(args["say"])
        sys.stderr.write(args["say"])
    for i in range(args.get("lines", 0)):
        print("line %d of %s" % (i, args.get("id")))
        print("line %d of %s" % (i, args.get("id")), file=sys.stderr)
    time.sleep(args.get("sleep", 0))
    if "raise" in args:
        raise ValueError(args["raise"])
    if "exit" in args:
        os._exit(args["exit"])
    if "exit_later" in args:
        threading.Timer(args["exit_later"], os._exit, [3]).start()
    if "env" in args:
        result["env"] = {n: os.environ.get(n) for n in args["env"]}
    if "exists" in args:
        here = os.path.dirname(os.path.abspath(__file__))
        result["exists"] = [n for n in args["exists"] if os.path.lexists(n) or os.path.lexists(os.path.join(here, n))]
    if args.get("pid"):
        result["pid"] = os.getpid()
    if "size" in args:
        result["data"] = "x" * args["size"]
    return result
`

const nodeTool = `const fs = require("fs");
async function main(args) {
  const result = { id: args.id === undefined ? null : args.id };
  if (args.say !== undefined) { process.stdout.write(args.say); process.stderr.write(args.say); }
  for (let i = 0; i < (args.lines || 0); i++) {
    console.log("line " + i + " of " + args.id);
    console.error("line " + i + " of " + args.id);
  }
  if (args.sleep) await new Promise((done) => setTimeout(done, args.sleep * 1000));
  if (args.raise !== undefined) throw new Error(args.raise);
  if (args.exit !== undefined) process.exit(args.exit);
  if (args.exit_later !== undefined) setTimeout(() => process.exit(3), args.exit_later * 1000);
  if (args.env) {
    result.env = {};
    for (const n of args.env) result.env[n] = process.env[n] === undefined ? null : process.env[n];
  }
  if (args.exists) result.exists = args.exists.filter((n) => fs.existsSync(n));
  if (args.pid) result.pid = process.pid;
  if (args.size !== undefined) result.data = "x".repeat(args.size);
  return result;
}
`

const goTool = `package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

func Main(args map[string]interface{}) map[string]interface{} {
	result := map[string]interface{}{"id": args["id"]}
	if say, ok := args["say"].(string); ok {
		fmt.Print(say)
		fmt.Fprint(os.Stderr, say)
	}
	if n, ok := args["lines"].(float64); ok {
		for i := 0; i < int(n); i++ {
			fmt.Printf("line %d of %v\n", i, args["id"])
			fmt.Fprintf(os.Stderr, "line %d of %v\n", i, args["id"])
		}
	}
	if s, ok := args["sleep"].(float64); ok {
		time.Sleep(time.Duration(s * float64(time.Second)))
	}
	if text, ok := args["raise"].(string); ok {
		return map[string]interface{}{"error": text}
	}
	if code, ok := args["exit"].(float64); ok {
		os.Exit(int(code))
	}
	if s, ok := args["exit_later"].(float64); ok {
		time.AfterFunc(time.Duration(s*float64(time.Second)), func() { os.Exit(3) })
	}
	if names, ok := args["env"].([]interface{}); ok {
		seen := map[string]interface{}{}
		for _, n := range names {
			if value, there := os.LookupEnv(n.(string)); there {
				seen[n.(string)] = value
			} else {
				seen[n.(string)] = nil
			}
		}
		result["env"] = seen
	}
	if names, ok := args["exists"].([]interface{}); ok {
		there := []interface{}{}
		for _, n := range names {
			if _, err := os.Lstat(n.(string)); err == nil {
				there = append(there, n)
			}
		}
		result["exists"] = there
	}
	if args["pid"] == true {
		result["pid"] = os.Getpid()
	}
	if n, ok := args["size"].(float64); ok {
		result["data"] = strings.Repeat("x", int(n))
	}
	return result
}
`
