// Package proxy answers HTTP in each platform's words: OpenWhisk's /init and /run, the
// DEEPaaS V2 API under /v2/, health and metrics. A protocol is one file; every handler
// is decode, invoke, encode, a function from a request value to a response value. The
// route table stands in routes.go, the HTTP library is known by server.go alone.
//
// # OpenWhisk
//
// POST /init takes {"value": {"code", "binary", "main", "env"}} and answers exactly 200
// with {"ok":true}, after the model can predict. The model is, in this order, that of
// Config, DEEPFN_MODEL of env, or that of code, which is {"model": "name"}, plain or as
// base64 with binary. The entry point main chooses the verb: predict (also "" and
// "main"), train or metadata. A body that is not JSON is 400, a second /init 403 and so
// is one without code when nothing else names a model. Everything else that keeps the
// model from being ready is 502, except for a body over the limit, 413, too many large
// bodies at once, 429, a shutdown, 503, and a panic, 500. A failed /init may be tried
// again.
//
// POST /run takes {"value": {arguments}, "activation_id", "deadline", …}. It answers 200
// also to errors, as {"error": "message"}, because any other status costs the container
// and with it the loaded model. Other statuses are 500 (no action yet, a panic), 503
// (shutting down; the platform sends the activation elsewhere) and 404 (value is
// neither an object nor an array). A model's answer becomes the result like this:
//
//	JSON object or array    the answer itself
//	other JSON              {"result": answer}
//	another media type      {"content_type", "filename", "data": base64}
//
// Before the answer is sent, the lines that the model printed for this activation are
// written to both streams, each followed by one line
//
//	XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX
//
// and never mixed with those of another activation.
//
// # DEEPaaS
//
// POST /v2/models/{model}/predict/ takes the arguments from the query string, then a form
// (multipart/form-data or application/x-www-form-urlencoded), then a JSON object: for
// each argument the first that has it. A body that is a JSON object is read as one also
// when it is called a form, as curl -d does. JSON is answered as {"status":"OK",
// "predictions": answer}, everything else as it is. The wanted media type comes from an
// argument accept or from the header Accept. Errors are {"error": message, "code":
// code}; wrong arguments are 422 with {"argument": ["message"]}.
//
// # Health
//
// GET /healthz is 200 while the process lives, /readyz when Config.Ready has no objection
// and the server is not draining, else 503 with the reason. GET /metrics is for
// Prometheus. Every answer carries X-Request-Id, the caller's if it sent a sound one.
//
// # Limits
//
// At most Config.MaxConns connections are open; those without a request make way for new
// ones. A lack of files ends nothing: accepting goes on when there are some again.
//
// A request whose client has left is given up. A connection that was reset has no client.
// One whose client has shut down its writing side looks the same as a closed one: on /run
// and /init, where some send all they have to say and then shut down, that is not the end;
// under /v2/ it is, as with most HTTP servers.
//
// A body over Config.MaxBody is refused without being kept: it is read up to a bound and
// thrown away, so that a client which writes everything before it reads gets its answer.
// All bodies in progress together are bounded by Config.MaxBodies; one for which there is
// no memory is refused as busy. Each 32 KiB of a body have 30 s to arrive, all of it 5
// minutes. A message repeats at most 200 bytes of what a caller sent.
//
// The streams of the activations' logs hold up no answer for more than a second: what
// they do not take is written later, and deepfn_activation_log_failures_total counts it.
package proxy
