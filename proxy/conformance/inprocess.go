package conformance

// inProcessCases are tests of functions inside of the official proxy. What of them can be
// seen from outside is among the other cases.
func inProcessCases() []testCase {
	reason := func(what, seen string) string {
		return "it calls " + what + " inside of the official proxy; seen from outside it is " + seen
	}
	cases := []testCase{
		{number: "#33", name: "start the latest action, stop it", never: reason("StartLatestAction", "#24 and #28")},
		{number: "#34", name: "start what cannot be started", never: reason("NewExecutor with paths of programs", "#28")},
		{number: "#35", name: "line protocol of a child", never: reason("Executor.Interact with a child", "#26, #29 and #31")},
		{number: "#36", name: "child that ends instead of its acknowledgement", never: reason("Executor.Start, which waits for a line of a child", "#28 and #62")},
		{number: "#37", name: "acknowledgement that is no JSON", never: reason("Executor.Start, with a child's first line",
			"a failed /init, and no platform asks for the line (OW_WAIT_FOR_ACK is a setting of that proxy alone)")},
		{number: "#38", name: "acknowledgement without ok", never: reason("Executor.Start, with a child's first line",
			"a failed /init, and no platform asks for the line (OW_WAIT_FOR_ACK is a setting of that proxy alone)")},
		{number: "#39", name: "archives, kinds of files, names of folders", never: reason("its functions for archives, jar files and kinds of files", "#13, #25 and G9 to G12")},
		{number: "#40", name: "compile from standard input to standard output", never: reason("its option -compile as a filter", "#15, for a container that compiles")},
	}
	for i := range cases {
		cases[i].suite = suiteUnit
	}
	return cases
}
