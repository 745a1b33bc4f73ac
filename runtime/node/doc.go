// Package node lets other processes of a machine use its pool of loaded models: [New] makes
// the node, which has the pool, and [NewRelay] a relay, which has none and looks like the
// pool to who holds it. So the container of a function may be frozen, ended and started
// again, and the model stays warm beside it. What follows is the protocol between the two.
//
// # Socket
//
// The node listens on a Unix socket of type SOCK_STREAM, and next to it holds a lock on the
// file of the socket's name with ".lock" behind it while it does. The socket carries the
// handshake alone. After it the two sides have a pair of pipes for frames of 64 bytes, and
// shared memory for payloads, whose descriptors cross once, with the frame welcome: pipes,
// because a frame takes a third of the time of one over a socket. The two pipes are a
// connection, and a connection is a lease; either side ends it by closing its ends. A second
// pair is the direct way.
//
// A frame has at
//
//	at  bytes
//	 0  4   "DFNN"
//	 4  2   version of the protocol: 1
//	 6  1   type
//	 7  1   flags
//
// and the rest by its type. All numbers are little-endian. What a type does not use is 0
// when it is sent and ignored when it is read.
//
//	 1 challenge  node   at 8 a nonce of 24 bytes; flag 1 if the node has a token
//	 2 hello      relay  at 8 a nonce of 24 bytes, at 32 a proof; flag 1 if it has a token,
//	                     flag 2 if it is a probe
//	 3 welcome    node   at 8 lanes (4), time to live in ms (4), limit (8), at 32 a proof;
//	                     with four descriptors: the memory of requests and of responses,
//	                     the pipe that the relay reads from, the one that it writes to;
//	                     and two more such pipes if there is a direct way
//	 4 refused    node   instead of challenge or welcome; length: of the JSON that follows
//	 5 call       relay  id, lane, parts, length, deadline, limit
//	 6 ask        relay  the same, and what is asked
//	 7 result     node   id, lane, parts, length, queue, start, run, tier; flag 1: cold
//	 8 error      node   the same; flags 2: the process of the model died, 4: while it loaded
//	 9 cancel     relay  id, lane
//	10 beat       both
//	11 bye        node   id: the last call that was read, length: the last on the direct way;
//	                     flag 1: calls under way are finished
//
// From call on, a frame has at
//
//	at  bytes
//	 8  8   id of the call; ids count up on each of the two ways
//	16  4   lane
//	20  4   number of parts in the payload
//	24  8   length of the payload
//	32  8   deadline in nanoseconds since 1970, 0 for none; of an answer the time in the queue
//	40  8   limit of the call itself in nanoseconds, 0 for none; of an answer the time of the start
//	48  8   of an answer the time that the call ran
//	56  1   what is asked; of an answer the tier: 0 none, 1 warm, 2 host, 3 cache, 4 disk
//
// # Handshake
//
// The node looks at the credentials that the system has of the process that has connected,
// before it sends anything. A proof is HMAC-SHA256 of the token over the word "relay" of the
// relay, "node" of the node, the nonce of the node and that of the relay: neither side
// shows the token to whoever has the other end. Without a token it is zeros. A side
// with a token wants the other to have the same.
//
// A probe asks whether the node is there and takes relays. It gets a welcome without lanes
// and descriptors, or a refusal, and is no lease: so it has its answer, too, from a node that
// has as many relays as it takes. A node that does not know the flag welcomes it as a relay,
// and the probe closes what it gets.
//
// Who has not proven anything yet takes no place of a relay. A handshake may take 2 s; when
// more than 64 wait for the proof, the one that has waited longest is refused.
//
// The JSON of a refusal is that of an error in package worker's protocol, of at most 4 KiB.
//
// # Payloads
//
// The memory is that of package worker: in each lane there is limit and, behind that, 16 MiB
// for what else an answer carries. Requests, responses and
// errors are written as they are there. Requests and responses have limit bytes at most.
// Behind the first part of an answer there may be, by kind,
//
//	1  the lines that the model printed: for each its stream (1), its length (4), its text
//	2  what the model reports of itself (Info), when it is not what the relay was told last
//
// The last lane is for questions that are answered at once, the others are for calls and
// for what may take long. On a lane there is one call at a time; each gets exactly one
// result or error, unless the lease ends. The relay gives the pages of large payloads back
// when it has read the answer; where it does not, the node does after twice the time to live,
// and when the lease has expired. Before that it writes the id of the call into what is the
// cancel word of the lane there, or all ones for every call. A relay that finds it there
// when it has read an answer throws away what it has read.
//
// The node may change the memory of a request while it works on it, the relay that of a
// response never. Both copy lengths out of the memory before they look at them.
//
// # The direct way
//
// It carries calls and their answers, one at a time, and nothing else. The thread of the node
// that has read a call there runs it and answers it, and in the relay who waits for the
// answer reads it: so on the way of a call nobody is woken but the two. A relay that has
// more calls sends them the ordinary way, on which everything else goes, cancels too. A cancel
// may so be read before its call, which is then canceled when it comes. The direct way
// is in use until the answer has come, even when nobody waits for it any more.
//
// Its end is the end of the lease. A relay whose node has ended the direct way alone sends the
// ordinary way what it has not sent yet, and leaves a node that has a call then.
//
// # Questions
//
// The arguments of a question are those of a request, the answer is a response of JSON.
//
//	1 ready   whether the node takes calls
//	2 models  the models of the catalog
//	3 model   the model of the name of the request
//	4 info    what it reports of itself; null for nothing
//	5 stats   the pools of the models that this lease has used
//	6 import  {"main": "…", "env": {}} and a file, the code; the answer is a model
//	7 warm    {"n": 1}: keeps n instances of the model while the lease lasts; answered when
//	          the first is warm
//	8 cool    takes that back
//
// Code gets a name that its hash is part of, so that the same code of two relays is one
// model, and other code of the same name is not; only a lease that has imported code, or
// imports it again, can call it. A lease holds 64 different codes of 64 MiB in all at most.
//
// # Lease
//
// A lease lasts while frames come from the relay: one in each time to live, for which it
// sends a beat four times in that; the node sends each back. When nothing comes, or the
// connection ends, calls of the lease are canceled, its memory is unmapped, and what it
// wanted to be kept warm it wants no longer. Code is forgotten when the last lease that had
// it has ended and some time has passed (Config.KeepCode).
//
// The node says bye before it ends a lease by itself. A call that the node has not read by
// then the relay may send again, to the next node; any other never. With flag 1 the node
// is shutting down: it answers what it has, and ends the connection when nothing is
// under way. Calls that come all the same are answered with the error unavailable.
//
// # Trust
//
// Neither side believes the other. The memory is made and sealed by the node; the relay
// checks seals and sizes before it maps it. A relay that breaks the protocol loses its
// lease, and nobody else notices; a node that breaks it loses the relay.
package node
