// Package conformance checks an action container, any, against OpenWhisk's contract:
// POST /init, POST /run, what they answer, and what the container prints.
//
// A case is one thing that a container must do. Cases #1 to #69 are those of OpenWhisk's
// own suites, by what they send and what they want back: BasicActionRunnerTests of
// apache/openwhisk (#1 to #10), and the tests of its runtimes for Go (#11 to #40), for
// executables (#41 to #50), for Python (#51 to #67) and for Node.js (#68, #69). Cases G1
// onwards are what those suites do not look at, and what a platform still meets.
//
// Every case has a container of its own, which Config says how to start. A container
// takes code of one or more kinds; a case that needs code runs once for each kind, with
// code that is written for it.
//
// A container gets __OW_API_HOST in its environment, as OpenWhisk gives it to all that it
// starts, and a case may give it more.
//
// A request is sent as OpenWhisk's invoker does it: on a connection of its own, as JSON
// with its length, and the answer must come in time and say its own length.
package conformance
