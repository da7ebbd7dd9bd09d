package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/internal/audit/export"
	"github.com/gatehouse-dev/gatehouse/internal/audit/query"
	"github.com/gatehouse-dev/gatehouse/internal/audit/tiles"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
	"github.com/gatehouse-dev/gatehouse/internal/audit/witness"
)

func auditExportCommand() *cobra.Command {
	var f query.Filter
	var dataDir, kubeconfig, domain, out string
	c := &cobra.Command{
		Use:   "export",
		Short: "Hand over the record of one incident, with its proofs",
		Long: `Writes a bundle of the events that "gatehouse audit query" would find: each
record to the byte, the proof that it stands in the log, the checkpoint that the
proofs lead to and what witnesses signed. Whoever gets the bundle verifies it
offline with "gatehouse audit verify --bundle", or with any tool for RFC 6962
proofs and C2SP signed notes.

The bundle goes up to the newest checkpoint, which is at most a second old. It
proves what is in it, not that nothing was left out. The exit code is 0 when
something was found and 1 when not.

Who may not read the whole record asks a server with --domain or --namespace.`,
		Example: `  gatehouse audit export --user jane --since 24h --out incident.jsonl
  gatehouse audit export --kubeconfig admin.kubeconfig --domain blue --since 2h --out blue.jsonl`,
		Args: cobra.NoArgs,
	}
	since, until, group := filterFlags(c, &f)
	c.Flags().StringVar(&dataDir, "data-dir", "", "data directory (default gatehouse-data)")
	c.Flags().StringVar(&kubeconfig, "kubeconfig", "", "ask the server of this kubeconfig")
	c.Flags().StringVar(&domain, "domain", "", "only what concerns namespaces of this domain (with --kubeconfig)")
	c.MarkFlagsMutuallyExclusive("kubeconfig", "data-dir")
	c.Flags().IntVar(&f.Limit, "limit", 10_000, "how many events at most, the newest; 0 for all")
	c.Flags().StringVar(&out, "out", "-", "file to write, - for standard output")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := completeFilter(cmd, &f, *since, *until, group); err != nil {
			return err
		}
		if kubeconfig == "" && domain != "" {
			return &exit{exitUsage, errors.New("--domain is asked of a server: give --kubeconfig")}
		}
		w, finish, err := bundleFile(out, cmd.OutOrStdout())
		if err != nil {
			return &exit{exitUsage, err}
		}
		var n uint64
		if kubeconfig != "" {
			n, err = exportFromServer(cmd.Context(), kubeconfig, domain, f, w)
		} else {
			n, err = exportFromDir(cmd.Context(), auditDir(dataDir), f, w)
		}
		if ferr := finish(err == nil); err == nil {
			err = ferr
		}
		var e *exit
		switch {
		case errors.As(err, &e):
			return err
		case err != nil:
			return &exit{exitUsage, err}
		case n == 0:
			fmt.Fprintln(cmd.ErrOrStderr(), "no events found")
			return &exit{code: exitNo}
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%d events exported\n", n)
		return nil
	}
	return c
}

// bundleFile opens the file to write; finish closes it, and removes it when
// the bundle is not whole.
func bundleFile(path string, stdout io.Writer) (w io.Writer, finish func(whole bool) error, err error) {
	if path == "-" {
		return stdout, func(bool) error { return nil }, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, nil, err
	}
	return f, func(whole bool) error {
		err := f.Close()
		if !whole {
			err = errors.Join(err, os.Remove(path))
		}
		return err
	}, nil
}

func exportFromDir(ctx context.Context, dir string, f query.Filter, out io.Writer) (uint64, error) {
	src, err := tiles.Open(vfs.OS{}, dir)
	if err != nil {
		return 0, err
	}
	signed, err := witness.Kept(vfs.OS{}, dir)
	if err != nil {
		return 0, err
	}
	asked := map[string]string{}
	for name, values := range questionOf(&f, "") {
		asked[name] = values[0]
	}
	if f.Limit == 0 {
		delete(asked, "limit")
	}
	return export.Write(ctx, out, src, signed, f, asked, time.Now(), func(ctx context.Context, f query.Filter, emit func(query.Match) error) error {
		return query.Run(ctx, vfs.OS{}, dir, f, emit)
	})
}

// exportFromServer fetches a bundle. It verifies before it is written, so that
// what is handed on was whole when it came.
func exportFromServer(ctx context.Context, kubeconfig, domain string, f query.Filter, out io.Writer) (uint64, error) {
	data, err := ask(ctx, kubeconfig, "/audit/export?"+questionOf(&f, domain).Encode(), nil)
	if err != nil {
		return 0, err
	}
	r, err := export.Verify(ctx, bytes.NewReader(data), export.Options{})
	if err != nil {
		return 0, fmt.Errorf("read the answer: %w", err)
	}
	if !r.OK() {
		return 0, fmt.Errorf("the server's bundle does not hold: %s", printable(r.Faults[0].String()))
	}
	_, err = out.Write(data)
	return r.Records, err
}

// verifyBundle checks one bundle.
func verifyBundle(ctx context.Context, o verifyOptions, stdin io.Reader, out io.Writer) error {
	anchors, err := o.readAnchors()
	if err != nil {
		return err
	}
	in := stdin
	if o.bundle != "-" {
		f, err := os.Open(o.bundle)
		if err != nil {
			return &exit{exitUsage, err}
		}
		defer f.Close()
		in = f
	}
	r, err := export.Verify(ctx, in, export.Options{Keys: o.keys, Witnesses: o.witnesses, Anchors: anchors})
	if err != nil {
		return &exit{exitUsage, err}
	}
	if o.output != "table" {
		err = printData(out, o.output, r)
	} else {
		err = printBundle(out, r)
	}
	if err != nil {
		return err
	}
	if !r.OK() {
		return &exit{code: exitNo}
	}
	return nil
}

func printBundle(w io.Writer, r *export.Report) error {
	fmt.Fprintf(w, "bundle of log %s (%s), made %s: %d records under a checkpoint of %d\n", printable(r.Log), printable(r.Origin), r.Made.UTC().Format(time.RFC3339), r.Records, r.Size)
	if r.Records > 0 {
		fmt.Fprintf(w, "recorded from %s to %s\n", r.Since.UTC().Format(time.RFC3339Nano), r.Until.UTC().Format(time.RFC3339Nano))
	}
	for _, x := range r.Witnesses {
		fmt.Fprintf(w, "witness %s signed the first %d records, the last time at %s\n", printable(x.Name), x.Size, x.At.UTC().Format(time.RFC3339))
	}
	for _, f := range r.Faults {
		fmt.Fprintln(w, printable(f.String()))
	}
	for _, u := range r.Unsure {
		fmt.Fprintln(w, "not excluded:", printable(u))
	}
	verdict := "the bundle holds"
	if !r.OK() {
		verdict = "the bundle does NOT hold"
	}
	_, err := fmt.Fprintln(w, verdict)
	return err
}
