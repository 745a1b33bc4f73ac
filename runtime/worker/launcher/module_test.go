package launcher_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker/launcher"
)

// module is a DEEPaaS module.
const module = `
import os
from webargs import fields
from marshmallow import validate
from deepaas.model.v2.wrapper import UploadedFile

def get_metadata():
    return {"name": "of the test"}

def get_predict_args():
    return {"n": fields.Int(required=True, validate=validate.Range(min=1)), "data": fields.Field()}

def predict(**kwargs):
    return {"n": kwargs["n"] + 1, "upload": UploadedFile.__name__}
`

// A module is the same in a forked worker, with deepaas installed and without.
func TestForkedModule(t *testing.T) {
	for _, variable := range []string{"DEEPFN_TEST_PYTHON_DEEPAAS", "DEEPFN_TEST_PYTHON_CURRENT"} {
		t.Run(variable, func(t *testing.T) {
			b := open(t, launcher.Config{})
			run := action(t, module)
			run.Python = interpreter(t, variable)
			fresh := b.start(t, run)
			forked := b.forked(t, run)
			var want, got actions.Description
			if err := json.Unmarshal(fresh.Info(), &want); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(forked.Info(), &got); err != nil {
				t.Fatal(err)
			}
			want.Imports, got.Imports = nil, nil // the forked one has more
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if answer, _ := ask(t, forked, `{"n": 2}`); number(answer["n"]) != 3 || answer["upload"] != "UploadedFile" {
				t.Errorf("got %v", answer)
			}
			if _, err := forked.Call(t.Context(), actions.Request{Args: []byte(`{"n": 0}`)}); actions.CodeOf(err) != actions.Invalid {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The packages of a virtual environment beside the file are imported by the fork server.
func TestForkServerWithVirtualenv(t *testing.T) {
	b := open(t, launcher.Config{})
	run := action(t, "import os, of_the_environment\n\ndef main(args):\n    return {'before': of_the_environment.pid != os.getpid()}\n")
	version, err := exec.CommandContext(t.Context(), run.Python, "-c", "import sys; print('python%d.%d' % sys.version_info[:2], end='')").Output()
	if err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(run.Model.Dir, "virtualenv", "lib", string(version), "site-packages", "of_the_environment")
	if err := os.MkdirAll(place, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(place, "__init__.py"), []byte("import os\npid = os.getpid()\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _ := ask(t, b.forked(t, run), `{}`); got["before"] != true {
		t.Errorf("the package was not imported before the fork; the log: %s", b.log.String())
	}
}
