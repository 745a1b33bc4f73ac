// Package jobs keeps invocations that outlive their request (train, batch, non-blocking).
//
// [Jobs.Submit] writes a job to disk and returns; a worker of its own runs it when its
// turn comes, oldest first, [Config.MaxRunning] at a time. What it prints goes to its
// log, lines that say how far it is become its progress, and its answer is its result.
//
// With [Config.Resume] a job outlives its server, too: whatever ends that, stopped or killed,
// the job is queued again, in its old place, by the server that opens the folder next, or by
// one that has it open within seconds. It keeps its id, its request and its log, and its worker
// goes on where the last one was.
//
// # Progress
//
// A model says how far it is with a line on either stream
//
//	deepfn-progress: 0.42 text
//
// or "42%" for 0.42; the text may be absent. What is under 0 or over 1 becomes 0 or 1; a
// line with anything else for a number is an ordinary line. The bars that the Python
// package tqdm draws on stderr are progress too, until the model says it in the first
// way: the text is then what stands before the bar. Of lines that take each other's place
// in this way the log keeps the last one before something else is printed on the stream,
// and each bar that came to its end.
//
// # On disk
//
// Each job has a folder, named by its id, in Config.Dir:
//
//	job.json       the record, replaced as a whole at each change
//	lock           held with flock while the job waits or runs
//	log            the beginning of what it printed
//	log.<offset>   what it printed last, from that byte on; at most two of them
//	result         the bytes of the answer
//	request/       what was asked, until the call begins; with Config.Resume, until it ends
//	cancel         is made by another server that wants the job to end
//
// The record is a JSON object {"version": 1, "job": …, "result": …}: an [actions.Job]
// without its result, and what the file result is. A folder that is being made is called
// new-<id>, one that is being removed gone-<id>, and they are swept when a server opens
// the folder; the lock of Config.Dir is held, shared, while a folder is made, so that
// nobody sweeps it.
//
// Several servers of one machine may share a folder. A job belongs to the server that holds
// its lock. When a record says that its job waits or runs and nobody holds its lock, its
// server has ended without saying so: who reads it first rewrites it as interrupted. With
// Config.Resume who takes the lock first goes on with it.
package jobs
