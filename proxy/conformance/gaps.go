package conformance

import "slices"

// alive are the kinds whose process lives from run to run.
func alive() []Kind { return []Kind{Python, Executable, Go, Node} }

// gapCases are what no official suite looks at.
func gapCases() []testCase {
	cases := slices.Concat(faultCases(), archiveCases(), requestCases(), concurrentCases(), logCases(), lifeCases())
	for i := range cases {
		cases[i].suite = "gaps"
	}
	return cases
}

func faultCases() []testCase {
	return []testCase{
		{number: "G1", name: "the process ends during a run: that run and later ones are answered", kinds: alive(), run: diesDuring},
		{number: "G2", name: "the process ends between runs: later ones are answered", kinds: alive(), run: diesBetween},
		{number: "G3", name: "the caller has gone: nobody gets its late answer", kinds: alive(), run: lateAnswer},
		{number: "G4", name: "two answers for one request: nobody gets the second", kinds: []Kind{Executable}, run: twoAnswers},
		{number: "G5", name: "an exception leaves the process for the next run", kinds: []Kind{Python, Executable, Node}, run: exceptionKeeps},
		{number: "G6", name: "an init that failed leaves the container for a right one", kinds: []Kind{Python, Executable, Go}, run: initAgain},
		{number: "G7", name: "an answer that is null is none", kinds: []Kind{Python, Executable}, run: nullAnswer},
		{number: "G8", name: "an answer that is not UTF-8 is none", kinds: []Kind{Executable}, run: notUTF8Answer},
	}
}

func archiveCases() []testCase {
	archived := []Kind{Python, Executable, Go}
	return []testCase{
		{number: "G9", name: "zip whose names lead out of its folder", kinds: archived, run: zipSlip},
		{number: "G10", name: "zip whose link leads out of its folder", kinds: archived, run: zipLink},
		{number: "G11", name: "what only begins as a zip, and one cut short", kinds: alive(), run: badZip},
		{number: "G12", name: "tar.gz as code", kinds: []Kind{Python, Executable}, run: tarCode},
		{number: "G13", name: "code of 5 MiB", kinds: []Kind{Python, Executable}, run: largeCode},
		{number: "G14", name: "binary code that is not base64", nocode: true, run: badBase64},
	}
}

func requestCases() []testCase {
	return []testCase{
		{number: "G15", name: "value missing, null and empty are the same", phase: after, kinds: alive(), run: noValue},
		{number: "G16", name: "value that is no object or array does not reach the action", phase: after, kinds: alive(), run: scalarValue},
		{number: "G17", name: "a body that is no JSON is refused, and the next run is right", phase: after, kinds: alive(), run: malformed},
		{number: "G18", name: "a body that is not UTF-8, and the next run is right", phase: after, kinds: alive(), run: notUTF8Body},
		{number: "G19", name: "__OW keys twice, and with odd names", kinds: alive(), run: doubledKeys},
		{number: "G20", name: "variables of a run are those of this run", kinds: alive(), run: ownVariables},
		{number: "G21", name: "numbers, nesting and escapes come back as they were", phase: after, kinds: []Kind{Python, Executable}, run: exactValues},
		{number: "G22", name: "an empty array comes back as one", phase: after, kinds: []Kind{Python, Executable}, run: emptyArray},
		{number: "G23", name: "GET, HEAD, PUT and DELETE do not invoke", phase: after, kinds: alive(), run: methods},
		{number: "G24", name: "an unknown path is not 200", nocode: true, phase: before, run: unknownPath},
		{number: "G25", name: "Content-Length at every size, never chunks", phase: after, run: lengths},
		{number: "G26", name: "Content-Length of refusals and failures", nocode: true, phase: before, run: lengthsOfErrors},
		{number: "G27", name: "an answer over 1 MiB is 200, and costs nothing else", kinds: alive(), run: largeAnswer},
	}
}

func concurrentCases() []testCase {
	allow := map[string]string{"__OW_ALLOW_CONCURRENT": "true"}
	return []testCase{
		{number: "G28", name: "8 inits at once: one succeeds", kinds: alive(), run: initsAtOnce},
		{number: "G29", name: "2 callers, each gets its own answers", phase: after, kinds: alive(), run: callers(2)},
		{number: "G30", name: "16 callers, each gets its own answers", kinds: alive(), env: allow, run: callers(16)},
		{number: "G31", name: "16 callers: a sentinel for each run on each stream", kinds: alive(), env: allow, run: sentinelsAtOnce},
		{number: "G32", name: "runs at once see their own variables", kinds: alive(), env: allow, run: variablesAtOnce},
	}
}

func logCases() []testCase {
	return []testCase{
		{number: "G33", name: "output without a last newline: the sentinel has its own line", kinds: alive(), run: noNewline},
		{number: "G34", name: "a printed sentinel does not end the log", kinds: alive(), run: forgedSentinel},
		{number: "G35", name: "2,000 lines on each stream before the sentinel", kinds: alive(), run: manyLines},
		{number: "G36", name: "a run that fails has its sentinels", kinds: []Kind{Python, Executable, Node}, run: failedSentinels},
	}
}

func lifeCases() []testCase {
	return []testCase{
		{number: "G37", name: "the deadline is kept: an error in time, and the next run is right", kinds: alive(), run: deadline},
		{number: "G38", name: "SIGTERM: the run in flight ends well, new ones get 503", kinds: alive(), when: signalled, run: drain},
		{number: "G39", name: "frozen and thawed, the same process answers", kinds: alive(), when: signalled, run: thawed},
		{
			number: "G40", name: "the container's variables reach the action, whole", kinds: alive(),
			env: map[string]string{"__OW_CONFORMANCE": "http://host:1/?a=b", "CUDA_VISIBLE_DEVICES": "-1"}, run: containerVariables,
		},
	}
}

func signalled(t traits) string {
	if !t.signals {
		return "the container was started by somebody else, and cannot be signalled"
	}
	return ""
}
