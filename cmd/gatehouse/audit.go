package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/follow"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/query"
	"github.com/gatehouse-dev/gatehouse/internal/audit/verify"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

func auditCommand() *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Read and verify the record"}
	c.AddCommand(auditQueryCommand(), auditTailCommand(), auditVerifyCommand(), auditLogsCommand(), auditRetireCommand(), auditExportCommand(), auditWitnessCommand())
	return c
}

// outputFlag is --output, the same on every command that prints data.
func outputFlag(c *cobra.Command, to *string) {
	c.Flags().StringVarP(to, "output", "o", "table", "table, json or yaml")
}

func checkOutput(output string) error {
	switch output {
	case "table", "json", "yaml":
		return nil
	}
	return &exit{exitUsage, fmt.Errorf("--output %q is not table, json or yaml", output)}
}

func auditDir(dataDir string) string {
	if dataDir == "" {
		dataDir = "gatehouse-data"
	}
	return filepath.Join(dataDir, "audit")
}

// filterFlags are the conditions of query and tail.
func filterFlags(c *cobra.Command, f *query.Filter) (since, until, group *string) {
	fl := c.Flags()
	fl.StringVar(&f.User, "user", "", "who acted, or on whose behalf")
	fl.StringVar(&f.Group, "group", "", "group of who acted")
	fl.StringVar(&f.Credential, "credential", "", "credential id: JTI=..., X509SHA256=..., KEY=...")
	fl.StringVar(&f.Verb, "verb", "", "verb of the request")
	fl.StringVar(&f.Resource, "resource", "", "resource in its plural")
	group = fl.String("api-group", "", "API group of the resource")
	fl.StringVarP(&f.Namespace, "namespace", "n", "", "namespace of the object")
	fl.StringVar(&f.Name, "name", "", "name of the object")
	fl.StringVar(&f.Decision, "decision", "", "allow or forbid")
	fl.StringVar(&f.Site, "site", "", `site that reported the event; "gatehouse" for the control plane's own`)
	fl.StringVar(&f.AuditID, "audit-id", "", "id of one request")
	since = fl.String("since", "", "from this time on: RFC 3339, or an age like 2h")
	until = fl.String("until", "", "before this time: RFC 3339, or an age like 5m")
	return since, until, group
}

func moment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, &exit{exitUsage, fmt.Errorf("--%s %q is neither a time (RFC 3339) nor an age like 2h", flag, text)}
	}
	return t, nil
}

func auditQueryCommand() *cobra.Command {
	var f query.Filter
	var dataDir, kubeconfig, domain, output string
	c := &cobra.Command{
		Use:   "query",
		Short: "Find events in the record",
		Long: `Finds events in the record of a data directory, of a running server or a copy,
or asks a server (--kubeconfig), which answers from its index what its replica
recorded. Every condition that is given must hold. The newest events come first.
The exit code is 0 when something was found and 1 when not.

Who may not read the whole record asks a server with --domain or --namespace.`,
		Example: `  gatehouse audit query --user jane --since 24h
  gatehouse audit query --kubeconfig admin.kubeconfig --domain blue --verb delete
  gatehouse audit query --decision forbid --resource secrets --output json
  gatehouse audit query --credential JTI=5a1f... --site blue`,
		Args: cobra.NoArgs,
	}
	since, until, group := filterFlags(c, &f)
	c.Flags().StringVar(&dataDir, "data-dir", "", "data directory (default gatehouse-data)")
	c.Flags().StringVar(&kubeconfig, "kubeconfig", "", "ask the server of this kubeconfig")
	c.Flags().StringVar(&domain, "domain", "", "only what concerns namespaces of this domain (with --kubeconfig)")
	c.MarkFlagsMutuallyExclusive("kubeconfig", "data-dir")
	c.Flags().IntVar(&f.Limit, "limit", 100, "how many events at most, 0 for all")
	outputFlag(c, &output)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkOutput(output); err != nil {
			return err
		}
		err := completeFilter(cmd, &f, *since, *until, group)
		if err != nil {
			return err
		}
		p := newEventPrinter(cmd.OutOrStdout(), output)
		switch {
		case kubeconfig != "":
			err = askEvents(cmd.Context(), kubeconfig, domain, f, p.print)
		case domain != "":
			return &exit{exitUsage, errors.New("--domain is asked of a server: give --kubeconfig")}
		default:
			if err = query.Run(cmd.Context(), vfs.OS{}, auditDir(dataDir), f, p.print); err == nil {
				err = warnOfDropped(cmd.ErrOrStderr(), auditDir(dataDir), f)
			}
		}
		if perr := p.close(); err == nil {
			err = perr
		}
		if err != nil {
			var e *exit
			if errors.As(err, &e) {
				return err
			}
			return &exit{exitUsage, err}
		}
		if p.count == 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), "no events found")
			return &exit{code: exitNo}
		}
		return nil
	}
	return c
}

