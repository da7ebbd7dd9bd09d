package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"

	"github.com/gatehouse-dev/gatehouse/internal/conformance/drift"
)

func conformanceCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "conformance",
		Short: "Check other systems",
		Long:  `Checks other systems against what they should be.`,
	}
	c.AddCommand(driftCommand())
	return c
}

// driftOptions are the flags of kubernetes-drift.
type driftOptions struct {
	kubeconfig, output, version, baseline string
	from                                  []string
	fix, yes                              bool
}

// driftTimeout bounds the reading of a live cluster.
const driftTimeout = 5 * time.Minute

func driftCommand() *cobra.Command {
	var o driftOptions
	c := &cobra.Command{
		Use:   "kubernetes-drift",
		Short: "Report what a Kubernetes cluster has that a new installation would not have",
		Long: `Reports bindings, roles and settings that a new installation of the same version
would not have: an upgrade only adds, so what older versions granted more freely
stays. Each finding comes with the command that repairs it.

The cluster is read through --kubeconfig, or with --from from a dump: files or
folders with the output of

  kubectl get clusterroles,clusterrolebindings,roles,rolebindings -A -o yaml

and with the manifest of kube-apiserver (/etc/kubernetes/manifests) or a text
file with its flags. With both, --from adds the flags of a live cluster whose
static pods cannot be seen.

The roles and bindings that a version starts with are known for ` + strings.Join(drift.Versions(), ", ") + `, with the
default feature gates. For others give a dump of a new installation with
--baseline; without one only what is wrong in every version is reported, and a
note says so. Roles and bindings of your own are not judged, but for those that
earlier instructions made.

--fix repairs roles and bindings of a live cluster, after it has shown the
commands and you have agreed. Every change is refused by the server when the
object has changed since it was read. Settings are repaired by hand.

The exit code is 0 without findings, or when --fix has repaired all of them, and
1 with findings.`,
		Example: `  gatehouse conformance kubernetes-drift --kubeconfig admin.conf
  gatehouse conformance kubernetes-drift --from dump.yaml --from kube-apiserver.yaml --output json
  gatehouse conformance kubernetes-drift --kubeconfig admin.conf --fix`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &exit{exitUsage, errors.New("no arguments are expected")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return findDrift(cmd, &o) },
	}
	f := c.Flags()
	f.StringArrayVar(&o.from, "from", nil, "file or folder with a dump of roles, bindings and flags")
	f.StringVar(&o.version, "kubernetes-version", "", "version of the cluster, where a dump does not say (such as v1.36.3)")
	f.StringVar(&o.baseline, "baseline", "", "dump of a new installation to compare with, instead of a known version")
	f.BoolVar(&o.fix, "fix", false, "repair roles and bindings of the live cluster")
	f.BoolVarP(&o.yes, "yes", "y", false, "with --fix: do not ask")
	outputFlag(c, &o.output)
	kubeconfigFlag(c, &o.kubeconfig)
	return c
}

// driftResult is what the command prints.
type driftResult struct {
	drift.Report `json:",inline"`
	Repaired     []drift.Outcome `json:"repaired,omitempty"`
}

func findDrift(cmd *cobra.Command, o *driftOptions) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	live := len(o.from) == 0 || cmd.Flags().Changed("kubeconfig")
	if o.fix && !live {
		return &exit{exitUsage, errors.New("--fix repairs a live cluster: give --kubeconfig, and --from for its flags only")}
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), driftTimeout)
	defer cancel()
	cluster, client, err := o.read(ctx, live)
	if err != nil {
		return err
	}
	if o.version != "" {
		cluster.Version = o.version
	}
	base, ok := drift.BaselineFor(cluster.Version)
	if !ok {
		base = nil
	}
	if o.baseline != "" {
		if base, err = readBaseline(o.baseline); err != nil {
			return &exit{exitUsage, fmt.Errorf("--baseline: %w", err)}
		}
	}
	result := driftResult{Report: drift.Compare(cluster, base)}
	found := len(result.Findings) > 0
	if o.fix && found {
		agreed, err := o.agree(cmd, &result.Report)
		if err != nil {
			return err
		}
		if agreed {
			result.Repaired, ok = drift.Repair(ctx, client, result.Findings)
			found = !ok
		}
	}
	if err := show(cmd.OutOrStdout(), o.output, result, func(w io.Writer) { driftText(w, &result, o.fix) }); err != nil {
		return err
	}
	if found {
		return &exit{code: exitNo}
	}
	return nil
}

func (o *driftOptions) read(ctx context.Context, live bool) (*drift.Cluster, kubernetes.Interface, error) {
	dump := &drift.Cluster{}
	if len(o.from) > 0 {
		var err error
		if dump, err = drift.Read(o.from); err != nil {
			return nil, nil, &exit{exitUsage, fmt.Errorf("--from: %w", err)}
		}
	}
	if !live {
		return dump, nil, nil
	}
	cfg, err := loadKubeconfig(o.kubeconfig)
	if err != nil {
		return nil, nil, err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, nil, &exit{exitUsage, err}
	}
	cluster, err := drift.Live(ctx, client)
	if err != nil {
		return nil, nil, clientError(err)
	}
	cluster.Flags = append(cluster.Flags, dump.Flags...)
	return cluster, client, nil
}

func readBaseline(path string) (*drift.Baseline, error) {
	cluster, err := drift.Read([]string{path})
	if err != nil {
		return nil, err
	}
	return drift.BaselineOf(cluster)
}

// agree shows the difference and asks.
func (o *driftOptions) agree(cmd *cobra.Command, report *drift.Report) (bool, error) {
	w := cmd.ErrOrStderr()
	for i := range report.Findings {
		f := &report.Findings[i]
		fmt.Fprintf(w, "- %s %s\n  %s\n", f.Object, f.Detail, strings.Join(f.Repair, "\n  "))
	}
	if o.yes {
		return true, nil
	}
	fmt.Fprint(w, "Make these changes? [y/N] ")
	line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 64)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	fmt.Fprintln(w, "nothing was changed")
	return false, nil
}

func driftText(w io.Writer, r *driftResult, fixed bool) {
	against := "what is wrong in every version"
	if r.Baseline != "" {
		against = "a new installation of " + r.Baseline
	}
	fmt.Fprintf(w, "compared with %s: %d findings\n", against, len(r.Findings))
	for i := range r.Findings {
		f := &r.Findings[i]
		fmt.Fprintf(w, "\n%s  %s", f.Kind, f.Object)
		if f.Detail != "" {
			fmt.Fprintf(w, "  %s", f.Detail)
		}
		fmt.Fprintf(w, "\n  %s\n", f.Why)
		if !fixed {
			for _, c := range f.Repair {
				fmt.Fprintf(w, "  %s\n", c)
			}
		}
	}
	if len(r.Repaired) > 0 {
		fmt.Fprintln(w)
	}
	for _, out := range r.Repaired {
		if out.Error != "" {
			fmt.Fprintf(w, "not repaired: %s\n  %s\n", out.Command, out.Error)
		} else {
			fmt.Fprintf(w, "repaired: %s\n", out.Command)
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
}
