package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	restclient "k8s.io/client-go/rest"

	federationapi "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/policy"
	"github.com/gatehouse-dev/gatehouse/internal/authn"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/federation"
	"github.com/gatehouse-dev/gatehouse/internal/kubeapi"
	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// work is what runs beside the requests. The first part that fails stops the
// server with its error.
type work struct {
	stop context.CancelCauseFunc
	wg   sync.WaitGroup
}

func newWork(stop context.CancelCauseFunc) *work { return &work{stop: stop} }

func (w *work) start(name string, run func() error) {
	w.wg.Go(func() {
		if err := run(); err != nil {
			w.stop(fmt.Errorf("%s: %w", name, err))
		}
	})
}

// wait ends all work and waits for it.
func (w *work) wait() {
	w.stop(nil)
	w.wg.Wait()
}

// protobuf makes a client speak the smaller of the frame's two encodings.
func protobuf(c *restclient.Config) *restclient.Config {
	c.ContentType = "application/vnd.kubernetes.protobuf"
	c.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	return c
}

// waitReady asks the frame for its own readiness until it is there.
func waitReady(ctx context.Context, frame http.Handler) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		w := httptest.NewRecorder()
		frame.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/readyz", nil))
		if w.Code == http.StatusOK {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("server did not become ready: %s", w.Body)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// sweep gives back memory of tokens that nobody used lately.
func sweep(ctx context.Context, chain *authn.Chain) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			chain.Sweep()
		}
	}
}

// reportDoors writes when each site used its doors into the site's status,
// twice a minute at most: it is for people, and etcd is not for heartbeats.
func reportDoors(ctx context.Context, frame *kubeapi.Frame, directory *federation.Directory, local *localDecisions, now func() time.Time, log *slog.Logger) error {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		followers := local.Followers()
		for site, uses := range directory.TakeHeard() {
			err := frame.Modify(ctx, sites, "status", "", site, func(o resource.Object) error {
				status := &o.(*federationapi.Site).Status
				for _, use := range uses {
					setDoor(status, use)
				}
				setFollowers(status, followers[site], local.maxAge, now())
				return nil
			})
			if err != nil && ctx.Err() == nil {
				log.Warn("site status not written", "site", site, "error", err)
			}
		}
	}
}

func setDoor(status *federationapi.SiteStatus, use federation.Use) {
	at := metav1.NewTime(use.At)
	for i := range status.Doors {
		if status.Doors[i].Name == use.Door {
			status.Doors[i].LastHeard = &at
			return
		}
	}
	status.Doors = append(status.Doors, federationapi.SiteDoor{Name: use.Door, LastHeard: &at})
}

// auditPolicy reads the configured policy, or takes the built-in one.
func auditPolicy(path string) (*policy.Policy, error) {
	if path == "" {
		return policy.Default(), nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read audit policy: %w", err)
	}
	return policy.Parse(data)
}

// recordable reports whether the log takes records.
func recordable(log *ledger.Log) func() error {
	return func() error {
		if err := log.Stats().Err; err != nil {
			return fault.Wrap(fault.Unavailable, kubeapi.Unrecordable, err)
		}
		return nil
	}
}