// completeFilter reads the conditions that are no plain text.
func completeFilter(cmd *cobra.Command, f *query.Filter, since, until string, group *string) (err error) {
	now := time.Now()
	if f.Since, err = moment("since", since, now); err != nil {
		return err
	}
	if f.Until, err = moment("until", until, now); err != nil {
		return err
	}
	if cmd.Flags().Changed("api-group") {
		f.APIGroup = group
	}
	f.Newest = true
	return nil
}

// warnOfDropped says that an answer may lack what retention took.
func warnOfDropped(w io.Writer, dir string, f query.Filter) error {
	cuts, err := query.Cuts(vfs.OS{}, dir)
	if err != nil {
		return err
	}
	if text := query.Warning(f.Missing(cuts)); text != "" {
		fmt.Fprintln(w, "Warning:", text)
	}
	return nil
}

func auditTailCommand() *cobra.Command {
	var f query.Filter
	var dataDir, output string
	var last int
	c := &cobra.Command{
		Use:   "tail",
		Short: "Follow the record",
		Long: `Prints the last events of the record of a data directory and then new ones as
they are recorded, until interrupted.`,
		Example: `  gatehouse audit tail
  gatehouse audit tail --decision forbid --output json`,
		Args: cobra.NoArgs,
	}
	filterFlags(c, &f)
	c.Flags().StringVar(&dataDir, "data-dir", "", "data directory (default gatehouse-data)")
	c.Flags().IntVar(&last, "last", 10, "how many past events to begin with")
	outputFlag(c, &output)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkOutput(output); err != nil {
			return err
		}
		if err := tail(cmd.Context(), auditDir(dataDir), f, last, newEventPrinter(cmd.OutOrStdout(), output)); err != nil {
			return &exit{exitUsage, err}
		}
		return nil
	}
	return c
}

