package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/gatehouse-dev/gatehouse/internal/config"
	"github.com/gatehouse-dev/gatehouse/internal/server"
)

func serveCommand() *cobra.Command {
	var path string
	var flags config.Flags
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane",
		Long: `Runs the control plane with everything embedded, or on an external etcd and
PostgreSQL when the configuration names them.

The first start creates the root key, the certificate authorities and
admin.kubeconfig (mode 0600) in the data directory. When the server serves it
prints one line, "ready https://...". SIGTERM drains requests and exits with 0.`,
		Example: `  gatehouse serve --data-dir /var/lib/gatehouse
  gatehouse serve --config /etc/gatehouse/gatehouse.yaml
  kubectl --kubeconfig gatehouse-data/admin.kubeconfig get namespaces`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(path, flags)
			if err != nil {
				return &exit{exitUsage, err}
			}
			// A core dump would hold every key in clear.
			if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
				return &exit{exitNo, fmt.Errorf("disable core dumps: %w", err)}
			}
			if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
				return &exit{exitNo, fmt.Errorf("disable core dumps: %w", err)}
			}
			log := logger(os.Stderr, cfg)
			err = server.Run(cmd.Context(), server.Options{
				Config:  cfg,
				Version: version,
				Log:     log,
				Ready:   func(url string) { fmt.Println("ready", url) },
				Fatal:   damaged(cfg),
			})
			if err != nil {
				return &exit{exitNo, oneLine(err)}
			}
			return nil
		},
	}
	c.Flags().StringVar(&path, "config", "", "configuration file; without it, defaults")
	c.Flags().StringVar(&flags.DataDir, "data-dir", "", "directory of the replica's state (default gatehouse-data)")
	c.Flags().StringVar(&flags.Listen, "listen", "", "host:port to listen on, port 0 for a free one (default 127.0.0.1:7443)")
	return c
}

// logger writes what the process says about itself; the libraries of the frame
// are heard from warnings on.
func logger(w io.Writer, cfg config.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.LogLevel()}
	var h slog.Handler = slog.NewTextHandler(w, options)
	if cfg.LogJSON() {
		h = slog.NewJSONHandler(w, options)
	}
	log := slog.New(h)
	klog.SetLoggerWithOptions(logr.FromSlogHandler(quiet{h}), klog.ContextualLogger(true))
	return log
}
