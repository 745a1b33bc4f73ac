package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/proxy"
	"github.com/deepfn/deepfn/runtime/controller"
	"github.com/deepfn/deepfn/runtime/store"
)

// *controller.Controller is what the front wants.
var _ proxy.Controller = (*controller.Controller)(nil)

// keyVariable has the key of the API.
const keyVariable = "DEEPFN_API_KEY"

// apiSettings say whether and how a server answers OpenWhisk's API.
type apiSettings struct {
	on    bool
	asked bool   // somebody has said that it is to be on
	key   string // UUID:KEY, empty for the one that everybody knows
}

func (a *apiSettings) addFlags(f *pflag.FlagSet) {
	f.BoolVar(&a.on, "openwhisk-api", true, "answer OpenWhisk's REST API at /api/v1, for wsk (DEEPFN_OPENWHISK_API)")
	f.StringVar(&a.key, "api-key", "", "UUID:KEY that the API asks for; better given as DEEPFN_API_KEY, which nobody else sees. The default is\n"+
		"OpenWhisk's well-known key of the user guest, and on an address that is not loopback no API")
}

// resolve fills in from the environment what no flag has set.
func (a *apiSettings) resolve(flags *pflag.FlagSet, getenv func(string) string) (err error) {
	a.asked = a.on && flags.Changed("openwhisk-api")
	if text := getenv("DEEPFN_OPENWHISK_API"); text != "" && !flags.Changed("openwhisk-api") {
		if a.on, err = strconv.ParseBool(text); err != nil {
			return usageError{fmt.Errorf("DEEPFN_OPENWHISK_API=%s: want true or false", text)}
		}
		a.asked = a.on
	}
	if !flags.Changed("api-key") {
		a.key = getenv(keyVariable)
	}
	// Models and the code of actions inherit the environment, and have no business with it.
	if err := os.Unsetenv(keyVariable); err != nil {
		return err
	}
	if user, key, ok := strings.Cut(a.key, ":"); a.key != "" && (!ok || user == "" || key == "") {
		return usageError{errors.New("--api-key, or DEEPFN_API_KEY: want UUID:KEY, such as $(uuidgen):$(openssl rand -hex 32)")}
	}
	// An action container is no place for another OpenWhisk.
	if getenv("__OW_API_HOST") != "" && !a.asked {
		a.on = false
	}
	return nil
}

// A localAPI is the OpenWhisk of a server: who decides, and where it is kept. The zero
// value is none.
type localAPI struct {
	controller *controller.Controller
	store      *store.Store
	host       string // its address, as clients want it
	key        string
}

// openAPI opens the OpenWhisk of a server. There is none where nobody
// could be kept from using it, and none when another server has the data folder; all else
// works without.
func (srv *server) openAPI(r *running) (localAPI, error) {
	if !srv.api.on {
		return localAPI{}, nil
	}
	addr := r.listener.Addr()
	api := localAPI{host: apiHost(addr), key: srv.api.key}
	switch local := isLoopback(addr); {
	case local && api.key == "":
		api.key = whisk.GuestAuth
	case api.key == "" && srv.api.asked:
		r.log.Warn("no OpenWhisk API: on an address that others reach it needs a key of your own, DEEPFN_API_KEY", "address", addr.String())
		return localAPI{}, nil
	case api.key == "":
		r.log.Info("no OpenWhisk API on an address that others reach; DEEPFN_API_KEY, a key of your own, turns it on", "address", addr.String())
		return localAPI{}, nil
	case !local && api.key == whisk.GuestAuth:
		return localAPI{}, usageError{errors.New("--api-key, or DEEPFN_API_KEY: everybody knows this key, and others reach " + addr.String() + "; make one of your own")}
	}
	var err error
	api.store, err = store.Open(store.Config{Path: filepath.Join(r.data, "whisk.db"), Log: r.log})
	if err != nil {
		r.log.Warn("no OpenWhisk API: its data cannot be used; name another folder with --data", "error", err)
		return localAPI{}, nil
	}
	api.controller, err = controller.New(controller.Config{
		Store: api.store, Catalog: r.all,
		Run: func(ctx context.Context, a actions.Activation) (actions.Response, error) {
			return r.front.Activate(ctx, a)
		},
		Warm: func(ctx context.Context, model string) error {
			defer r.pool.Cool(model)
			return r.pool.Warm(ctx, model, 1)
		},
		Forget: func(model string) {
			r.pool.Forget(model)
			r.all.forget(model)
		},
		Batches: r.batches != nil,
		Auth:    api.key, APIHost: api.host, MaxPayload: srv.PayloadLimit, ByReference: true,
		Timeout: srv.actionTimeouts(), Log: r.log,
	})
	if err != nil {
		return localAPI{}, errors.Join(err, api.store.Close())
	}
	return api, nil
}

// actionTimeouts are the time limits that an action may have, in milliseconds: no request
// may take longer than the server allows, and a minute is OpenWhisk's default.
func (srv *server) actionTimeouts() controller.Range {
	most := time.Hour
	if srv.timeout > 0 {
		most = min(most, srv.timeout)
	}
	ms := max(int(most.Milliseconds()), 100)
	return controller.Range{Min: 100, Max: ms, Default: min(60_000, ms)}
}

// codeInstances is how many instances plain code may have at least: so many invocations of
// it run at a time, among them those that it makes of itself.
const codeInstances = 8

// functionInstances is how many instances a model may have that is plain code of an action,
// zero for another. Code is small; a model has its weights in each instance.
func (srv *server) functionInstances(m actions.Model) int {
	if isCode(m) {
		return max(codeInstances, srv.instances)
	}
	return 0
}

// tell says how wsk is told of the API. A key of one's own is nobody else's to read.
func (api localAPI) tell(w io.Writer) {
	if api.controller == nil {
		return
	}
	key := api.key
	if key != whisk.GuestAuth {
		key = `"$DEEPFN_API_KEY"`
	}
	_, _ = fmt.Fprintf(w, "wsk property set --apihost %s --auth %s\n", api.host, key)
}

// close waits for the activations under way, which ends with ctx, and then for the disk.
func (api localAPI) close(ctx context.Context) error {
	if api.controller == nil {
		return nil
	}
	err := api.controller.Close(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // it is in the log, and in the records
	}
	return errors.Join(err, api.store.Close())
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// apiHost is the URL at which this machine reaches a server that listens on addr.
func apiHost(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if tcp, ok := addr.(*net.TCPAddr); err != nil || ok && tcp.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}
