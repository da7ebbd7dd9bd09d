package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// quotaBytes bounds the embedded database. A million policy objects of the
// usual size stay well below it.
const quotaBytes = 8 << 30

// maxRequestBytes leaves room for the largest object the API accepts (a
// ConfigMap of 1 MiB and its metadata), sealed.
const maxRequestBytes = 3 << 20

// socketPathMax is what sun_path holds on Linux, less the terminating zero.
const socketPathMax = 107

// Embedded is an etcd server inside this process.
type Embedded struct {
	server *embed.Etcd
	// endpoint is the URL of the client socket.
	endpoint string
	// sockets is the directory of the sockets when it had to be made outside
	// of the data directory.
	sockets string
}

// Embed starts an etcd on dir and returns when it serves. The server listens
// on two unix sockets inside a directory of mode 0700 and on no network.
//
// A data directory that etcd can't read gives an error; when etcd finds the
// damage in a goroutine of its own, damaged is called with the reason instead
// and must end the process.
func Embed(ctx context.Context, dir string, log *slog.Logger, damaged func(reason string)) (*Embedded, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create etcd directory: %w", err)
	}
	if err := verify(dir); err != nil {
		return nil, err
	}
	e := &Embedded{}
	sockets := dir
	if len(filepath.Join(dir, "client.sock")) > socketPathMax {
		tmp, err := os.MkdirTemp("", "gatehouse-")
		if err != nil {
			return nil, fmt.Errorf("create socket directory: %w", err)
		}
		e.sockets, sockets = tmp, tmp
	}
	client := url.URL{Scheme: "unix", Path: filepath.Join(sockets, "client.sock")}
	peer := url.URL{Scheme: "unix", Path: filepath.Join(sockets, "peer.sock")}
	e.endpoint = client.String()
	for _, u := range []url.URL{client, peer} {
		// A socket that outlived a killed process refuses the bind.
		if err := os.Remove(u.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("remove stale socket: %w", err)
		}
	}

	cfg := embed.NewConfig()
	cfg.Name = "gatehouse"
	cfg.Dir = filepath.Join(dir, "data")
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	// etcd opens the peer listener at the URL's host and ignores its path; an
	// empty host would become an abstract socket, open to every user.
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{{Scheme: "unix", Host: peer.Path}}, []url.URL{peer}
	cfg.InitialCluster = cfg.Name + "=" + peer.String()
	cfg.QuotaBackendBytes = quotaBytes
	cfg.MaxRequestBytes = maxRequestBytes
	cfg.EnableGRPCGateway = false
	cfg.WatchProgressNotifyInterval = time.Second
	// A single member elects itself; waiting the default second would be all
	// of the time that a start may take.
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(newBridge(log), zap.WithFatalHook(fatalHook{damaged}), zap.WithPanicHook(fatalHook{damaged})))

	server, err := startEtcd(cfg)
	if err != nil {
		e.Close()
		return nil, fmt.Errorf("start embedded etcd on %s: %w", dir, err)
	}
	e.server = server
	select {
	case <-server.Server.ReadyNotify():
		return e, nil
	case err := <-server.Err():
		e.Close()
		return nil, fmt.Errorf("start embedded etcd on %s: %w", dir, err)
	case <-ctx.Done():
		e.Close()
		return nil, fmt.Errorf("start embedded etcd on %s: %w", dir, ctx.Err())
	}
}

// startEtcd turns the panics with which etcd reports unreadable files into
// errors.
func startEtcd(cfg *embed.Config) (e *embed.Etcd, err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case runtime.Error:
			err = errors.New("the data is damaged: its log cannot be read; restore a backup")
		default:
			err = fmt.Errorf("the data is damaged: %v; restore a backup", r)
		}
	}()
	return embed.StartEtcd(cfg)
}

// Endpoint is the URL that clients in this process connect to.
func (e *Embedded) Endpoint() string { return e.endpoint }

// Err delivers the error with which the server stopped by itself.
func (e *Embedded) Err() <-chan error { return e.server.Err() }

// Close stops the server and waits until its files are closed.
func (e *Embedded) Close() {
	if e.server != nil {
		e.server.Close()
	}
	if e.sockets != "" {
		os.RemoveAll(e.sockets)
	}
}
