package proxy

// An Entry says how the single entrypoint at / works (apache/openwhisk,
// docs/single_entrypoint_proxy_contract.md). The zero value takes POST, and is
// initialized by its first request.
type Entry struct {
	// Methods are the methods that run the action, in upper case. The default is POST.
	Methods []string
	// Raw gives the function the body as it came, in __ow_body, and not its members.
	Raw bool
	// Code is the code of the function, which then needs no initialization, as /init has
	// it; Binary says that it is base64. Name and Main may be empty.
	Code, Name, Main string
	Binary           bool
}
