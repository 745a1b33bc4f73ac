// Command hello is an action as OpenWhisk's ActionLoop runs it: a line in, a line out.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	out := os.NewFile(3, "answers")
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var in struct {
			Value struct {
				Name string `json:"name"`
			} `json:"value"`
		}
		if err := json.Unmarshal(line, &in); err != nil {
			_, _ = fmt.Fprintf(out, "{\"error\":%q}\n", err.Error())
			continue
		}
		_, _ = fmt.Fprintln(os.Stdout, "name="+in.Value.Name)
		_, _ = fmt.Fprintf(out, "{\"message\":\"Hello, %s!\",\"word\":%q}\n", in.Value.Name, os.Getenv("WORD"))
	}
}
