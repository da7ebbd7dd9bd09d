package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// readyWithin is the deadline of a program's start. It is generous, because
// tests run on loaded machines; what a start may take is measured by bench/sar.
const readyWithin = 2 * time.Minute

// A Gatehouse is a running control plane.
type Gatehouse struct {
	*Process
	Path       string        // the program
	DataDir    string        // its data directory
	URL        string        // https://127.0.0.1:PORT
	Kubeconfig string        // the administrator's
	Start      time.Duration // from exec to the ready line

	address string
	args    []string
}

// StartGatehouse starts the control plane on a data directory, which may hold
// data already, and waits until it serves. args are added to the command line.
func StartGatehouse(ctx context.Context, dataDir string, args ...string) (*Gatehouse, error) {
	path, err := BuildGatehouse()
	if err != nil {
		return nil, err
	}
	g := &Gatehouse{
		Path:       path,
		DataDir:    dataDir,
		Kubeconfig: filepath.Join(dataDir, "admin.kubeconfig"),
		args:       args,
	}
	err = onFreePort(func(address string) error {
		g.address = address
		return g.Restart(ctx)
	})
	return g, err
}

// Restart starts the control plane again with the same command line, on the
// same data and address. The one before must have ended.
func (g *Gatehouse) Restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	args := append([]string{"serve", "--data-dir", g.DataDir, "--listen", g.address}, g.args...)
	began := time.Now()
	p, err := Start("gatehouse", g.Path, nil, args...)
	if err != nil {
		return err
	}
	line, err := p.WaitLine(ctx, "ready https://")
	if err != nil {
		p.Kill()
		return err
	}
	g.Start = time.Since(began)
	g.Process = p
	g.URL = strings.TrimPrefix(line, "ready ")
	return nil
}

// Kubectl is a kubectl that speaks to the control plane as its administrator.
func (g *Gatehouse) Kubectl() (*Kubectl, error) {
	return NewKubectl(g.Kubeconfig)
}

// RunGatehouse runs a subcommand to its end. The result holds what it printed
// and its exit code; the error is only for one that could not run.
func RunGatehouse(ctx context.Context, args ...string) (Result, error) {
	path, err := BuildGatehouse()
	if err != nil {
		return Result{}, err
	}
	return runToEnd(ctx, path, os.Environ(), "", args...)
}

// String names the control plane in messages.
func (g *Gatehouse) String() string { return fmt.Sprintf("gatehouse at %s", g.URL) }
