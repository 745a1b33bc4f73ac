// Package bridge is the child program for models whose image serves the DEEPaaS V2 API
// already: it starts that server, unmodified, and asks it over HTTP.
//
//	name: cats
//	runtime: http
//	http:
//	  command: [deepaas-run, --listen-ip, "127.0.0.1", --listen-port, "{port}"]
//	  port: 5000          # the default; a free one where {port} stands in command or env
//	  host: 127.0.0.1
//	  base_path: /api     # what stands before /v2/
//	  model: cats         # the server's name for it; the default is its only one
//	  ready: 10m          # how long it may take to start
//	  watchdog: 2m        # how long it may take to answer; the default is the request's time
//	  working_dir: data   # the default is the action's folder
//	  env: {MODE: fast}
//
// Without a command the server runs already.
//
// # Arguments
//
// What came as a query string or a form is sent on as it came. JSON is sent on as JSON,
// unless there is a file: the server takes files from forms alone. Then each member goes
// where the server's swagger.json says that it is looked for, or into the form. A file in
// JSON is a base64 string, a data: URI or {"data", "filename", "content_type"}, for a
// parameter that the server says is a file, or the last of these for any. The trace context
// is sent on as its two headers, traceparent and tracestate.
//
// # Faults
//
// A server that ends is started again for the next request. One that does not answer
// within the watchdog, or in the time of the request, is ended with all its processes and
// started again: a known fault of DEEPaaS leaves a request without an answer for ever
// when a model raises an HTTP error. The caller gets the error Deadline, and callers whose
// requests the server worked on at the same time get Unavailable. A caller who leaves
// before that costs nobody anything: the server is left to finish.
package bridge
