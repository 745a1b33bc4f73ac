package actions

import (
	"embed"
	"io/fs"
)

// shipped takes more patterns when an action has other small files of its own, such as
// labels; larger ones are fetched.
//
//go:embed */action.yaml */*.py
var shipped embed.FS

// Shipped returns the actions that are built into the program: NAME/action.yaml, and the
// Python files beside it.
func Shipped() fs.FS { return shipped }
