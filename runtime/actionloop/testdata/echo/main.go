// Command echo is an executable of the ActionLoop: it answers its arguments.
package main

import (
	"bufio"
	"encoding/json"
	"log"
	"os"
)

func main() {
	reply := os.NewFile(3, "reply")
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var request struct {
			Value json.RawMessage `json:"value"`
		}
		if err := json.Unmarshal(line, &request); err != nil {
			log.Fatal(err)
		}
		if _, err := reply.Write(append(request.Value, '\n')); err != nil {
			log.Fatal(err)
		}
	}
}
