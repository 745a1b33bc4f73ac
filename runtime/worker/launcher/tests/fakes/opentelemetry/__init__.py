"""As much of OpenTelemetry's API as attaching a context needs."""
