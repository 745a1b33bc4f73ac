// Package deploy puts models on a platform.
package deploy
