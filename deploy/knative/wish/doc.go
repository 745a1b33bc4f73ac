// Package wish says what is to be on a Knative for one model, in words that know nothing
// of Kubernetes. deepfn writes them and deepfn-knative reads them, so that the program that
// runs models links no client of Kubernetes.
//
// A [Request] is one JSON document. Times in it are nanoseconds, as Go writes them.
package wish
