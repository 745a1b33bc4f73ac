// Package actions holds the words of deepfn: a [Model] and the arguments that it
// takes, the [Request] and the [Response] of one invocation, and the [Error] that
// every protocol can put into its own terms.
//
// Every other package speaks these words and this one imports none of them. It
// does no input or output.
package actions
