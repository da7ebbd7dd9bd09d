package watch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/federation/objectwire"
)

const (
	pageSize  = 500
	maxPage   = 256 << 20 // bytes of one page of a list
	maxAnswer = 4 << 20   // bytes of an answer of the control plane
	// The cluster ends a watch after watchFor; one that says nothing for
	// quiet, though bookmarks were asked for, is taken for broken.
	watchFor, quiet = 290 * time.Second, 150 * time.Second
	askTimeout      = 20 * time.Second
)

// kind is what is read of the cluster.
type kind struct {
	path string
	only string
	read func(data []byte) (i item, ok bool, m meta, err error)
}

// Kinds: pods without a node concern none. Of nodes it is told that they are
// there, for tokens that are bound to one.
var kinds = []kind{
	{"/api/v1/nodes", "", func(data []byte) (item, bool, meta, error) {
		var n struct {
			Metadata meta `json:"metadata"`
		}
		err := json.Unmarshal(data, &n)
		return item{nodeGroup(n.Metadata.Name), source{Kind: "Node", Name: n.Metadata.Name, UID: n.Metadata.UID}}, true, n.Metadata, err
	}},
	{"/api/v1/pods", "spec.nodeName!=", func(data []byte) (item, bool, meta, error) {
		var p pod
		err := json.Unmarshal(data, &p)
		i, ok := itemOf(p.source())
		return i, ok, p.Metadata, err
	}},
	{"/api/v1/persistentvolumes", "", func(data []byte) (item, bool, meta, error) {
		var v volume
		err := json.Unmarshal(data, &v)
		i, ok := itemOf(v.source())
		return i, ok, v.Metadata, err
	}},
	{"/apis/storage.k8s.io/v1/volumeattachments", "", func(data []byte) (item, bool, meta, error) {
		var a attachment
		err := json.Unmarshal(data, &a)
		i, ok := itemOf(a.source())
		return i, ok, a.Metadata, err
	}},
}

// reader follows one kind.
type reader struct {
	kind int
	of   kind
	cfg  *Config
	out  chan<- news
}

func (r *reader) tell(ctx context.Context, n news) error {
	n.kind = r.kind
	select {
	case r.out <- n:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errGone says that the watch has to begin with a list.
var errGone = errors.New("the cluster does not know the version any more")

// errNotThere says that the cluster does not have what was asked for.
var errNotThere = errors.New("the cluster has no such object")

func (r *reader) run(ctx context.Context) {
	wait, version := retryFirst, ""
	for ctx.Err() == nil {
		var err error
		if version == "" {
			version, err = r.list(ctx)
		}
		if err == nil {
			began := time.Now()
			version, err = r.watch(ctx, version)
			if time.Since(began) > retryLast {
				wait = retryFirst
			}
		}
		if err == nil {
			continue // it ended as it should, and goes on where it ended
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errGone) {
			version = ""
		} else {
			_ = r.tell(ctx, news{blind: true}) // ctx ends the loop
			r.cfg.Log.Warn("cluster not read", "path", r.of.path, "error", err, "again", wait)
			version = ""
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, retryLast)
	}
}

func (r *reader) get(ctx context.Context, query url.Values) (*http.Response, error) {
	if r.of.only != "" {
		query.Set("fieldSelector", r.of.only)
	}
	return ask(ctx, r.cfg.Cluster, r.cfg.ClusterURL+r.of.path+"?"+query.Encode(), "application/json")
}

// ask gets something from the cluster. The caller closes its body.
func ask(ctx context.Context, client *http.Client, url, accept string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the cluster: %w", err)
	}
	request.Header.Set("Accept", accept)
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the cluster: %w", err)
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer func() { _ = response.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10)) // what there is of it
	switch response.StatusCode {
	case http.StatusGone:
		return nil, errGone
	case http.StatusNotFound:
		return nil, errNotThere
	}
	return nil, fmt.Errorf("the cluster says %s: %.300s", response.Status, message(text))
}

