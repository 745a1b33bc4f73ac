// Package whisk has the words of OpenWhisk's REST API: entities and activations as the
// JSON documents that wsk and openwhisk-client-go send and read. It does no I/O.
//
// The documents are those of the API's reference implementation, apache/openwhisk
// (core/entity: WhiskAction.scala, WhiskActivation.scala, WhiskTrigger.scala,
// WhiskRule.scala, WhiskPackage.scala).
package whisk