func tail(ctx context.Context, dir string, f query.Filter, last int, p *eventPrinter) error {
	past := f
	past.Newest, past.Limit = true, max(last, 1)
	var found []query.Match
	if err := query.Run(ctx, vfs.OS{}, dir, past, func(m query.Match) error { found = append(found, m); return nil }); err != nil {
		return err
	}
	next := uint64(0)
	for i := len(found) - 1; i >= 0; i-- {
		next = found[i].Index + 1
		if i < last {
			if err := p.print(found[i]); err != nil {
				return err
			}
		}
	}
	if err := p.flush(); err != nil {
		return err
	}
	r := follow.New(vfs.OS{}, dir, next)
	defer r.Close()
	for {
		records, err := r.Read(nil, 1024, ^uint64(0))
		if err != nil {
			return err
		}
		for _, rec := range records {
			m, ok, err := match(f, rec)
			if err != nil {
				return err
			}
			if ok {
				if err := p.print(m); err != nil {
					return err
				}
			}
		}
		if err := p.flush(); err != nil {
			return err
		}
		if len(records) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return p.close()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func match(f query.Filter, rec follow.Record) (query.Match, bool, error) {
	var e audit.Event
	if err := json.Unmarshal(rec.Event, &e); err != nil {
		return query.Match{}, false, fmt.Errorf("record %d: %w", rec.Index, err)
	}
	if f.Site != "" && f.Site != rec.Site && (f.Site != query.OwnSite || rec.Site != "") {
		return query.Match{}, false, nil
	}
	return query.Match{Index: rec.Index, At: rec.At, Site: rec.Site, Event: &e, Raw: rec.Event}, f.Matches(&e), nil
}

// eventPrinter prints events as a table, JSON lines or YAML documents.
type eventPrinter struct {
	w      io.Writer
	output string
	table  *tabwriter.Writer
	count  int
}

func newEventPrinter(w io.Writer, output string) *eventPrinter {
	p := &eventPrinter{w: w, output: output}
	if output == "table" {
		p.table = tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	}
	return p
}

func (p *eventPrinter) print(m query.Match) error {
	p.count++
	switch p.output {
	case "json":
		_, err := fmt.Fprintf(p.w, "%s\n", m.Raw)
		return err
	case "yaml":
		out, err := yaml.JSONToYAML(m.Raw)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(p.w, "---\n%s", out)
		return err
	}
	if p.count == 1 {
		fmt.Fprintln(p.table, "TIME\tSITE\tUSER\tVERB\tOBJECT\tCODE\tDECISION\tREASON")
	}
	e := m.Event
	site := m.Site
	if site == "" {
		site = "-"
	}
	user := e.User.Username
	if e.ImpersonatedUser != nil {
		user += " as " + e.ImpersonatedUser.Username
	}
	code := ""
	if e.ResponseStatus != nil {
		code = fmt.Sprint(e.ResponseStatus.Code)
	}
	_, err := fmt.Fprintf(p.table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.At.UTC().Format("2006-01-02T15:04:05.000Z"), site,
		printable(user), printable(e.Verb), printable(objectText(e)), code, e.Decision(), printable(e.Annotations[audit.AnnotationReason]))
	return err
}

// objectText is what the event is about, in one word.
func objectText(e *audit.Event) string {
	o := e.ObjectRef
	if o == nil {
		return e.RequestURI
	}
	s := o.Resource
	if o.APIGroup != "" {
		s += "." + o.APIGroup
	}
	if o.Subresource != "" {
		s += "/" + o.Subresource
	}
	if o.Namespace != "" || o.Name != "" {
		s += " " + strings.TrimPrefix(o.Namespace+"/"+o.Name, "/")
	}
	return s
}

// printable keeps what callers chose from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

func (p *eventPrinter) flush() error {
	if p.table != nil {
		return p.table.Flush()
	}
	return nil
}

func (p *eventPrinter) close() error { return p.flush() }

func auditVerifyCommand() *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{
		Use:   "verify",
		Short: "Prove that the record holds, or find where it does not",
		Long: `Reads every record of a data directory, of a running server or of a copy, and
computes every hash anew: a flipped byte, a dropped or altered record and a clock
that ran backwards are found and named with their place.

What a directory alone can prove ends at its newest checkpoint. What is known
from elsewhere also shows a log that was cut off or rewritten: a checkpoint that
was kept (--checkpoint), or the checkpoints that the replicas registered, asked
of a server (--kubeconfig) or kept as a file ("gatehouse audit logs --output
json", --registered). Held against those, a replica whose log is missing is a
fault too: give the data directory of each. Without an anchor, the report says
what cannot be excluded. The exit code is 0 when the record holds, 1 when not.

With --witness, the witness of that key must have signed a checkpoint of each
log, and the log must agree with what it signed: a log that shows others
another face than this one is a fault.

With --bundle, a bundle of "gatehouse audit export" is verified instead. It
needs nothing else; --key, --witness and --checkpoint hold it against what is
known from elsewhere.`,
		Example: `  gatehouse audit verify --data-dir /var/lib/gatehouse
  gatehouse audit verify --data-dir /var/lib/gatehouse --kubeconfig admin.kubeconfig
  gatehouse audit verify --data-dir ./a --data-dir ./b --registered monday.json
  gatehouse audit verify --data-dir ./copy --checkpoint monday.checkpoint --output json
  gatehouse audit verify --bundle incident.jsonl --key gatehouse/5f1c2a9be07d4433+1a2b3c4d+AQ...
  gatehouse audit verify --data-dir ./copy --witness witness.example/w1+e3c1f7d2+BLXM...`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringArrayVar(&o.dirs, "data-dir", nil, "data directory (default gatehouse-data); one for each replica")
	f.StringArrayVar(&o.anchors, "checkpoint", nil, "file with a signed checkpoint that was kept elsewhere; may be given again")
	f.StringArrayVar(&o.keys, "key", nil, "public key of the log (signed note format), if it is known from elsewhere; may be given again")
	f.StringArrayVar(&o.witnesses, "witness", nil, "public key of a witness (signed note format) that must have signed; may be given again")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "ask the server of this kubeconfig for the registered logs")
	f.StringVar(&o.registered, "registered", "", "file with the registered logs")
	f.StringVar(&o.bundle, "bundle", "", "file with a bundle of \"gatehouse audit export\", - for standard input")
	c.MarkFlagsMutuallyExclusive("kubeconfig", "registered", "bundle")
	c.MarkFlagsMutuallyExclusive("data-dir", "bundle")
	outputFlag(c, &o.output)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkOutput(o.output); err != nil {
			return err
		}
		if o.bundle != "" {
			return verifyBundle(cmd.Context(), o, cmd.InOrStdin(), cmd.OutOrStdout())
		}
		v, err := verifyRecord(cmd.Context(), o, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		if err := printVerification(cmd.OutOrStdout(), o.output, v); err != nil {
			return err
		}
		if !v.ok() {
			return &exit{code: exitNo}
		}
		return nil
	}
	return c
}

func printVerification(w io.Writer, output string, v *verification) error {
	if output != "table" {
		return printData(w, output, v)
	}
	for _, r := range v.Logs {
		printReport(w, r)
	}
	for _, f := range v.Faults {
		fmt.Fprintln(w, printable(f.String()))
	}
	what := "the log"
	if len(v.Logs) != 1 || len(v.Faults) > 0 {
		what = "the record"
	}
	if v.ok() {
		_, err := fmt.Fprintln(w, what, "holds")
		return err
	}
	_, err := fmt.Fprintln(w, what, "does NOT hold")
	return err
}

func printReport(w io.Writer, r *verify.Report) {
	fmt.Fprintf(w, "log %s (%s): %d records from %d on, %d of them signed, %d checkpoints\n", r.Log, r.Origin, r.Records, r.First, r.Signed, r.Checkpoints)
	for _, x := range r.Witnesses {
		fmt.Fprintf(w, "witness %s signed the first %d records, the last time at %s\n", printable(x.Name), x.Size, x.At.UTC().Format(time.RFC3339))
	}
	for _, g := range r.Gaps {
		fmt.Fprintf(w, "gap recorded at record %d, %s: %s\n", g.Record, g.At.UTC().Format(time.RFC3339), printable(g.Why))
	}
	if r.Dropped > 0 {
		fmt.Fprintf(w, "retention dropped %d records; their hashes are here and agree\n", r.Dropped)
	}
	for _, n := range r.Retention {
		fmt.Fprintf(w, "retention at %s: %d of the records %d to %d%s\n", n.At.UTC().Format(time.RFC3339), n.Dropped, n.First, n.Last, limits(n))
	}
	for _, f := range r.Faults {
		fmt.Fprintln(w, printable(f.String()))
	}
	for _, u := range r.Unsure {
		fmt.Fprintln(w, "not excluded:", printable(u))
	}
}

// limits says what was dropped of each class, and by which limit.
func limits(n ledger.RetentionNotice) string {
	var b strings.Builder
	for _, class := range slices.Sorted(maps.Keys(n.Classes)) {
		fmt.Fprintf(&b, ", %d of class %s kept for %s", n.Classes[class], class, n.Kept[class])
	}
	return printable(b.String())
}

// printData prints any value as JSON or YAML.
func printData(w io.Writer, output string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if output == "yaml" {
		if data, err = yaml.JSONToYAML(data); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", data)
	return err
}
