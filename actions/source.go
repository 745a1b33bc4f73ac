package actions

// A Source is the code of a function as OpenWhisk's /init carries it.
type Source struct {
	// Name is the action's name, with or without its namespace. May be empty.
	Name string
	// Main is the entry point; empty means the default of the kind of code.
	Main string
	// Data is the source, the script, the executable or the archive itself, not base64.
	Data []byte
	// Env are variables that the function finds in its environment.
	Env map[string]string
}
