package sink_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/deepfn/deepfn/actions/cloudevent"
	"github.com/deepfn/deepfn/runtime/sink"
)

func Example() {
	broker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Printf("%s from %s, cluster %s: %s\n", r.Header.Get("ce-type"), r.Header.Get("ce-source"), r.Header.Get("ce-cluster"), body)
		w.WriteHeader(http.StatusAccepted)
	}))
	defer broker.Close()

	s, err := sink.New(sink.Config{URL: broker.URL, Overrides: `{"extensions": {"cluster": "edge-7"}}`})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	err = s.Send(ctx, "", &cloudevent.Event{
		ID: "42", Source: "/models/ocr-line", Type: cloudevent.Prediction,
		DataContentType: "application/json", Data: []byte(`{"text": "hello"}`),
	})
	fmt.Println(err)
	fmt.Println(s.MaySend("http://169.254.169.254/"))
	fmt.Println(s.Close(ctx))
	// Output:
	// dev.deepfn.prediction from /models/ocr-line, cluster edge-7: {"text": "hello"}
	// <nil>
	// events go to no place that their sender names
	// <nil>
}
