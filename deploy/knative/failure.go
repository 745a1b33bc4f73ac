package knative

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deepfn/deepfn/actions"
)

// installed says what to do when the cluster does not know a kind.
func (c *Cluster) installed(ctx context.Context, k kind) error {
	group := k.resource.GroupVersion().String()
	_, err := c.discover.ServerResourcesForGroupVersion(group)
	if apierrors.IsNotFound(err) {
		return actions.Errorf(actions.Unavailable, "%s is not installed on the Kubernetes at %s: it has no %s", k.of, c.host, group)
	}
	if err != nil {
		return c.failure(ctx, group, err)
	}
	return nil
}

// failure is the error of a request to the API server, in words that say what to do.
func (c *Cluster) failure(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		code := actions.Canceled
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			code = actions.Deadline
		}
		return actions.Errorf(code, "%s: Kubernetes at %s: %w", what, c.host, ctx.Err())
	}
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return c.noAnswer(what, err)
	}
	code, text, hint := c.judge(answer.Status())
	if hint != "" {
		text += "; " + hint
	}
	return &actions.Error{Code: code, Msg: what + ": " + text, Err: err}
}

// noAnswer is the error of a request that was not answered.
func (c *Cluster) noAnswer(what string, err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		if u.Timeout() {
			return actions.Errorf(actions.Deadline, "%s: Kubernetes at %s has not answered within %s: %w", what, c.host, requestTimeout, err)
		}
		err = u.Err
	}
	return &actions.Error{
		Code: actions.Unavailable, Err: err,
		Msg: fmt.Sprintf("%s: Kubernetes at %s: %v; correct --kubeconfig, KUBECONFIG or --context, or start it", what, c.host, err),
	}
}

// judge says of what kind an answer is, and what to do.
func (c *Cluster) judge(s metav1.Status) (code actions.Code, text, hint string) {
	text = strings.TrimSpace(s.Message)
	if _, reason, denied := strings.Cut(text, "denied the request: "); denied {
		return actions.Invalid, "Knative does not take it: " + strings.TrimPrefix(reason, "validation failed: "), ""
	}
	switch s.Reason { //nolint:exhaustive // the others are told as they are
	case metav1.StatusReasonUnauthorized:
		return actions.Unauthorized, text, "the user of the kubeconfig is not known there; its credentials may be old"
	case metav1.StatusReasonForbidden:
		return actions.Forbidden, text, "its administrator can allow it with a Role that has get, list, create, patch and delete of " +
			"services.serving.knative.dev, brokers and triggers.eventing.knative.dev, sinkbindings.sources.knative.dev and configmaps"
	case metav1.StatusReasonConflict:
		if conflicts := conflictsOf(s); conflicts != "" {
			return actions.Conflict, conflicts, "--force takes these fields over"
		}
		return actions.Conflict, text, "if somebody else changes it, run it again"
	case metav1.StatusReasonInvalid, metav1.StatusReasonBadRequest:
		return actions.Invalid, text, ""
	case metav1.StatusReasonNotFound:
		if s.Details != nil && s.Details.Kind == "namespaces" {
			return actions.NotFound, "there is no namespace " + c.namespace, "kubectl create namespace " + c.namespace
		}
		return actions.NotFound, text, ""
	case metav1.StatusReasonTooManyRequests:
		return actions.Busy, text, "run it again later; what is there already stays"
	case metav1.StatusReasonRequestEntityTooLarge:
		return actions.TooLarge, text, ""
	}
	return actions.Unavailable, text, "run it again; what is there already stays"
}

// conflictsOf says which fields of server-side apply are others'.
func conflictsOf(s metav1.Status) string {
	if s.Details == nil {
		return ""
	}
	var texts []string
	for _, cause := range s.Details.Causes {
		if cause.Type == metav1.CauseTypeFieldManagerConflict {
			texts = append(texts, cause.Field+" ("+cause.Message+")")
		}
	}
	if len(texts) == 0 {
		return ""
	}
	return "fields that others have set: " + strings.Join(texts, ", ")
}

// boundByEventing says whether the only others who have set fields of a Service are the parts of
// Eventing that give it the K_SINK of a SinkBinding. They do so again whenever it is sent, so
// nothing is lost when their fields, which are the whole list of containers, are taken over.
func boundByEventing(err error) bool {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) || answer.Status().Details == nil {
		return false
	}
	found := false
	for _, cause := range answer.Status().Details.Causes {
		if cause.Type != metav1.CauseTypeFieldManagerConflict {
			continue
		}
		if !strings.HasPrefix(cause.Message, `conflict with "eventing-`) {
			return false
		}
		found = true
	}
	return found
}
