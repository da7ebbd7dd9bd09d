package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Result is what a program that ran to its end left behind.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// String shows a result in test failures.
func (r Result) String() string {
	return fmt.Sprintf("exit code %d\nstdout: %s\nstderr: %s", r.Code, r.Stdout, r.Stderr)
}

// Kubectl runs the stock kubectl. It keeps its caches beside the folder of the
// kubeconfig (which may be a data directory) and reads no settings of the
// person who runs the tests.
type Kubectl struct {
	path       string
	kubeconfig string
	env        []string
}

// NewKubectl returns a kubectl for one kubeconfig.
func NewKubectl(kubeconfig string) (*Kubectl, error) {
	dir, err := Upstream()
	if err != nil {
		return nil, err
	}
	return &Kubectl{path: filepath.Join(dir, "kubectl"), kubeconfig: kubeconfig}, nil
}

// WithEnv returns a copy whose commands see further variables, KEY=VALUE.
func (k *Kubectl) WithEnv(env ...string) *Kubectl {
	copied := *k
	copied.env = append(append([]string(nil), k.env...), env...)
	return &copied
}

func (k *Kubectl) environ() []string {
	home := filepath.Dir(k.kubeconfig) + ".kubectl"
	env := []string{"HOME=" + home, "KUBECONFIG=" + k.kubeconfig, "PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	return append(env, k.env...)
}

// Run runs one command to its end, with the given standard input. The error is
// only for a kubectl that could not run.
func (k *Kubectl) Run(ctx context.Context, stdin string, args ...string) (Result, error) {
	return runToEnd(ctx, k.path, k.environ(), stdin, args...)
}

// Start runs a command that does not end by itself, such as get --watch.
func (k *Kubectl) Start(args ...string) (*Process, error) {
	return Start("kubectl "+strings.Join(args, " "), k.path, k.environ(), args...)
}

func runToEnd(ctx context.Context, path string, env []string, stdin string, args ...string) (Result, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = env
	cmd.WaitDelay = 10 * time.Second // a plugin that it started may hold its output open
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	result := Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	if ctx.Err() != nil {
		return result, fmt.Errorf("%s %s: %w\n%v", filepath.Base(path), strings.Join(args, " "), context.Cause(ctx), result)
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return result, err
	}
	return result, nil
}
