// Package catalog knows the models: those built into the program and those in folders
// on disk. It reads and checks their action.yaml, and fetches and verifies the files
// that they need.
//
// # An action
//
// An action is a folder named after its model with a file action.yaml. Its keys are
// the JSON names of [actions.Model]; the section named after the runtime becomes the
// model's Spec:
//
//	name: cats            # the folder's name, may be left out
//	version: "1.0"
//	title: Tells cats from dogs
//	runtime: onnx
//	arguments:
//	  - {name: image, type: file, required: true}
//	files:
//	  model: {path: cats.onnx, sha256: 64 hexadecimal digits}
//	onnx:                 # for the runtime
//	  ...
//
// Unknown keys, keys that are there twice and sizes beyond 1 MiB are refused, with the
// file and the line. Text that looks like a number is text where a text is wanted
// (version: 1.10 is "1.10"); in the runtime's section YAML's own rules decide.
//
// Every runtime has its own section: onnx, python, executable, http. A folder without an
// action.yaml may be served too, see [Catalog.Open], and so may the code that a platform
// sends, see [Catalog.Import].
//
// # The cache
//
// Files that are fetched lie in CacheDir/sha256/HASH/NAME, where HASH is the SHA-256
// of the content. They are hashed again whenever they are asked for, so a damaged one
// is noticed and fetched again, and a file that someone puts there by hand is as good
// as a fetched one. Downloads happen in CacheDir/work, in a folder of their source
// that one process at a time may use, and are moved when they are verified.
// CacheDir/pip is a virtual environment for an interpreter that has no pip.
//
// CacheDir/code/HASH-KIND is what an archive, a script or a source text with that SHA-256
// became, whole as soon as it is there. Models work in it and may write to it; what they
// wrote is there when the same code comes again. CacheDir/shipped/HASH/NAME are the files
// of an action in the program.
package catalog
