package storage_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/storage"
)

func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			body, _ := io.ReadAll(r.Body)
			fmt.Printf("stored at %s: %s\n", r.URL.Path, body)
			return
		}
		_, _ = io.WriteString(w, "hello\n")
	}))
	defer server.Close()

	s, err := storage.New(storage.Config{Allow: []string{server.URL + "/in/", server.URL + "/out/"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	f, err := s.Fetch(ctx, server.URL+"/in/hello.txt", os.Stdout)
	fmt.Println(f.Filename, err)
	fmt.Println(s.Store(ctx, server.URL+"/out/a", actions.File{ContentType: "text/plain", Data: []byte("answer")}))

	_, err = s.Fetch(ctx, "https://169.254.169.254/latest/meta-data/", os.Stdout)
	fmt.Println(err)
	// Output:
	// hello
	// hello.txt <nil>
	// stored at /out/a: answer
	// <nil>
	// https://169.254.169.254/latest/meta-data/ has no public address, and the server does not reach it
}
