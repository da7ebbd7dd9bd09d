package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// dialTimeout bounds how long an unreachable etcd holds a start up.
const dialTimeout = 10 * time.Second

// Endpoints say where an etcd is and how to reach it.
type Endpoints struct {
	// URLs of the members, https://host:port or unix:///path.
	URLs []string
	// CAFile, CertFile and KeyFile are PEM files; all empty only for unix
	// sockets.
	CAFile, CertFile, KeyFile string
}

// Connect opens a client and waits until etcd answers.
func Connect(ctx context.Context, at Endpoints, log *slog.Logger) (*clientv3.Client, error) {
	cfg := clientv3.Config{
		Endpoints:            at.URLs,
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 5 * time.Second,
		Logger:               zap.New(newBridge(log)),
	}
	if at.CAFile != "" || at.CertFile != "" {
		tls, err := transport.TLSInfo{TrustedCAFile: at.CAFile, CertFile: at.CertFile, KeyFile: at.KeyFile}.ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("read etcd client certificate: %w", err)
		}
		cfg.TLS = tls
	}
	client, err := clientv3.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to etcd at %v: %w", at.URLs, err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if _, err := client.Get(ctx, "/gatehouse/", clientv3.WithKeysOnly(), clientv3.WithLimit(1)); err != nil {
		client.Close()
		return nil, fmt.Errorf("connect to etcd at %v: %w", at.URLs, err)
	}
	return client, nil
}
