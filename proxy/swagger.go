package proxy

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

// An object of the OpenAPI document.
type fields map[string]any

// swaggerPage answers GET /swagger.json with the routes in the words of OpenAPI 2.0, as
// upstream does and its user interfaces read.
func (s *Server) swaggerPage(ctx context.Context, r *request) response {
	models, err := s.models(ctx, r)
	if err != nil {
		return s.refuse(ctx, r, err)
	}
	paths := fields{}
	s.swaggerOfDeepaas(paths, s.at(r))
	if r.web == nil {
		swaggerOfPlatforms(paths)
	}
	for _, m := range models {
		s.swaggerOfModel(paths, s.at(r), m, s.description(m))
	}
	version := s.cfg.Version
	if version == "" {
		version = "unknown"
	}
	doc := &document{}
	doc.set("swagger", "2.0")
	doc.set("info", fields{
		"title": "deepfn: DEEPaaS V2 API", "version": version,
		"description": "Predictions and trainings of the models of this server over the DEEPaaS V2 API.",
	})
	doc.set("paths", paths)
	doc.set("definitions", definitions())
	return pageResponse(doc)
}

// swaggerOfDeepaas describes the routes below base that are no model's.
func (s *Server) swaggerOfDeepaas(paths fields, base string) {
	paths[base+"/"] = pageOf("versions", "Get available API versions", "Versions", nil)
	paths[base+"/v2/"] = pageOf("versions", "Get V2 API version information", "Version", nil)
	paths[base+"/v2/models/"] = pageOf("models", "Return the models and their information", "ModelList", nil)
	paths[base+"/v2/debug/"] = pageOf("debug", "Return what the models printed, if the server shows that", "", fields{
		"produces": []string{"text/plain"}, "responses": fields{
			"200": fields{"description": "the last lines"}, "204": fields{"description": "the server does not show them"},
		},
	})
}

// swaggerOfPlatforms describes the routes of the platforms.
func swaggerOfPlatforms(paths fields) {
	paths["/healthz"] = pageOf("health", "Say that the process lives", "", nil)
	paths["/readyz"] = pageOf("health", "Say whether the server can predict", "", fields{"responses": fields{
		"200": fields{"description": "it can"}, "503": fields{"description": "it cannot, with the reason"},
	}})
	paths["/metrics"] = pageOf("health", "Return metrics for Prometheus", "", fields{"produces": []string{"text/plain"}})
	paths["/stats"] = pageOf("health", "Return what the models' instances and the devices do", "", nil)
	body := fields{"consumes": []string{jsonType}, "parameters": []fields{{
		"in": "body", "name": "activation", "required": true, "schema": fields{"type": "object"},
	}}}
	post := func(summary string) fields {
		return fields{"post": operation("openwhisk", summary, answers("the document", ""), body)}
	}
	paths["/init"] = post("Initialize the action of OpenWhisk")
	paths["/run"] = post("Run an activation of OpenWhisk")
}

// pageOf describes a document that is there to be read.
func pageOf(tag, summary, schema string, more fields) fields {
	return fields{"get": operation(tag, summary, answers("the document", schema), more)}
}

// swaggerOfModel describes the routes of a model.
func (s *Server) swaggerOfModel(paths fields, base string, m actions.Model, d *actions.Description) {
	at := base + "/v2/models/" + url.PathEscape(m.Name)
	paths[at+"/"] = fields{"get": operation("models", "Return model's metadata", answers("the metadata", "ModelMeta"), nil)}
	if !s.cfg.NoPredict && (d == nil || d.Predict != nil) {
		paths[at+"/predict/"] = fields{"post": predictOperation(m, d)}
	}
	if !s.cfg.NoPredict {
		paths[at+"/events/"] = fields{"post": eventsOperation()}
	}
	if !s.cfg.NoPredict && s.cfg.Batches != nil {
		swaggerOfBatches(paths, at+"/batch/")
	}
	if s.cfg.NoTrain {
		return
	}
	train := fields{"get": operation("models", "Get a list of trainings (running or completed)", answers("the trainings", "TrainingList"), nil)}
	if s.cfg.Jobs != nil && m.ParsesArguments() && (d == nil || d.Train != nil) {
		train["post"] = trainOperation(d)
	}
	paths[at+"/train/"] = train
	uuid := []fields{{"in": "path", "name": "uuid", "required": true, "type": "string"}}
	paths[at+"/train/{uuid}"] = fields{
		"get":    operation("models", "Get status of a training", answers("the training", "Training"), fields{"parameters": uuid}),
		"delete": operation("models", "Cancel a running training", answers("the training as it ended", "Training"), fields{"parameters": uuid}),
	}
	paths[at+"/train/{uuid}/logs"] = fields{"get": operation("models", "Get what a training printed",
		fields{"200": fields{"description": "the lines"}}, fields{"parameters": uuid, "produces": []string{"text/plain"}})}
}

const notLoaded = "The model has not been loaded yet; its arguments are known when it has."

