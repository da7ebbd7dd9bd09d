package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/internal/config"
	"github.com/gatehouse-dev/gatehouse/internal/server"
)

func checkCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "check --config FILE",
		Short: "Validate a configuration file exactly as serve would",
		Long: `Validates a configuration file exactly as "gatehouse serve" would. Every fault
is listed with its field, and the exit code is 2 if there is one.`,
		Example: `  gatehouse check --config /etc/gatehouse/gatehouse.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return &exit{exitUsage, fmt.Errorf("--config is required")}
			}
			cfg, err := config.Load(path, config.Flags{})
			if err != nil {
				return &exit{exitUsage, err}
			}
			if err := server.CheckAuthentication(cfg); err != nil {
				return &exit{exitUsage, err}
			}
			fmt.Fprintln(cmd.ErrOrStderr(), path, "is valid")
			return nil
		},
	}
	c.Flags().StringVar(&path, "config", "", "configuration file")
	return c
}
