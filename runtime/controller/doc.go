// Package controller is an OpenWhisk controller for one machine: entities, invocations,
// sequences, triggers and rules. It decides; the HTTP around it is package proxy, the disk
// package store, and what runs an action is given to it.
package controller