func predictOperation(m actions.Model, d *actions.Description) fields {
	schema := fields{"$ref": "#/definitions/Prediction"}
	if d != nil && len(d.Response) > 0 {
		schema = swaggerSchema(d.Response)
	}
	more := fields{"responses": fields{
		"200": fields{"description": "the prediction", "schema": schema},
		"400": fields{"description": "the request cannot be read", "schema": fields{"$ref": "#/definitions/Failure"}},
		"422": fields{"description": "an argument is wrong", "schema": fields{"$ref": "#/definitions/Fields"}},
	}}
	var parameters []actions.Parameter
	switch {
	case d != nil:
		parameters = d.Predict.Parameters
	case m.ParsesArguments():
		more["description"] = notLoaded
	default:
		for _, a := range m.Arguments {
			parameters = append(parameters, actions.Parameter{Argument: a})
		}
	}
	addParameters(more, parameters)
	if produces := acceptable(parameters); produces != nil {
		more["produces"] = produces
	}
	return operation("models", "Make a prediction given the input data", nil, more)
}

// eventsOperation describes the route of a model's events.
func eventsOperation() fields {
	return operation("models", "Make predictions given CloudEvents, or notifications of a bucket", fields{
		"200":     fields{"description": "the answer, an event or a batch of them"},
		"202":     fields{"description": "the answer goes to the sink"},
		"204":     fields{"description": "there is no answer, or none is wanted"},
		"default": fields{"description": "an error", "schema": fields{"$ref": "#/definitions/Failure"}},
	}, fields{
		"consumes":   []string{jsonType, cloudevent.StructuredType, cloudevent.BatchType},
		"parameters": []fields{{"in": "body", "name": "event", "required": true, "schema": fields{}}},
	})
}

func trainOperation(d *actions.Description) fields {
	more := fields{"description": notLoaded}
	if d != nil {
		more = fields{}
		addParameters(more, d.Train.Parameters)
	}
	return operation("models", "Retrain model with available data", answers("the training that was started", "Training"), more)
}

// operation makes an operation; more wins over what it has by default.
func operation(tag, summary string, responses, more fields) fields {
	op := fields{
		"tags": []string{tag}, "summary": summary, "produces": []string{jsonType},
		"parameters": []fields{}, "responses": responses,
	}
	maps.Copy(op, more)
	return op
}

// answers are the usual responses of an operation: a definition, or anything.
func answers(description, definition string) fields {
	ok := fields{"description": description}
	if definition != "" {
		ok["schema"] = fields{"$ref": "#/definitions/" + definition}
	}
	return fields{"200": ok, "default": fields{
		"description": "an error", "schema": fields{"$ref": "#/definitions/Failure"},
	}}
}

// acceptable is what the argument accept of a model may be, nil when it has none.
func acceptable(parameters []actions.Parameter) []string {
	for _, p := range parameters {
		if p.Name != "accept" {
			continue
		}
		var types []string
		for _, c := range p.Choices {
			if text := jsonText(c); text != "" && !slices.Contains(types, text) {
				types = append(types, text)
			}
		}
		return types
	}
	return nil
}

// definitions are the schemas of the answers.
func definitions() fields {
	text := fields{"type": "string"}
	object := func(properties fields, required ...string) fields {
		schema := fields{"type": "object", "properties": properties}
		if required != nil {
			schema["required"] = required
		}
		return schema
	}
	list := func(name string) fields {
		return fields{"type": "array", "items": fields{"$ref": fmt.Sprintf("#/definitions/%s", name)}}
	}
	return fields{
		"Failure":  object(fields{"error": text, "code": text}, "error"),
		"Fields":   fields{"type": "object", "additionalProperties": fields{"type": "array", "items": text}},
		"Location": object(fields{"rel": text, "href": text, "type": text}, "rel", "href"),
		"Version":  object(fields{"version": text, "id": text, "links": list("Location")}, "version", "id"),
		"Versions": object(fields{"versions": list("Version"), "links": list("Location")}),
		"ModelMeta": object(fields{
			"id": text, "name": text, "description": text, "license": text, "author": text, "version": text,
			"url": text, "links": list("Location"),
		}, "id", "name"),
		"ModelList":  object(fields{"models": list("ModelMeta")}, "models"),
		"Prediction": object(fields{"status": text, "predictions": fields{}}, "status", "predictions"),
		"Training": object(fields{
			"date": text, "args": fields{"type": "object"}, "uuid": text,
			"status": fields{"type": "string", "enum": []string{"running", "error", "done", "cancelled", "interrupted"}},
			"queued": fields{"type": "boolean"}, "message": text, "result": object(fields{"output": fields{}, "finish_date": text, "duration": text}),
			"progress": object(fields{"fraction": fields{"type": "number"}, "text": text}),
		}, "date", "args", "uuid", "status"),
		"TrainingList": list("Training"),
		"Batch":        batchSchema(), "BatchJob": batchJobSchema(), "BatchJobList": list("BatchJob"),
	}
}
