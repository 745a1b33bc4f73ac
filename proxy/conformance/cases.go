package conformance

import "slices"

// allCases returns every case, in the order in which they are reported.
func allCases() []testCase {
	return slices.Concat(canonicalCases(), actionLoopCases(), inProcessCases(), skeletonCases(), pythonCases(), nodeCases(), gapCases())
}