// message is what a Status says, or the text itself.
func message(text []byte) string {
	var status struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(text, &status) == nil && status.Message != "" {
		return status.Message
	}
	return string(text)
}

// list reads everything, page by page, and tells it at once.
func (r *reader) list(ctx context.Context) (version string, err error) {
	var all []item
	next := ""
	for {
		page, err := r.page(ctx, next)
		if err != nil {
			return "", err
		}
		for _, data := range page.Items {
			i, ok, _, err := r.of.read(data)
			if err != nil {
				return "", fmt.Errorf("read an object of %s: %w", r.of.path, err)
			}
			if ok {
				all = append(all, i)
			}
		}
		if next = page.Metadata.Continue; next == "" {
			return page.Metadata.ResourceVersion, r.tell(ctx, news{all: all, list: true})
		}
	}
}

type page struct {
	Metadata struct {
		ResourceVersion string `json:"resourceVersion"`
		Continue        string `json:"continue"`
	} `json:"metadata"`
	Items []json.RawMessage `json:"items"`
}

func (r *reader) page(ctx context.Context, next string) (p page, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	query := url.Values{"limit": {fmt.Sprint(pageSize)}}
	if next != "" {
		query.Set("continue", next)
	}
	response, err := r.get(ctx, query)
	if err != nil {
		return p, err
	}
	defer func() { _ = response.Body.Close() }()
	if err := json.NewDecoder(io.LimitReader(response.Body, maxPage)).Decode(&p); err != nil {
		return p, fmt.Errorf("read list: %w", err)
	}
	return p, nil
}

// watch tells changes until the cluster ends the watch, and returns where to go
// on.
func (r *reader) watch(ctx context.Context, version string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	response, err := r.get(ctx, url.Values{
		"watch": {"true"}, "resourceVersion": {version}, "allowWatchBookmarks": {"true"}, "timeoutSeconds": {fmt.Sprint(int(watchFor.Seconds()))},
	})
	if err != nil {
		return version, err
	}
	defer func() { _ = response.Body.Close() }()
	silent := time.AfterFunc(quiet, cancel)
	defer silent.Stop()
	decoder := json.NewDecoder(response.Body)
	for {
		var e struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := decoder.Decode(&e); err != nil {
			if errors.Is(err, io.EOF) {
				return version, nil
			}
			return version, fmt.Errorf("watch: %w", err)
		}
		silent.Reset(quiet)
		if e.Type == "ERROR" {
			var s struct {
				Code int `json:"code"`
			}
			if json.Unmarshal(e.Object, &s) == nil && s.Code == http.StatusGone {
				return version, errGone
			}
			return version, fmt.Errorf("watch: the cluster says %.300s", message(e.Object))
		}
		i, ok, m, err := r.of.read(e.Object)
		if err != nil {
			return version, fmt.Errorf("read an object of %s: %w", r.of.path, err)
		}
		version = m.ResourceVersion
		n := news{key: m.Namespace + "/" + m.Name}
		switch {
		case e.Type == "BOOKMARK":
			continue
		case ok && e.Type != "DELETED":
			n.put = &i
		}
		if err := r.tell(ctx, n); err != nil {
			return version, err
		}
	}
}

// post sends one post to the control plane.
func (w *Watcher) post(ctx context.Context, p *objectwire.Post) (answer objectwire.Answer, err error) {
	body, err := json.Marshal(p)
	if err != nil {
		return answer, fmt.Errorf("write objects: %w", err)
	}
	return answer, w.deliver(ctx, w.door+"/objects", body, &answer)
}

// deliver posts a body to a door, and reads the answer into answer unless that
// is nil.
func (w *Watcher) deliver(ctx context.Context, door string, body []byte, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, door, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("tell the control plane: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := w.cfg.Client.Do(request)
	if err != nil {
		return fmt.Errorf("tell the control plane: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("tell the control plane: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the control plane says %s: %.300s", response.Status, message(data))
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("read the control plane's answer: %w", err)
	}
	return nil
}
