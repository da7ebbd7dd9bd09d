package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"

	"github.com/gatehouse-dev/gatehouse/internal/audit"
	"github.com/gatehouse-dev/gatehouse/internal/audit/ledger"
	"github.com/gatehouse-dev/gatehouse/internal/audit/query"
	"github.com/gatehouse-dev/gatehouse/internal/audit/registry"
	"github.com/gatehouse-dev/gatehouse/internal/audit/verify"
	"github.com/gatehouse-dev/gatehouse/internal/audit/vfs"
)

// maxAnswer bounds what is read of a server's answer about its record.
const maxAnswer = 64 << 20

// pathLogs is where a server lists the registered logs.
const pathLogs = "/audit/logs"

// ask makes one call to a path of the server that is no resource. in, if not
// nil, is posted as JSON.
func ask(ctx context.Context, kubeconfig, path string, in any) ([]byte, error) {
	cfg, err := loadKubeconfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, &exit{exitUsage, err}
	}
	method, body := http.MethodGet, io.Reader(nil)
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		method, body = http.MethodPost, bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(cfg.Host, "/")+path, body)
	if err != nil {
		return nil, &exit{exitUsage, err}
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, &exit{exitUnreachable, fmt.Errorf("server unreachable: %w", err)}
	}
	defer resp.Body.Close()
	warnings, _ := utilnet.ParseWarningHeaders(resp.Header["Warning"]) // what cannot be read is none
	for _, w := range warnings {
		fmt.Fprintln(os.Stderr, "Warning:", w.Text)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, &exit{exitUnreachable, fmt.Errorf("read the answer: %w", err)}
	case len(data) > maxAnswer:
		return nil, &exit{exitUsage, errors.New("the answer is too long")}
	case resp.StatusCode/100 == 2:
		return data, nil
	}
	refused := fmt.Errorf("server answered %d: %s", resp.StatusCode, printable(statusText(data)))
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, &exit{exitNo, refused}
	case http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return nil, &exit{exitUnreachable, refused}
	}
	return nil, &exit{exitUsage, refused}
}

// statusText is the message of a Kubernetes status, or the text itself.
func statusText(data []byte) string {
	var status struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(data, &status) == nil && status.Message != "" {
		return status.Message
	}
	return strings.TrimSpace(string(data[:min(len(data), 500)]))
}

// maxEvents is the most that a server answers with.
const maxEvents = 10_000

// questionOf is a filter as the parameters of a question to a server.
func questionOf(f *query.Filter, domain string) url.Values {
	q := url.Values{}
	for name, value := range map[string]string{
		"user": f.User, "group": f.Group, "credential": f.Credential, "verb": f.Verb, "resource": f.Resource, "namespace": f.Namespace,
		"name": f.Name, "decision": f.Decision, "site": f.Site, "auditID": f.AuditID, "domain": domain,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.APIGroup != nil {
		q.Set("apiGroup", *f.APIGroup)
	}
	if !f.Since.IsZero() {
		q.Set("since", f.Since.Format(time.RFC3339Nano))
	}
	if !f.Until.IsZero() {
		q.Set("until", f.Until.Format(time.RFC3339Nano))
	}
	limit := f.Limit
	if limit == 0 {
		limit = maxEvents
	}
	q.Set("limit", strconv.Itoa(limit))
	return q
}

// askEvents asks a server.
func askEvents(ctx context.Context, kubeconfig, domain string, f query.Filter, emit func(query.Match) error) error {
	data, err := ask(ctx, kubeconfig, "/audit/events?"+questionOf(&f, domain).Encode(), nil)
	if err != nil {
		return err
	}
	for dec := json.NewDecoder(bytes.NewReader(data)); ; {
		var line struct {
			Record uint64          `json:"record"`
			At     time.Time       `json:"at"`
			Site   string          `json:"site"`
			Event  json.RawMessage `json:"event"`
		}
		if err := dec.Decode(&line); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		e, err := audit.Decode(line.Event)
		if err != nil {
			return err
		}
		if err := emit(query.Match{Index: line.Record, At: line.At, Site: line.Site, Event: e, Raw: line.Event}); err != nil {
			return err
		}
	}
}

// logList is what a server, or a file that was kept, says of the logs.
type logList struct {
	Logs []registry.Log `json:"logs"`
}

func readLogs(data []byte) (logList, error) {
	var list logList
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&list); err != nil {
		return list, &exit{exitUsage, fmt.Errorf("registered logs: %w", err)}
	}
	return list, nil
}

