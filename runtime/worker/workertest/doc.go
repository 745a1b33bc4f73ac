// Package workertest is a worker's child without a model, for tests: the test binary
// starts itself again, and what the child does is said by the arguments of a request.
//
//	func TestMain(m *testing.M) {
//		workertest.Main()
//		os.Exit(m.Run())
//	}
//
//	func TestCrash(t *testing.T) {
//		argv, env := workertest.Command()
//		w, err := worker.Start(t.Context(), worker.Config{Argv: argv, Env: env})
//		…
//		_, err = w.Call(t.Context(), actions.Request{Args: workertest.Args{Signal: 9}.JSON()})
//	}
//
// Without knobs a call is an echo: of its first file, or else of its arguments. How the child
// suspends and resumes, and what goes wrong then, is said by Setup.Tiers; without them it does
// neither.
package workertest
