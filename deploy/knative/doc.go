// Package knative puts a model on a Knative: as a Service of Serving, and of Eventing a
// Broker, Triggers and a SinkBinding. What is to be there is said in the words of package
// wish, which knows nothing of Kubernetes; this one is the only package that does.
//
// # What is made
//
//   - A ConfigMap with the model's code, when the image does not hold it. Its name has the
//     hash of the code, so that other code is another revision, and an older revision keeps
//     its own.
//   - A Broker, if it is asked for and not there.
//   - A SinkBinding, before the Service, so that its first revision has K_SINK already.
//   - The Service.
//   - A Trigger for each filter.
//
// All have the labels app.kubernetes.io/managed-by: deepfn and app.kubernetes.io/instance:
// the Service's name. By them [Cluster.Remove] finds what it may remove, and [Cluster.Apply]
// the Triggers and the SinkBinding that are not wanted any more.
//
// # What is checked
//
// Each object passes Knative's own SetDefaults and Validate before it is sent, with the
// settings of the cluster as far as they may be read, else Knative's defaults. What is sent,
// and printed, is the object without the defaults: those of the cluster apply.
//
// # How it is sent
//
// By server-side apply, as the field manager deepfn: a field that somebody else has set is a
// conflict, which is told, unless it is forced. A field that is not wanted any more goes.
package knative
