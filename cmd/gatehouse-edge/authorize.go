package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	federation "github.com/gatehouse-dev/gatehouse/api/federation/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/authz/condition"
	"github.com/gatehouse-dev/gatehouse/internal/access/grant"
	"github.com/gatehouse-dev/gatehouse/internal/edge/authorize"
	"github.com/gatehouse-dev/gatehouse/internal/edge/follow"
	"github.com/gatehouse-dev/gatehouse/internal/edge/journal"
	"github.com/gatehouse-dev/gatehouse/internal/edge/localtls"
)

// authorizeOptions are the flags of authorize.
type authorizeOptions struct {
	servers               []string
	site, dir, name, mode string
	stateDir, tlsDir      string
	listen, socket        string
	maxAge                time.Duration
	journalMegabytes      int64
	journalFull           string
	siteMode              federation.SiteMode
	full                  journal.Full
}

func authorizeCommand() *cobra.Command {
	var o authorizeOptions
	c := &cobra.Command{
		Use:   "authorize --server URL --site NAME --dir DIR --state-dir DIR",
		Short: "Decide for a site beside it, also while the control plane is away",
		Long: `Follows the signed policy of a site and answers its questions on this machine: a
kube-apiserver asks over HTTPS on a loopback address, with a client certificate that
is written to the TLS directory; other programs ask over AuthZEN, there or on a unix
socket. "gatehouse site connect kubernetes NAME --local" writes the files by which a
kube-apiserver asks here; it must be started after this program printed "ready".

While the control plane is away, decisions go on, bans included, until --max-age has
passed since it was heard last. Then nothing is decided: questions are answered with
an error, which kube-apiserver takes for a refusal (--fail-closed) or for no opinion,
and /readyz says why. A policy that is not signed by the control plane, is of another
site, or is older than what was held before is refused, over restarts too.

Every decision is on disk before it is answered and is delivered to the record when
the control plane is there. When the journal is full, decisions are refused, or made
and not recorded, as --journal-full says.

DIR holds site.crt, site.key and ca.crt as "gatehouse site connect" wrote them; they
are read again for every new connection.`,
		Example: `  gatehouse-edge authorize --site blue --server https://gatehouse.example:7443 \
      --dir /etc/kubernetes/gatehouse --state-dir /var/lib/gatehouse-edge \
      --socket /run/gatehouse-edge/authzen.sock`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serveAuthorize(cmd.Context(), o) },
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "local"
	}
	f := c.Flags()
	f.StringSliceVar(&o.servers, "server", nil, "https URL of the control plane, once for each replica (required)")
	f.StringVar(&o.site, "site", "", "name of the site (required)")
	f.StringVar(&o.dir, "dir", "", "directory with site.crt, site.key and ca.crt (required)")
	f.StringVar(&o.stateDir, "state-dir", "", "directory for policy, journal and keys (required); it is created")
	f.StringVar(&o.tlsDir, "tls-dir", "", "directory for the client certificate of kube-apiserver (default: tls in --state-dir)")
	f.StringVar(&o.listen, "listen", "127.0.0.1:7444", "loopback address to serve HTTPS on")
	f.StringVar(&o.socket, "socket", "", "path of a unix socket to serve AuthZEN and metrics on (default: none)")
	f.StringVar(&o.name, "name", host, "name of this decision point in the status of the site and in the record")
	f.StringVar(&o.mode, "mode", "full", "full, or deny for a site that is connected in mode deny: nothing is granted here")
	f.DurationVar(&o.maxAge, "max-age", 24*time.Hour, "how long to go on deciding when the control plane is not heard; it may allow less")
	f.Int64Var(&o.journalMegabytes, "journal-size", 1024, "room for decisions that are not on record yet, in MiB")
	f.StringVar(&o.journalFull, "journal-full", "refuse", "what happens when that is used up: refuse decisions, or drop records of them")
	return c
}

func (o *authorizeOptions) check() error {
	for flag, value := range map[string]string{"site": o.site, "dir": o.dir, "state-dir": o.stateDir} {
		if value == "" {
			return fmt.Errorf("--%s is required", flag)
		}
	}
	if len(o.servers) == 0 {
		return errors.New("--server is required")
	}
	if err := localtls.Loopback(o.listen); err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	if o.maxAge < time.Minute {
		return errors.New("--max-age must be at least 1m")
	}
	if o.journalMegabytes < 1 || o.journalMegabytes > 1<<20 {
		return errors.New("--journal-size must be from 1 to 1048576 MiB")
	}
	modes := map[string]federation.SiteMode{"full": federation.SiteFull, "deny": federation.SiteDeny}
	full := map[string]journal.Full{"refuse": journal.Refuse, "drop": journal.Drop}
	var ok bool
	if o.siteMode, ok = modes[o.mode]; !ok {
		return fmt.Errorf("--mode %q is not full or deny", o.mode)
	}
	if o.full, ok = full[o.journalFull]; !ok {
		return fmt.Errorf("--journal-full %q is not refuse or drop", o.journalFull)
	}
	if o.tlsDir == "" {
		o.tlsDir = filepath.Join(o.stateDir, "tls")
	}
	return nil
}

