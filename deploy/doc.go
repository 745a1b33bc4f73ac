// Package deploy puts models on an OpenWhisk: it says what is to be there as a
// [Deployment], compares that with what is there ([Client.Plan]), and sends the
// difference ([Client.Apply]).
//
// # What an action is
//
// A model becomes an action of kind blackbox: the image of deepfn, and code that names
// the model, {"model": "ocr-line"}. A Python file, an archive or a program becomes the same
// with its own code, source as it is and everything else in base64. With Options.Kind it is
// an action of a kind of the platform instead, for prewarmed containers ([RuntimesEntry]).
// Several actions in a row are an action of kind sequence.
//
// The annotation deepfn says what was deployed:
//
//	{"release": "0.1.0", "model": "ocr-line", "model_version": "PP-OCRv4", "sha256": "…"}
//
// where sha256 is that of the model's description and code, so that [Client.Status] sees a
// model that has changed since.
//
// # What is kept
//
// An update sends only what differs, and nothing when nothing does: each one gives an
// action a new version, and with it new containers, which load the model again.
// Parameters and annotations that a deployment does not name stay, and so do limits that
// no option sets. The platform shows an action with the parameters of its package; those
// stay the package's, and change with it. A parameter of the same value in both is sent each
// time, because nothing says whether the action has it too.
//
// # The library
//
// Requests are made and sent by openwhisk-client-go, with an HTTP client of ours and its
// namespace fixed to "_". Its entity types and services are not used: they lose what they
// do not know of (init of a parameter), write to the client while others read it, and turn
// a status into an exit code, 202 and 502 among them.
package deploy
