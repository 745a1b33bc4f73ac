// Deepfn-knative deploys models to Knative for deepfn, which runs it as a program of its own
// so that deepfn, which runs the models, links no client of Kubernetes. It is found beside
// deepfn, else on the PATH.
//
// Usage:
//
//	deepfn-knative deploy|status|undeploy < request.json
//	deepfn-knative version
//
// On its standard input it is asked one JSON document, a wish.Request of package
// deploy/knative/wish. Fields that it does not know are an error, because they
// come from a deepfn of another version, and leaving them out would deploy something else.
// KUBECONFIG and HOME are read as kubectl reads them.
//
// Its standard output has, for
//
//   - deploy: a line for each object (created, changed, unchanged, removed or left; the kind; the
//     name), and at the end, when it waited, the state and the URL. With dry_run: YAML, and
//     nothing else.
//   - status: a table, or with json an array of knative.Status.
//   - undeploy: a line for each object, as deploy.
//
// Its standard error has warnings and, in the last line, the error. Its exit codes are those
// of deepfn: 0 done, 1 a fault of deepfn, 2 what is asked is wrong or Knative does not take it,
// 3 there is no such function, namespace or broker, 4 the cluster cannot do it (it does not
// answer, does not allow it, has no Knative, the function does not start), 5 the time was over.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, program{args: os.Args[1:], stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr})
	stop()
	os.Exit(code)
}