// decisionPoint is what runs.
type decisionPoint struct {
	follower *follow.Follower
	journal  *journal.Journal
	local    *localtls.Authority
	point    *authorize.Point
	remote   authorize.Remote
}

func serveAuthorize(ctx context.Context, o authorizeOptions) error {
	if err := o.check(); err != nil {
		return &exit{exitUsage, err}
	}
	// A core dump would hold keys.
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return &exit{exitNo, fmt.Errorf("disable core dumps: %w", err)}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return &exit{exitNo, fmt.Errorf("listen: %w", err)}
	}
	defer listener.Close()
	d, err := openDecisionPoint(o, listener.Addr(), log)
	if err != nil {
		return err
	}
	servers := []*http.Server{server(d.point.Handler(), log)}
	listeners := []net.Listener{tls.NewListener(listener, d.local.ServerTLS())}
	if o.socket != "" {
		socket, err := listenUnix(o.socket)
		if err != nil {
			return &exit{exitNo, err}
		}
		servers, listeners = append(servers, server(d.point.Local(), log)), append(listeners, socket)
	}
	return d.run(ctx, servers, listeners, log)
}

func openDecisionPoint(o authorizeOptions, at net.Addr, log *slog.Logger) (*decisionPoint, error) {
	client, err := siteClient(o.dir)
	if err != nil {
		return nil, &exit{exitUsage, err}
	}
	if err := os.MkdirAll(o.stateDir, 0o700); err != nil {
		return nil, &exit{exitNo, fmt.Errorf("create state directory: %w", err)}
	}
	environment, err := condition.New()
	if err != nil {
		return nil, err
	}
	d := &decisionPoint{remote: authorize.Remote{Servers: o.servers, Site: o.site, Client: client}}
	if d.follower, err = follow.Open(follow.Config{
		Servers: o.servers, Site: o.site, Name: o.name, Client: client, Dir: filepath.Join(o.stateDir, "policy"), MaxAge: o.maxAge,
		Conditions: condition.Version, Compile: grant.Conditions{Environment: environment}.Follow, Now: time.Now, Log: log,
	}); err != nil {
		return nil, &exit{exitUsage, err}
	}
	if d.local, err = localtls.Open(o.tlsDir, o.site, time.Now); err != nil {
		return nil, &exit{exitNo, err}
	}
	if d.journal, err = journal.Open(journal.Config{
		Dir: filepath.Join(o.stateDir, "journal"), MaxBytes: o.journalMegabytes << 20, Full: o.full, Now: time.Now, Log: log,
	}); err != nil {
		return nil, &exit{exitNo, err}
	}
	registry := prometheus.NewRegistry()
	if d.point, err = authorize.New(authorize.Config{
		Site: o.site, Name: o.name, Mode: o.siteMode, Policy: d.follower, Journal: d.journal, Centre: d.remote,
		Clients: d.local.Pool(), URL: "https://" + at.String(), Registry: registry, Now: time.Now, Log: log,
	}); err != nil {
		return nil, &exit{exitNo, errors.Join(err, d.journal.Close())}
	}
	return d, nil
}

func server(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 3 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// drainTimeout is how long requests may take to end when the program stops.
const drainTimeout = 10 * time.Second

// run serves until ctx ends. The journal closes last: a request that is still
// answered must be recorded.
func (d *decisionPoint) run(ctx context.Context, servers []*http.Server, listeners []net.Listener, log *slog.Logger) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	writing, stopWriting := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWriting()
	var work, writer sync.WaitGroup
	writer.Go(func() {
		if err := d.journal.Run(writing); err != nil {
			stop(err)
		}
	})
	work.Go(func() { _ = d.follower.Run(ctx) })
	work.Go(func() { _ = d.point.Sweep(ctx) })
	work.Go(func() {
		if err := d.journal.Deliver(ctx, d.remote.Send); err != nil {
			stop(err)
		}
	})
	work.Go(func() { d.renew(ctx, log) })
	for i := range servers {
		work.Go(func() {
			if err := servers[i].Serve(listeners[i]); err != nil && !errors.Is(err, http.ErrServerClosed) {
				stop(fmt.Errorf("serve: %w", err))
			}
		})
	}
	if err := d.waitForPolicy(ctx); err == nil {
		fmt.Println("ready https://" + listeners[0].Addr().String())
	}
	<-ctx.Done()
	err := context.Cause(ctx)
	drained, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	for _, s := range servers {
		if serr := s.Shutdown(drained); serr != nil {
			log.Warn("requests cut off", "error", serr)
			s.Close()
		}
	}
	work.Wait()
	stopWriting()
	writer.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if err = errors.Join(err, d.journal.Close()); err != nil {
		return &exit{exitNo, err}
	}
	return nil
}

// waitForPolicy returns when questions can be answered.
func (d *decisionPoint) waitForPolicy(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for d.point.Ready() != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// renew keeps the local certificates good.
func (d *decisionPoint) renew(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(24 * time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := d.local.Renew(); err != nil {
				log.Error("certificates not renewed", "error", err)
			}
		}
	}
}
