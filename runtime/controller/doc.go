// Package controller is an OpenWhisk controller for one machine: entities, invocations,
// sequences, triggers and rules. It decides; the HTTP around it is package proxy, the disk
// package store, and what runs an action is given to it.
//
// There are two namespaces: that of the user, guest, and whisk.system, which cannot be written to.
// Its package models has an action for each model of the catalog; its package batch has one that
// begins batch predictions with it, and answers the job.
//
// # What an action runs
//
//	kind                        runs
//	python:3, python:3.x        its code: source, or base64 of a zip
//	blackbox with code          its code: a script, an ELF program, a zip with exec
//	blackbox, {"model": "x"}    the model x
//	blackbox without code       the model that has the name of the image
//	deepfn:x                    the model x
//	deepfn:default              the model that its code, {"model": "x"}, names
//	sequence                    its components, one after the other
//
// Code becomes a model of the catalog when it is first invoked. The name of that model is
// made of the code, its entry point and its environment, so that actions of the same code
// share instances. What no action has any more, changed or deleted, is forgotten when its last
// activation has ended, and so is what was not used for longest when there is too much.
//
// # What is on disk
//
// The documents of entities as the API shows them, but the code of an action apart from it,
// in a collection of its own. An activation is on disk before anybody is told of it: when it
// has ended or, as a mark, when it was accepted. The mark has what it takes to run it until
// that begins, so that the next Controller runs what has not begun, and ends what a server
// that died had begun: nothing runs twice.
//
// The texts of errors and the shapes of documents are those of apache/openwhisk
// (core/controller: Actions.scala, Triggers.scala, Rules.scala, Packages.scala,
// SequenceActions.scala; common: ErrorResponse.scala, ActivationResult.scala), because
// programs that know it compare them.
package controller
