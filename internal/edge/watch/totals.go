package watch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/edge/cluster"
	"github.com/gatehouse-dev/gatehouse/internal/federation/totalwire"
)

const (
	// totalsEvery is how often the kube-apiservers are asked what they threw
	// away.
	totalsEvery   = 15 * time.Second
	totalsTimeout = 10 * time.Second
	// maxMetrics bounds the metrics of one, in bytes; a large cluster has tens
	// of megabytes.
	maxMetrics    = 256 << 20
	maxMetricLine = 64 << 10

	metricsPath = "/metrics"
	// serversPath lists the kube-apiservers that there are.
	serversPath = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
)

// totals tells the control plane, over and over until ctx ends, what the
// kube-apiservers say of their audit events.
func (w *Watcher) totals(ctx context.Context) {
	tick := time.NewTicker(totalsEvery)
	defer tick.Stop()
	said := ""
	for {
		err := w.tellTotals(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			said = ""
		case err.Error() != said: // once, however long it lasts
			said = err.Error()
			w.cfg.Log.Warn("audit totals of the cluster not told", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *Watcher) tellTotals(ctx context.Context) error {
	servers, err := w.servers(ctx)
	if err != nil {
		return err
	}
	var (
		report  totalwire.Report
		mu      sync.Mutex // guards report and problem
		problem error
		wg      sync.WaitGroup
	)
	for _, s := range servers {
		wg.Go(func() {
			p, err := s.ask(ctx, w.cfg.ClusterURL)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				report.Unreached = append(report.Unreached, s.name)
				problem = fmt.Errorf("read metrics of %s: %w", s.name, err)
				return
			}
			report.Processes = append(report.Processes, p)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	slices.SortFunc(report.Processes, func(a, b totalwire.Process) int { return strings.Compare(a.Server, b.Server) })
	slices.Sort(report.Unreached)
	body, err := json.Marshal(&report)
	if err != nil {
		return fmt.Errorf("write totals: %w", err)
	}
	// That some are not reached is told too, and then said here.
	return errors.Join(problem, w.deliver(ctx, w.door+"/audit/totals", body, nil))
}

// server is one kube-apiserver and how it is reached.
type server struct {
	name   string
	client *http.Client
}

// servers are all kube-apiservers, each at its own address: behind the one of
// the service, one would be asked and the others would not. Where the cluster
// does not list them there is the one that is spoken to.
func (w *Watcher) servers(ctx context.Context) ([]server, error) {
	base, err := url.Parse(w.cfg.ClusterURL)
	if err != nil {
		return nil, fmt.Errorf("ask the cluster: %w", err)
	}
	one := []server{{base.Host, w.cfg.Cluster}}
	ctx, cancel := context.WithTimeout(ctx, totalsTimeout)
	defer cancel()
	response, err := ask(ctx, w.cfg.Cluster, w.cfg.ClusterURL+serversPath, "application/json")
	if errors.Is(err, errNotThere) {
		return one, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	var slice struct {
		Endpoints []struct {
			Addresses []string `json:"addresses"`
		} `json:"endpoints"`
		Ports []struct {
			Name string `json:"name"`
			Port int    `json:"port"`
		} `json:"ports"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&slice); err != nil {
		return nil, fmt.Errorf("read the list of kube-apiservers: %w", err)
	}
	port := 0
	for _, p := range slice.Ports {
		if p.Name == "https" || len(slice.Ports) == 1 {
			port = p.Port
		}
	}
	var out []server
	w.pinnedMu.Lock()
	defer w.pinnedMu.Unlock()
	keep := map[string]*http.Client{}
	for _, e := range slice.Endpoints {
		for _, address := range e.Addresses {
			at := net.JoinHostPort(address, strconv.Itoa(port))
			if net.ParseIP(address) == nil || port <= 0 || len(out) == totalwire.MaxProcesses || keep[at] != nil {
				continue
			}
			client := w.pinned[at]
			if client == nil {
				if client, err = cluster.At(w.cfg.Cluster, at); err != nil {
					return nil, err
				}
			}
			keep[at] = client
			out = append(out, server{at, client})
		}
	}
	for at, client := range w.pinned {
		if keep[at] == nil {
			client.CloseIdleConnections()
		}
	}
	w.pinned = keep
	if len(out) == 0 {
		return one, nil
	}
	return out, nil
}

func (s *server) ask(ctx context.Context, base string) (p totalwire.Process, err error) {
	ctx, cancel := context.WithTimeout(ctx, totalsTimeout)
	defer cancel()
	response, err := ask(ctx, s.client, base+metricsPath, "text/plain")
	if err != nil {
		return p, err
	}
	defer func() { _ = response.Body.Close() }()
	if p, err = readTotals(io.LimitReader(response.Body, maxMetrics)); err != nil {
		return p, err
	}
	p.Server = s.name
	return p, nil
}

// readTotals reads the counters of a kube-apiserver out of its metrics. Those
// of plugins that do not concern the webhook are passed over; "buffered" may be
// a log that is written in batches, which nothing tells apart.
func readTotals(r io.Reader) (p totalwire.Process, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxMetricLine)
	found := false
	for lines.Scan() {
		line := lines.Bytes()
		var to *int64
		scale := 1.0
		switch name := line[:max(0, bytes.IndexAny(line, "{ "))]; string(name) {
		case "process_start_time_seconds":
			to, scale = &p.Started, 1e6
		case "apiserver_audit_event_total":
			to, found = &p.Produced, true
		case "apiserver_audit_error_total":
			switch {
			case bytes.Contains(line, []byte(`plugin="buffered"`)):
				to = &p.Discarded.Buffered
			case bytes.Contains(line, []byte(`plugin="webhook"`)):
				to = &p.Discarded.Webhook
			case bytes.Contains(line, []byte(`plugin="truncate"`)):
				to = &p.Discarded.Truncate
			default:
				continue
			}
		default:
			continue
		}
		// "name{labels} value", and perhaps a time.
		fields := strings.Fields(string(line[bytes.LastIndexByte(line, '}')+1:]))
		if len(fields) > 0 && fields[0] == string(line[:bytes.IndexAny(line, "{ ")]) {
			fields = fields[1:]
		}
		value := math.NaN()
		if len(fields) > 0 {
			if value, err = strconv.ParseFloat(fields[0], 64); err != nil {
				value = math.NaN()
			}
		}
		if !(value >= 0 && value*scale <= totalwire.MaxCount) {
			return p, fmt.Errorf("the metrics hold no number in %.100q", line)
		}
		*to = int64(math.Round(value * scale))
	}
	if err := lines.Err(); err != nil {
		return p, fmt.Errorf("read metrics: %w", err)
	}
	if !found || p.Started == 0 {
		return p, errors.New("the metrics are not those of a kube-apiserver that records")
	}
	return p, nil
}
