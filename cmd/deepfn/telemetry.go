package main

import (
	"context"

	"github.com/deepfn/deepfn/proxy"
	"github.com/deepfn/deepfn/runtime/telemetry"
)

// trace has the front record spans, if the variables of OpenTelemetry name a collector. The
// function it returns sends the last ones.
func (h *house) trace(ctx context.Context, front *proxy.Config) (flush func(context.Context)) {
	t := telemetry.Start(ctx, telemetry.Config{Getenv: h.getenv, Version: release, Log: h.log})
	if t == nil {
		return func(context.Context) {}
	}
	front.Tracer = t
	return func(ctx context.Context) {
		if err := t.Close(context.WithoutCancel(ctx)); err != nil {
			h.log.Warn("spans are lost", "error", err.Error())
		}
	}
}
