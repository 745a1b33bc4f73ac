package proxy

import (
	"github.com/deepfn/deepfn/actions"
)

// swaggerOfBatches describes the routes of a model's batch predictions.
func swaggerOfBatches(paths fields, at string) {
	paths[at] = fields{
		"get": operation("models", "Get a list of batch predictions (running or completed)", answers("the batch predictions", "BatchJobList"), nil),
		"post": operation("models", "Predict on all rows, or all files, of an input", fields{
			"202":     fields{"description": "the batch prediction that was begun", "schema": fields{"$ref": "#/definitions/BatchJob"}},
			"400":     fields{"description": "the batch cannot work", "schema": fields{"$ref": "#/definitions/Failure"}},
			"403":     fields{"description": "the server may not reach the input or the output", "schema": fields{"$ref": "#/definitions/Failure"}},
			"default": fields{"description": "an error", "schema": fields{"$ref": "#/definitions/Failure"}},
		}, fields{"consumes": []string{jsonType}, "parameters": []fields{{
			"in": "body", "name": "batch", "required": true, "schema": fields{"$ref": "#/definitions/Batch"},
		}}}),
	}
	uuid := fields{"parameters": []fields{{"in": "path", "name": "uuid", "required": true, "type": "string"}}}
	paths[at+"{uuid}"] = fields{
		"get":    operation("models", "Get status of a batch prediction", answers("the batch prediction", "BatchJob"), uuid),
		"delete": operation("models", "Cancel a running batch prediction", answers("the batch prediction as it ended", "BatchJob"), uuid),
	}
	logs := fields{"produces": []string{"text/plain"}, "parameters": uuid["parameters"]}
	paths[at+"{uuid}/logs"] = fields{"get": operation("models", "Get what a batch prediction said",
		fields{"200": fields{"description": "the lines"}}, logs)}
}

// The words of schemas.
func textSchema(description string) fields {
	return fields{"type": "string", "description": description}
}

func textsSchema(description string) fields {
	return fields{"type": "array", "items": fields{"type": "string"}, "description": description}
}

func countSchema(description string) fields {
	return fields{"type": "integer", "description": description}
}

func objectSchema(properties fields, required ...string) fields {
	schema := fields{"type": "object", "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	return schema
}

// batchSchema describes an actions.Batch without its model.
func batchSchema() fields {
	formats := []string{actions.NDJSON, actions.CSV, actions.Parquet, actions.Tar, actions.Zip, actions.Objects}
	format := func(otherwise string) fields {
		return fields{"type": "string", "enum": formats, "description": "The default is " + otherwise + "."}
	}
	return objectSchema(fields{
		"input": objectSchema(fields{
			"url":    textSchema("An object, or all below a prefix, which ends in a slash: file, s3, gs or azblob."),
			"format": format("told by the name"), "match": textSchema("A pattern that names have to match."),
			"key": textSchema("The column that says in the output which row it was."), "delimiter": textSchema("What separates the columns of CSV."),
			"text": textsSchema("Columns of CSV that are texts; the default are those of arguments that are texts."),
		}, "url"),
		"output": objectSchema(fields{
			"url":    textSchema("A prefix, which ends in a slash, and which nothing else uses."),
			"format": format(actions.NDJSON), "join": textsSchema(`Columns of the input that each answer is given with; "*" is all.`),
			"select": textsSchema("Members of the answer that are kept, paths with dots."),
		}, "url"),
		"arguments": fields{"type": "object", "description": "Arguments of each prediction beside what the row has."},
		"map":       fields{"type": "object", "additionalProperties": fields{"type": "string"}, "description": "Which column is which argument: argument, column."},
		"batching": objectSchema(fields{
			"size": countSchema("The most rows of one call."), "argument": textSchema("The argument that takes a list of rows."),
			"columns": fields{"type": "boolean", "description": "Every argument takes a list of the values of its rows."},
			"answer":  textSchema("The member of the answer that has the list of the rows' answers."),
		}),
		"concurrency": countSchema("How many calls are under way at the same time."),
		"chunk_rows":  countSchema("The most rows of a chunk, which is done as a whole or not at all."),
		"chunk_bytes": countSchema("The most bytes of a chunk."),
		"max_errors":  textSchema(`How many rows may fail: "100", or "1%". The default is any number, but not all.`),
		"retries":     countSchema("How often a row is tried again when its error may go away."),
		"through":     textSchema("Who does the chunks: empty is this server."),
		"sink":        textSchema("The URL that the events of the job go to."),
	}, "input", "output")
}

// batchJobSchema describes an actions.Job of a batch.
func batchJobSchema() fields {
	states := []actions.JobState{
		actions.JobQueued, actions.JobRunning, actions.JobDone, actions.JobFailed, actions.JobCancelled, actions.JobInterrupted,
	}
	moment := fields{"type": "string", "format": "date-time"}
	number := fields{"type": "number"}
	return objectSchema(fields{
		"id": textSchema("What the job is asked for by."), "model": fields{"type": "string"}, "verb": fields{"type": "string"},
		"args":    fields{"type": "object", "description": "The batch."},
		"state":   fields{"type": "string", "enum": states},
		"created": moment, "started": moment, "finished": moment,
		"attempts": countSchema("How often it was begun, more than once after a server has ended."),
		"progress": objectSchema(fields{
			"fraction": number, "text": fields{"type": "string"}, "time": moment,
			"rows": countSchema("Rows that are done."), "failed": countSchema("Those of them without an answer."),
			"total": countSchema("All rows, as far as known."), "chunks": countSchema("Chunks that are committed."),
			"redone": countSchema("Chunks that were begun again."),
			"rate":   fields{"type": "number", "description": "Rows in a second."}, "remaining_seconds": number,
		}),
		"result": fields{"type": "object", "description": "The manifest: counts, sizes and hashes of what was written."},
		"error":  textSchema("Why it failed."),
	}, "id", "model", "verb", "args", "state", "created")
}
