package benchmarks

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	sdk "github.com/cloudevents/sdk-go/v2"
)

// An eventClient sends messages on one connection, with next to no work of its own: it is the
// receivers that are measured. Every event is another one: its id is a number in the place of
// the marks.
type eventClient struct {
	conn    rawConn
	in      *bufio.Reader
	message []byte
	at      []int  // of the ids in the message, none in what is no event
	next    int    // the number of the last id
	want    string // in an answer, for each event
	answer  []byte // its memory is used again
	times   []time.Duration
}

const idMark = "id-00000000"

// dialEvents dials a receiver, for one event in a mode, or a batch of several. Clients of one
// receiver have numbers below 10.
func dialEvents(b *testing.B, address string, number int, structured bool, n int) *eventClient {
	b.Helper()
	event := `{"specversion":"1.0","id":"` + idMark + `","source":"/sensors/1","type":"com.example.reading","time":"2026-11-30T01:02:03Z","datacontenttype":"application/json","data":{"n":41}}`
	contentType, attributes, body := sdk.ApplicationCloudEventsJSON, "", event
	switch {
	case n > 1:
		contentType, body = sdk.ApplicationCloudEventsBatchJSON, "["+event+strings.Repeat(","+event, n-1)+"]"
	case !structured:
		contentType, body = sdk.ApplicationJSON, `{"n":41}`
		attributes = "Ce-Specversion: 1.0\r\nCe-Id: " + idMark + "\r\nCe-Source: /sensors/1\r\n" +
			"Ce-Type: com.example.reading\r\nCe-Time: 2026-11-30T01:02:03Z\r\n"
	}
	c := dialRaw(b, address, "/", "Content-Type: "+contentType+"\r\n"+attributes, body)
	c.next, c.want = 10_000_000*number, `{"n":`
	if n > 1 {
		c.want = `"type":"dev.deepfn.prediction"`
	}
	for from := 0; ; {
		i := bytes.Index(c.message[from:], []byte(idMark))
		if i < 0 {
			break
		}
		c.at = append(c.at, from+i)
		from += i + len(idMark)
	}
	if len(c.at) != n {
		b.Fatalf("got %d events in the message, want %d", len(c.at), n)
	}
	return c
}

// dialRaw dials a receiver for a message, which is a POST.
func dialRaw(b *testing.B, address, path, header, body string) *eventClient {
	b.Helper()
	conn := dialBlocking(b, address)
	return &eventClient{
		conn: conn, in: bufio.NewReaderSize(conn, 64<<10),
		message: fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n%s", path, address, header, len(body), body),
	}
}

// events is how many events a message has.
func (c *eventClient) events() int { return max(1, len(c.at)) }

// messages is how many messages a round has.
func (c *eventClient) messages() int { return max(1, eventsOfRound/c.events()) }

// round sends the messages of a round.
func (c *eventClient) round(b *testing.B) {
	b.Helper()
	for range c.messages() {
		for _, at := range c.at {
			c.next++
			const prefix = len("id")
			strconv.AppendInt(c.message[at:at+prefix], 100_000_000+int64(c.next), 10)
			c.message[at+prefix] = '-' // in the place of the first digit
		}
		began := time.Now()
		if err := c.send(); err != nil {
			b.Error(err)
			return
		}
		c.times = append(c.times, time.Since(began))
	}
}

// send sends the message and reads its answer.
func (c *eventClient) send() error {
	if _, err := c.conn.Write(c.message); err != nil {
		return err
	}
	length := -1
	status, err := c.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("got %q", status)
	}
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == len("\r\n") {
			break
		}
		const name = "content-length: "
		if len(line) > len(name) && line[0]|0x20 == 'c' && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return fmt.Errorf("got an answer of unknown length")
	}
	if length > len(c.answer) {
		c.answer = make([]byte, length)
	}
	if _, err := io.ReadFull(c.in, c.answer[:length]); err != nil {
		return err
	}
	if got := bytes.Count(c.answer[:length], []byte(c.want)); got < c.events() {
		return fmt.Errorf("got %d answers, want %d: %.200s", got, c.events(), c.answer[:length])
	}
	return nil
}
