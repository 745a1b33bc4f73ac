// Package batch runs batch predictions: a model over all rows, or all files, of an input in a
// store, with answers in the same store, row by row in the order of the input, as if nothing had
// ever ended a process.
//
// # Chunks
//
// The input is cut into chunks by the batch alone ([actions.Batch.ChunkRows], ChunkBytes), never by
// time: whoever reads it finds the same ones. A chunk is predicted, written beside the output under a
// name of its own, and committed by one object that can be written only once. Who commits second
// has done it for nothing, and nobody sees that. So a chunk may be begun any number of times, by
// this process, by the next one after a kill, or by several replicas at the same time: it is in the
// output once.
//
// This process has one chunk under way at a time, whose calls run beside each other while the next
// one is read, so a kill costs one chunk at most. More at a time are done by replicas
// ([actions.Batch.Through]).
//
// # In the store
//
// Below the URL of the output:
//
//	part-000042.ndjson                 the answers of a chunk, in the order of its rows
//	errors-000042.ndjson               its rows without an answer, if there are any
//	manifest.json                      written last: counts, sizes and hashes of all of these
//	_deepfn/job.json                   the batch, and what its input was
//	_deepfn/schema.json                the columns of CSV and Parquet, told by the first answers
//	_deepfn/begun/000042-<attempt>     somebody has begun the chunk
//	_deepfn/staged/000042-<attempt>    its answers; -errors the rows without
//	_deepfn/chunks/000042.json         it is committed: whose attempt counts
//	_deepfn/failed/000042.json         it cannot be done, and why
//
// With the format objects an answer is an object of its own, with the name of its row, and there
// are no parts. _deepfn is removed when the manifest is written. Nothing in the parts, the errors
// and the manifest depends on when, where or how often something was done: two runs of a batch, one of
// them disturbed, give the same bytes if the model does.
package batch
