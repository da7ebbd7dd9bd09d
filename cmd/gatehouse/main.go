// Command gatehouse is the control plane and the operator's command line.
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

// Exit codes, fixed so that scripts can rely on them.
const (
	exitNo          = 1 // no, denied, found
	exitUsage       = 2 // usage or input error
	exitUnreachable = 3 // server unreachable
)

// exit is an error that chooses the exit code. An empty text prints nothing.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// rootCommand is the whole command line.
func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "gatehouse",
		Short: "The security control plane for shared infrastructure",
		Long: `Gatehouse answers five questions for every platform it is connected to: who is
calling, may they, whose key protects it, who did what, what is weak right now.

Start with "gatehouse serve".`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exit{exitUsage, err} })
	root.AddCommand(
		serveCommand(),
		checkCommand(),
		loginCommand(), connectCommand(),
		siteCommand(),
		revokeCommand(), canICommand(), whoCanCommand(), whatCanCommand(), explainCommand(), whatIfCommand(), conformanceCommand(),
		keysCommand(), tokensCommand(), proxyCertificateCommand(),
		auditCommand(),
		adminCommand(),
	)
	return root
}

func run(ctx context.Context, args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var e *exit
	if errors.As(err, &e) {
		if e.err != nil {
			fmt.Fprintln(os.Stderr, "gatehouse:", e.err)
		}
		return e.code
	}
	fmt.Fprintln(os.Stderr, "gatehouse:", err)
	return exitUsage
}
