// Package conformance checks an action container, any, against OpenWhisk's contract.
package conformance
