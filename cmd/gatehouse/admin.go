package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/internal/config"
	"github.com/gatehouse-dev/gatehouse/internal/server"
)

func adminCommand() *cobra.Command {
	c := &cobra.Command{Use: "admin", Short: "Operations for whoever holds the machine"}
	c.AddCommand(recoverCommand())
	return c
}

func recoverCommand() *cobra.Command {
	var path, reason, out string
	var flags config.Flags
	c := &cobra.Command{
		Use:   "recover --data-dir DIR --reason TEXT",
		Short: "Make a new administrator when no other can get in",
		Long: `Makes a new administrator with a certificate for 24 hours, when no other
administrator can get in any more: its certificate is lost, or it is banned or
denied what it needs. Bans and denying access policies that name administrators
of the control plane are deleted; the record lists them.

The server must be stopped. Nothing is needed but the data directory and its root
key, and the use of this command is recorded, with its reason, in the audit log
before anything is written.`,
		Example: `  systemctl stop gatehouse
  gatehouse admin recover --data-dir /var/lib/gatehouse --reason "lost admin.kubeconfig"
  systemctl start gatehouse
  kubectl --kubeconfig /var/lib/gatehouse/recovery.kubeconfig auth whoami`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(path, flags)
			if err != nil {
				return &exit{exitUsage, err}
			}
			if strings.TrimSpace(reason) == "" {
				return &exit{exitUsage, errors.New("--reason is required; it is recorded")}
			}
			if _, err := os.Stat(cfg.RootKeyFile()); err != nil {
				return &exit{exitUsage, fmt.Errorf("%s is no data directory with a root key: %w", cfg.DataDir(), err)}
			}
			if out == "" {
				out = filepath.Join(cfg.DataDir(), "recovery.kubeconfig")
			}
			name, lifted, err := server.Recover(cmd.Context(), server.RecoverOptions{
				Config: cfg, Reason: reason, Out: out, Log: logger(os.Stderr, cfg), Fatal: damaged(cfg),
			})
			if err != nil {
				return &exit{exitNo, oneLine(err)}
			}
			for _, object := range lifted {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s bound administrators and was deleted\n", object)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "administrator %s can act for 24 hours once the server runs again\n", name)
			fmt.Fprintln(cmd.OutOrStdout(), out)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&path, "config", "", "configuration file of the server, if it has one")
	f.StringVar(&flags.DataDir, "data-dir", "", "directory of the replica's state (default gatehouse-data)")
	f.StringVar(&flags.Listen, "listen", "", "host:port of the server, for the kubeconfig (default: as before)")
	f.StringVar(&reason, "reason", "", "why; recorded (required)")
	f.StringVar(&out, "out", "", "kubeconfig to write (default DIR/recovery.kubeconfig)")
	return c
}

// damaged ends the process when the data turns out to be unreadable.
func damaged(cfg config.Config) func(reason string) {
	return func(reason string) {
		fmt.Fprintf(os.Stderr, "gatehouse: data in %s is damaged: %s; restore a backup\n", cfg.DataDir(), reason)
		os.Exit(exitNo)
	}
}

// oneLine keeps what went wrong in one line for logs and supervisors.
func oneLine(err error) error { return errors.New(strings.ReplaceAll(err.Error(), "\n", "; ")) }
