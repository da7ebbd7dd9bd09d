package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/internal/edge/cluster"
	"github.com/gatehouse-dev/gatehouse/internal/edge/watch"
)

// watchOptions are the flags of watch.
type watchOptions struct {
	server, site, dir, kubeconfig string
}

func watchCommand() *cobra.Command {
	var o watchOptions
	c := &cobra.Command{
		Use:   "watch --server URL --site NAME --dir DIR [--kubeconfig FILE]",
		Short: "Tell the control plane what it cannot see of a cluster from outside",
		Long: `Lists and watches the nodes, pods, persistent volumes and volume attachments of a cluster,
and tells the control plane which node needs which objects: names alone, never what
is in a pod or a secret. The control plane answers questions about the cluster's
nodes from that where the Site says authorization.nodes: Needed.

It also reads, four times a minute, the metrics of each kube-apiserver, and tells
how many audit events it made and how many it threw away, which a kube-apiserver
tells nobody by itself: each loss becomes a gap in the record with its count. The
kube-apiservers are those of the EndpointSlice default/kubernetes, each at its own
address, or else the one of the kubeconfig. The condition AuditAccounted of the Site
says whether all of them are reached.

It runs inside the cluster with a service account that may do nothing else; without
--kubeconfig it uses that of its pod. "gatehouse-edge watch manifest" prints the
permissions. Two copies may run beside each other.

DIR holds site.crt, site.key and ca.crt as "gatehouse site connect" wrote them; they
are read again for every new connection. It prints "ready SITE" once the control
plane has everything. While a part of the cluster cannot be read it confirms nothing,
and within a minute the rules that need the objects do not match any more; the
condition ObjectsCurrent of the Site says so.`,
		Example: `  gatehouse-edge watch --site blue --server https://gatehouse.example:7443 \
      --dir /etc/gatehouse/site`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serveWatch(cmd.Context(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.server, "server", "", "https URL of the control plane (required)")
	f.StringVar(&o.site, "site", "", "name of the site (required)")
	f.StringVar(&o.dir, "dir", "", "directory with site.crt, site.key and ca.crt (required)")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster; default: the service account of the pod")
	c.AddCommand(watchManifestCommand())
	return c
}

func serveWatch(ctx context.Context, o watchOptions) error {
	for flag, value := range map[string]string{"server": o.server, "site": o.site, "dir": o.dir} {
		if value == "" {
			return &exit{exitUsage, fmt.Errorf("--%s is required", flag)}
		}
	}
	client, err := siteClient(o.dir)
	if err != nil {
		return &exit{exitUsage, err}
	}
	url, there, err := clusterClient(o.kubeconfig)
	if err != nil {
		return &exit{exitUsage, err}
	}
	w, err := watch.New(watch.Config{
		ClusterURL: url, Cluster: there, Server: o.server, Site: o.site, Client: client,
		Confirmed: func() { fmt.Println("ready", o.site) },
		Log:       slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return &exit{exitUsage, err}
	}
	return w.Run(ctx)
}

// clusterClient reaches the cluster as a kubeconfig says, or as the pod that
// this runs in.
func clusterClient(kubeconfig string) (base string, client *http.Client, err error) {
	if kubeconfig == "" {
		return cluster.InPod()
	}
	return cluster.FromKubeconfig(kubeconfig)
}

// label is the grammar of a namespace.
var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func watchManifestCommand() *cobra.Command {
	var namespace string
	c := &cobra.Command{
		Use:   "manifest [--namespace NAME]",
		Short: "Print what the watcher has to be allowed in the cluster",
		Long: `Prints a namespace, a service account and a ClusterRole with its binding, for
kubectl apply. The roles read nodes, pods, persistent volumes, volume attachments, the
addresses of the kube-apiservers and their metrics, and nothing else: no secrets, no
config maps, no changes.`,
		Example: `  gatehouse-edge watch manifest | kubectl apply -f -`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !label.MatchString(namespace) {
				return &exit{exitUsage, fmt.Errorf("--namespace: %q is not the name of a namespace", namespace)}
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), watchManifest, namespace)
			return err
		},
	}
	c.Flags().StringVar(&namespace, "namespace", "gatehouse", "namespace of the service account")
	return c
}

const watchManifest = `apiVersion: v1
kind: Namespace
metadata:
  name: %[1]s
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: gatehouse-watch
  namespace: %[1]s
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: gatehouse-watch
rules:
- apiGroups: [""]
  resources: [nodes, pods, persistentvolumes]
  verbs: [list, watch]
- apiGroups: [storage.k8s.io]
  resources: [volumeattachments]
  verbs: [list, watch]
- nonResourceURLs: [/metrics]
  verbs: [get]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: gatehouse-watch
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: gatehouse-watch
subjects:
- kind: ServiceAccount
  name: gatehouse-watch
  namespace: %[1]s
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: gatehouse-watch
  namespace: default
rules:
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  resourceNames: [kubernetes]
  verbs: [get]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: gatehouse-watch
  namespace: default
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: gatehouse-watch
subjects:
- kind: ServiceAccount
  name: gatehouse-watch
  namespace: %[1]s
`
