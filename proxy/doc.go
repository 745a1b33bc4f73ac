// Package proxy answers HTTP in each platform's words: OpenWhisk's /init and /run, the
// DEEPaaS V2 API under /v2/, health and metrics. A protocol is one file; every handler
// is decode, invoke, encode, a function from a request value to a response value. The
// route table stands in routes.go, the HTTP library is known by server.go alone.
//
// # OpenWhisk
//
// POST /init takes {"value": {"name", "code", "binary", "main", "env"}} and answers exactly
// 200 with {"ok":true}, after the model can predict. The model is, in this order, that of
// Config, DEEPFN_MODEL of env, the one that code names as {"model": "name"}, plain or as
// base64 with binary, or the code itself, which Catalog.Import makes one. For a model that
// is named, main chooses the verb: predict (also "" and "main"), train or metadata; in
// code it is the function. A body that is not JSON is 400, a second /init 403 and so
// is one without code when nothing else names a model. Everything else that keeps the
// model from being ready is 502, except for a body over the limit, 413, too many large
// bodies at once, 429, a shutdown, 503, and a panic, 500. Why code does not start is
// written to the logs too, with the sentinels. A failed /init may be tried again.
//
// POST /run takes {"value": {arguments}, "activation_id", "deadline", …}. It answers 200
// also to errors, as {"error": "message"}, because any other status costs the container
// and with it the loaded model. Other statuses are 500 (no action yet, a panic), 503
// (shutting down; the platform sends the activation elsewhere) and 404 (value is
// neither an object nor an array); and of a function, main(args) in Python or an executable,
// 502 (it returned neither an object nor an array) and 400 (its process ended in the run;
// the next one meets a fresh process). The process of every other model that ends is
// replaced, which costs the container nothing. A model's answer becomes the result like this:
//
//	JSON object or array    the answer itself
//	other JSON              {"result": answer}
//	another media type      {"content_type", "filename", "data": base64}
//
// A result over Config.MaxPayload is an error that names the way by reference. An answer
// comes before the deadline, Config.DeadlineMargin before it at the latest. Activations may
// overlap: those for which there is no instance wait for their turn, whatever
// __OW_ALLOW_CONCURRENT says, and each has its own variables, because an instance runs one
// call at a time. (A module that asks for several at a time has them as arguments only.)
//
// A request that a page of another site has a browser make is 403 on both routes, and no
// activation: code for a function is a program on the machine of who runs the server. On
// a loopback address so is one under a name that is not this machine's.
//
// Before the answer is sent, the lines that the model printed for this activation are
// written to both streams, each followed by one line
//
//	XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX
//
// and never mixed with those of another activation. It is written once on each stream for
// each activation, whatever becomes of that: an error, a panic, a caller who has left, a
// body over the limit, a shutdown. What a thread of the model prints after the answer
// belongs to no activation, but while the next one runs nobody can tell.
//
// An activation whose value has __ow_method is the HTTP request of a web action
// (apache/openwhisk, docs/webactions.md). Unless the model is a function, main(args) or an
// executable, the request is made again, raw or not, and answered by the route of DEEPaaS
// that __ow_path names, of this one model, whose links begin with the path of the action:
// that of the header X-Forwarded-Url, else /api/v1/web/NAMESPACE/PACKAGE/NAME. Without a
// path POST asks the model, GET answers a browser with the page and others with the
// versions. The result is {"statusCode", "headers", "body"}, a body that is JSON as it is,
// text as text and all else in base64; one over Config.MaxPayload is a 413.
//
// /api/v1/web/… is the other side of web actions: any request becomes an activation of
// Config.Controller's action, and its result the answer, by the rules of WebActions.scala.
//
// # The single entrypoint
//
// POST /, or the methods of Config.Entry, is OpenWhisk's contract for Knative (docs/
// single_entrypoint_proxy_contract.md): {"init": {…}} is /init, {"activation": {…},
// "value": {arguments}} is /run, and both are one after the other. A function gets the HTTP
// context beside its arguments when there is an activation; statusCode, headers and body of
// its result make the answer, and without them the result is the answer. A function that has
// its code from the start takes no init, 500. Events, below, have a contract of their own.
//
// # DEEPaaS
//
// The routes, answers and bytes are those of the published server, deepaas 2.6, below
// Config.BasePath.
//
// POST /v2/models/{model}/predict/ takes the arguments from the query string, then a form
// (multipart/form-data or application/x-www-form-urlencoded), then a JSON object: for
// each argument the first that has it. A body that is a JSON object is read as one also
// when it is called a form, as curl -d does. JSON is answered as {"status": "OK",
// "predictions": answer}, or as it is when the module has a schema for it; everything
// else as it is. The wanted media type comes from an argument accept or from the header
// Accept. Errors are {"error": message, "code": code}; wrong arguments are 422 with
// {"argument": ["message"]}. A status that the module itself asks for is the answer's.
//
// A model that parses its own arguments gets what the caller gave: the JSON unread, the
// texts with where they stood, uploads that have a file name, and the headers that its
// parameters are looked for in. A body of another type holds no arguments; Accept decides
// about the answer of a module that has an argument accept, and of no other. Before it is loaded and has said which, these are all
// headers that do not belong to the connection. On /run it gets the value as it came, and
// every other member of the body as the variable of OpenWhisk, __OW_ and the name in
// upper case, 64 KiB in all.
//
// POST …/train/ has the module parse the arguments and starts a job (Config.Jobs). GET
// lists them, GET and DELETE …/train/{uuid} show and cancel one, and …/train/{uuid}/logs
// is what it printed. Without Jobs no model can be trained. On /run a training is
// answered when it is done.
//
// GET /swagger.json describes all of this in OpenAPI 2.0, GET /api is a page made of it,
// GET /v2/debug/ shows what models printed, if Config.Debug says so. An endpoint that is
// turned off is 402.
//
// # Events
//
// POST / and POST /v2/models/{model}/events/ take CloudEvents 1.0 and 0.3 in binary,
// structured and batched mode, and S3's own notifications of buckets, as JSON or as the data
// of an event. An event is a prediction: a JSON object is the arguments, a form too, JSON in
// lines are the arguments of a prediction each, and everything else is the model's one
// argument that is a file. Events of the types cloudevent.BatchRequested and
// cloudevent.BatchChunk go to Config.Batches. What is a success is empty or an event: the
// answer goes to the URL in the attribute replyto, else to Config.Sink unless the sender
// prefers a reply (Prefer: reply), else it is the reply. Errors are {"error", "code"} with a
// status that Knative's senders try again, 429 and 5xx, only where that may help (eventStatus).
//
// The events of a batch are each on their own, and predicted together with package many. An
// event that comes again, by source and id, waits for the one that is under way or gets the
// answer that is recorded (Config.EventRecord). With Prefer: respond-async it is answered
// before it is done, and tried again some times. docs/events.md says all of it.
//
// # By reference
//
// An argument may be {"url", "filename", "content_type"}, or a list with such objects among
// its files, if the model says that it takes a file, a text, a number, a boolean or an array
// there. What is at the URL (Config.Storage) takes its place: a file as an upload, anything
// else as the JSON or the text that it is. With result_to, a URL beside the arguments, the
// answer is stored there as it is, and the result is
// {"result_to", "content_type", "filename", "size", "sha256"}. A model that has an argument
// of that name gets it instead. A function that takes all arguments at once gets them
// untouched; its result is stored unless it is an object with the member result_to.
//
// What one request fetches has at most Config.MaxBody bytes. It lies on the disk, as a long
// body does, until the model has answered.
//
// # Health
//
// GET /healthz is 200 while the process lives, /readyz when Config.Ready has no objection
// and the server is not draining, else 503 with the reason. GET /metrics is for
// Prometheus, GET /stats says the same of instances and devices in JSON (Stats). Every
// answer carries X-Request-Id, the caller's if it sent a sound one. That to an invocation,
// or to an /init, says in Server-Timing where the time went, in milliseconds, and in
// Deepfn-Start where the model was: warm, host, cache or disk (actions.Tier).
//
// # Traces
//
// The trace context of a request (W3C: traceparent, tracestate) goes on to the model.
// Config.Tracer makes a span of every request but those for health, metrics and stats, which
// then is the parent of what the model does, and below it spans of the wait, the start and
// the call.
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
// One over 8 MiB is kept on disk, in a nameless file of Config.TempDir that is mapped into
// memory while the request lasts; a full disk is 507. What requests in progress take in
// memory together is bounded by Config.MaxBodies: a short body without memory goes to the
// disk, what has to be decoded is refused as busy. Each 32 KiB of a body have 30 s to
// arrive, all of it 5 minutes. A message repeats at most 200 bytes of what a caller sent.
//
// The streams of the activations' logs hold up no answer for more than a second: what
// they do not take is written later, and deepfn_activation_log_failures_total counts it.
package proxy
