// Package worker keeps a model in a child process: [Start] starts the child and lets
// it load the model, [Worker.Call] runs a request in it, [Worker.Close] ends it. A Go
// program is such a child by calling [Serve]. What follows is the protocol between the
// two, for children in other languages.
//
// # Process
//
// The child leads a process group of its own, which is killed as a whole, and is killed
// by the kernel when the parent ends. The variable DEEPFN_WORKER of its environment
// holds the version of the protocol that the parent speaks; a child without it was
// started by hand. It should remove the variable and set close-on-exec on descriptors 3
// to 6, so that programs that it starts do not get them. Its descriptors are
//
//	0     /dev/null
//	1, 2  pipes: what it prints there is logged
//	3     pipe: control frames from the parent
//	4     pipe: control frames to the parent
//	5     memory file: requests, written by the parent
//	6     memory file: responses, written by the child
//
// The parent says that it wants no more by closing its end of 3. A child that reads the
// end of the file finishes what it works on, sends the answers, and ends. If it takes
// longer than StopGrace it is killed.
//
// # Memory
//
// Requests and responses lie in lanes, one for each call that may run at the same time.
// The frame start says how many lanes there are and how many bytes (limit) a call may
// use of one. A lane takes limit bytes, rounded up to a multiple of 64 KiB. Lane i of
// the responses begins at i times that; the requests are 64 KiB further, because the
// first 64 KiB of their file hold the cancel words: 64 bytes for each lane, of which the
// first 8 are a call's id (see Cancel). Requests and results have limit bytes at most;
// the setup, the information on the model and errors may fill a lane. Both files have exactly the size that follows.
// They are sealed, so that nobody can make them shorter under the other's hands, and
// take memory only where they were written to; after a large payload, the parent gives
// the pages back.
//
// The child may write to the memory of a request that it works on, and may use it until
// it has sent the answer. The parent never reads it.
//
// # Frames
//
// A control frame has 64 bytes. All numbers in this protocol are little-endian.
//
//	at  bytes
//	 0  4   "DFNW"
//	 4  2   version of the protocol: 1
//	 6  1   type
//	 7  1   flags
//	 8  8   id of the call
//	16  4   lane
//	20  4   number of parts in the payload
//	24  8   length of the payload, which begins at the start of the lane
//	32  8   deadline in nanoseconds since 1970, 0 for none
//	40  8   time that the call ran in nanoseconds
//	48  8   limit
//	56  4   number of lanes
//	60  4   id of the child's process
//
// The first two fields are the same in every version. What a type does not use is 0 when
// it is sent and ignored when it is read. The types are, in the order of a conversation:
//
//	1 hello   child   version, process id, flags: 1 if it wants SIGUSR1 (see Cancel)
//	2 start   parent  lanes, limit, deadline; payload in lane 0: one part, the setup
//	3 ready   child   payload in lane 0: one part, information on the model as JSON
//	4 failed  child   instead of ready; payload in lane 0: an error. The child ends
//	5 call    parent  id, lane, deadline; payload: a request
//	6 result  child   id, lane, run time; payload: one part, the response
//	7 error   child   id, lane, run time; payload: an error
//
// The parent refuses a hello of another version with both versions in its message. Every
// call gets exactly one result or error, on its lane and with its id; on one lane there
// is one call at a time. Ids count up from 1. With more lanes than one, answers may come
// in any order.
//
// # Payloads
//
// A part begins at the next multiple of 8, counted from the start of the lane, with
//
//	at  bytes
//	 0  4   length of the name
//	 4  4   length of the media type
//	 8  4   length of the filename
//	12  4   kind
//	16  8   length of the data
//
// The three strings follow without space between them, each of at most 64 KiB. The data
// begin at the next multiple of 64, so that arrays can be used where they lie.
//
// A request begins with four lengths of 4 bytes, and the strings model, verb
// ("predict", "predict-many", "train", "metadata", "parse-train", "suspend", "resume"), id
// and accept that have them. Its parts follow: the first are the arguments, one JSON value or nothing; each
// of the others is by its kind
//
//	0  a file
//	1  a text from the query string, 2 from a form, 3 from a header
//	4  a text of the platform, by the name of a variable ("__OW_API_KEY")
//	5  a header of the trace context, "traceparent" or "tracestate", see [actions.Trace]
//
// with the bytes of a text as data. A child that makes no traces ignores kind 5; there is no
// tracestate without a traceparent. A response is one part without a name, of kind 1 when
// it is a whole document, which no protocol puts into an envelope, else 0. An error is one part of at most 1 MiB, a JSON
// object
//
//	{"code": "invalid", "msg": "…", "fields": {"name": ["…"]}, "status": 0, "retry_after_ms": 0}
//
// with the codes of package actions and, as status, the HTTP status that the model itself
// asked for, 400 to 599; only code and msg are required, and an unknown code
// means "failed". A response that is longer than limit is the error "too_large".
//
// # Many rows
//
// The verb "predict-many" is predict for many rows: its arguments are an array of the arguments
// of each, and it has no files. Its answer is an array as long, which has for each row one of
//
//	{"value": …, "whole": true}
//	{"content_type": "image/png", "filename": "", "data": "…"}
//	{"error": "…", "code": "invalid", "fields": {"name": ["…"]}, "status": 0}
//
// the answer to it when that is JSON (whole as in a response, and only then), an answer that is not, in base64, or an
// error in the words of errors. A row that fails is no harm to the others; one that ends the process ends the
// call. A child without the ability answers "unsupported", and has not begun then.
//
// # Suspend and resume
//
// The verb "suspend" has the model leave the device's memory and stay in the host's, and
// "resume" takes that back, see [Worker.Suspend] and [Worker.Resume]. Both come without
// arguments, and only while no other call is in progress. The answer to suspend is
//
//	{"host_bytes": 0}
//
// with the bytes of the host's memory that the model takes now because it is suspended; to
// resume it is any JSON. Both may come again: a child that is suspended already answers the
// same bytes once more, one that is not has nothing to resume.
//
// A child without the ability, or that has not touched a device, answers the error
// "unsupported", which promises that nothing has happened: the model answers as before.
// After any other error nobody knows where the model is, and the parent ends the child,
// except that a failed resume leaves a child suspended which answers "unavailable": it may be
// asked to resume again.
//
// A suspended child that is asked to predict or train resumes first, and answers
// "unavailable" if it cannot. So a request that was on its way is answered, later. What
// else it is asked it answers as it is.
//
// Neither call is broken off: the cancel word of a suspend or resume is looked at when it
// has ended, which has to be within CancelGrace.
//
// # Cancel
//
// When a caller leaves, the parent writes the id of its call into the cancel word of the
// lane, and sends SIGUSR1 to a child whose hello asked for it. The child should end the
// call soon; what it answers is thrown away. A child that has not answered after
// CancelGrace is killed. The lane is taken until then, and [Worker.Settle] waits for it.
//
// # Output
//
// What the child prints between the call and its answer is returned with the answer. The
// child has to flush its streams before it answers; the parent reads the pipes empty
// when it has the answer. A line is split after 64 KiB, and after 10 MiB the lines of a
// call are dropped and counted. What is printed at other times goes to Config.Log, and
// so does everything if the child works on several calls at a time. The lines before
// ready, the last 1000 of them and 256 KiB, are returned with the first call, too. With
// Config.Output all lines go there as they come.
//
// # Fork server
//
// A [Zygote] is a process that has loaded what many workers need, and forks them. It
// leads a group of its own and is killed by the kernel when the parent ends. Its
// descriptor 3 is a Unix socket of packets (SOCK_SEQPACKET); closing it ends the process.
// A packet has at most 4096 bytes, little-endian, and a text that fills it:
//
//	at  bytes
//	 0  4   "DFNZ"
//	 4  1   type
//	 8  4   id of the request, 0 for none
//	12  4   a number
//
//	1 ready   zygote  text: what could not be loaded, a line each
//	2 unsafe  zygote  instead of ready; text: why it must not fork. It ends
//	3 fork    parent  id; 8 descriptors
//	4 forked  zygote  id; number: id of the child; 1 descriptor, the child itself (pidfd)
//	5 refused zygote  id; text: why there is no child, or no status
//	6 reap    parent  id; number: id of a child that has ended
//	7 reaped  zygote  id; number: its status as wait(2) tells it
//
// The descriptors of a fork are those of the child, 0 to 6, and a file with the strings
// that make it what it is, each with a zero byte behind it: the name to show, the working
// directory, and the variables of the environment. The child is killed by the kernel when
// the zygote ends. The zygote reaps no child before it is told to: until then the child's
// id belongs to nobody else, and its group can be killed.
//
// # Trust
//
// Neither side believes the other. Lengths, counts, lanes and ids are copied out of the
// shared memory and checked before they are used. A child that breaks the protocol is
// killed, and the calls that it worked on fail with a message that says what it did.
package worker
