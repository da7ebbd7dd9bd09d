// Command gatehouse-edge is what runs beside a workload, a cluster or on a host.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the build.
var version = "0.1.0-dev"

// Exit codes, the same as those of gatehouse.
const (
	exitNo          = 1
	exitUsage       = 2
	exitUnreachable = 3
)

// exit is an error that chooses the exit code.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string { return e.err.Error() }
func (e *exit) Unwrap() error { return e.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

func run(ctx context.Context, args []string) int {
	root := &cobra.Command{
		Use:           "gatehouse-edge",
		Short:         "What runs beside a workload, a cluster or on a host",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(authorizeCommand(), credentialCommand(), signerCommand(), watchCommand())
	root.SetArgs(args)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exit{exitUsage, err} })
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "gatehouse-edge:", err)
	if e, ok := errors.AsType[*exit](err); ok {
		return e.code
	}
	return exitUsage
}
