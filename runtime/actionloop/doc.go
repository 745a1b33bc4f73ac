// Package actionloop is the child program for executables that speak the ActionLoop
// protocol of OpenWhisk: any program that reads requests as lines and writes answers as
// lines.
//
//	name: hello
//	runtime: executable
//	executable:
//	  path: exec          # a file in the action's folder, or
//	  command: [python3, main.py]
//	  ack: true           # the program writes {"ok":true} when it is ready
//	  settle: 100ms       # without ack: how long it must have run to count as started
//	  working_dir: data   # the default is the action's folder
//	  env: {MODE: fast}
//
// # What the program finds
//
// Its working directory is the action's folder, because that is where its files are, also
// when somebody runs it by hand; the folder of the server means nothing to it. Its
// environment is that of the server (PATH, HOME, CUDA_VISIBLE_DEVICES, …), hidden by env,
// hidden by the variables of an /init. What it prints on its standard outputs is the log
// of the request that it works on; it has to flush before it answers.
//
// A request is one line of JSON on its standard input:
//
//	{"value": …, "activation_id": "…", "deadline": "1700000000000", "namespace": "…", …}
//
// value holds the arguments. The other members are strings: deadline is in milliseconds
// since 1970, traceparent and tracestate are the headers of the trace context, if there is
// one, and the rest is what the platform says of the activation. When arguments
// came as a query string or a form, each is a string of value, or a list of strings if it
// was repeated; what the body says hides what the query string says. A file is
//
//	{"data": "<base64>", "filename": "…", "content_type": "…"}
//
// as deepfn itself writes files into JSON; the last two are left out when the sender did
// not say.
//
// An answer is one line of JSON on descriptor 3, an object or a list. With ack the first
// line there is {"ok":true}. The program asks for this itself when __OW_WAIT_FOR_ACK is
// in env; where OpenWhisk's images set OW_WAIT_FOR_ACK for their programs, so do we.
//
// # Faults
//
// The program gets one request at a time. When it exits, hangs up, writes a line that
// nobody has asked for, or a line that is not JSON, it is ended with all that it has
// started, and the next request starts it anew: after any of these nobody could tell
// which request its next line answers. A request of which it has read nothing when it
// exits is given to the new one. A line that comes late is told from an answer as long as
// the program has not read the next request; the protocol has no ids by which a later one
// could be.
//
// When the caller leaves, the program may finish, and its answer is dropped: ending it
// would cost the next caller a start. The parent ends a program that takes longer than
// CancelGrace for that, which is a second: a program cannot be told that nobody waits.
package actionloop