func auditLogsCommand() *cobra.Command {
	var kubeconfig, output string
	c := &cobra.Command{
		Use:   "logs",
		Short: "List the registered logs, one for each replica",
		Long: `Lists the logs that make up the record: one for each replica that is or was,
with its newest registered checkpoint. Kept as a file elsewhere (--output json),
the list shows later whether a log was cut off, rewritten or removed:
"gatehouse audit verify --registered FILE".`,
		Example: `  gatehouse audit logs
  gatehouse audit logs --output json > monday.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			data, err := ask(cmd.Context(), kubeconfig, pathLogs, nil)
			if err != nil {
				return err
			}
			list, err := readLogs(data)
			if err != nil {
				return err
			}
			if output != "table" {
				return printData(cmd.OutOrStdout(), output, list)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(t, "LOG\tORIGIN\tRECORDS\tREGISTERED\tRETIRED")
			for _, l := range list.Logs {
				size, err := l.Size()
				records := fmt.Sprint(size)
				if err != nil {
					records = "NOT VALID"
				}
				retired := "-"
				if l.Retired != nil {
					retired = l.Retired.Format(time.RFC3339)
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", printable(l.ID), printable(l.Origin), records, l.Updated.Format(time.RFC3339), retired)
			}
			return t.Flush()
		},
	}
	kubeconfigFlag(c, &kubeconfig)
	outputFlag(c, &output)
	return c
}

func auditRetireCommand() *cobra.Command {
	var kubeconfig, dataDir string
	c := &cobra.Command{
		Use:   "retire LOG",
		Short: "Take a replica's log out of service for good",
		Long: `Marks the log of a replica that does not come back as ended, with its final
checkpoint. A replica that was stopped properly has registered that itself; of
one that was not, give the data directory if it is still there. A replica whose
log is retired stops, and does not start again with the same data directory.`,
		Example: `  gatehouse audit retire 5f1c2a9be07d4433
  gatehouse audit retire 5f1c2a9be07d4433 --data-dir /mnt/old-disk/gatehouse`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := struct {
				Retire     string `json:"retire"`
				Checkpoint string `json:"checkpoint,omitempty"`
			}{Retire: args[0]}
			if dataDir != "" {
				dir := filepath.Join(dataDir, "audit")
				meta, err := ledger.ReadMeta(vfs.OS{}, dir)
				if err != nil {
					return &exit{exitUsage, err}
				}
				if meta.ID != in.Retire {
					return &exit{exitUsage, fmt.Errorf("%s holds log %s, not %s", dir, meta.ID, in.Retire)}
				}
				final, err := ledger.ReadCheckpoint(vfs.OS{}, dir)
				if err != nil {
					return &exit{exitUsage, err}
				}
				in.Checkpoint = string(final)
			}
			_, err := ask(cmd.Context(), kubeconfig, pathLogs, in)
			return err
		},
	}
	c.Flags().StringVar(&dataDir, "data-dir", "", "data directory of that replica, to read its final checkpoint from")
	kubeconfigFlag(c, &kubeconfig)
	return c
}

// verifyOptions are the flags of audit verify.
type verifyOptions struct {
	dirs, anchors, keys, witnesses []string
	kubeconfig, registered, output string
	bundle                         string
}

// verification is the outcome for a whole record.
type verification struct {
	Logs []*verify.Report `json:"logs"`
	// Faults are those of the record as a whole.
	Faults []verify.Fault `json:"faults,omitempty"`
}

func (v *verification) ok() bool {
	for _, r := range v.Logs {
		if !r.OK() {
			return false
		}
	}
	return len(v.Faults) == 0
}

// verifyRecord checks every directory, and all together against what is
// registered.
func verifyRecord(ctx context.Context, o verifyOptions, stderr io.Writer) (*verification, error) {
	var known *logList
	if o.registered != "" || o.kubeconfig != "" {
		list, err := registeredLogs(ctx, o)
		if err != nil {
			return nil, err
		}
		known = &list
	}
	anchors, err := o.readAnchors()
	if err != nil {
		return nil, err
	}
	if len(o.dirs) == 0 {
		o.dirs = []string{""}
	}
	out := &verification{}
	for _, dir := range o.dirs {
		opts := verify.Options{Keys: o.keys, Anchors: anchors, Witnesses: o.witnesses, Progress: func(n uint64) { fmt.Fprintf(stderr, "\r%d records verified", n) }}
		dir = auditDir(dir)
		if known != nil {
			meta, err := ledger.ReadMeta(vfs.OS{}, dir)
			if err != nil {
				return nil, &exit{exitUsage, fmt.Errorf("read audit log %s: %w", dir, err)}
			}
			known.anchor(meta.ID, &opts)
		}
		report, err := verify.Log(ctx, dir, opts)
		if err != nil {
			if errors.Is(err, context.Canceled) {
				return nil, &exit{exitNo, errors.New("interrupted")}
			}
			return nil, &exit{exitUsage, err}
		}
		out.Logs = append(out.Logs, report)
	}
	if known != nil {
		out.Faults = verify.Compare(known.registrations(), out.Logs)
	}
	return out, nil
}

// readAnchors reads the checkpoints that were kept elsewhere.
func (o *verifyOptions) readAnchors() ([][]byte, error) {
	var anchors [][]byte
	for _, path := range o.anchors {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, &exit{exitUsage, fmt.Errorf("read checkpoint: %w", err)}
		}
		anchors = append(anchors, data)
	}
	return anchors, nil
}

func registeredLogs(ctx context.Context, o verifyOptions) (logList, error) {
	data, err := []byte(nil), error(nil)
	if o.registered != "" {
		if data, err = os.ReadFile(o.registered); err != nil {
			return logList{}, &exit{exitUsage, fmt.Errorf("read registered logs: %w", err)}
		}
	} else if data, err = ask(ctx, o.kubeconfig, pathLogs, nil); err != nil {
		return logList{}, err
	}
	return readLogs(data)
}

// anchor adds what is registered of one log.
func (l *logList) anchor(id string, o *verify.Options) {
	for _, reg := range l.Logs {
		if reg.ID != id {
			continue
		}
		o.Keys = append(append([]string(nil), o.Keys...), reg.Keys...)
		if reg.Checkpoint != "" {
			o.Anchors = append(append([][]byte(nil), o.Anchors...), []byte(reg.Checkpoint))
		}
	}
}

func (l *logList) registrations() []verify.Registration {
	out := make([]verify.Registration, 0, len(l.Logs))
	for _, reg := range l.Logs {
		out = append(out, verify.Registration{ID: reg.ID, Origin: reg.Origin, Key: strings.Join(reg.Keys, "\n"), Checkpoint: []byte(reg.Checkpoint)})
	}
	return out
}
