package bootstrap

import (
	certificatesv1 "k8s.io/api/certificates/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/access/rbac"
)

var (
	create    = []string{"create"}
	read      = []string{"get", "list", "watch"}
	write     = []string{"create", "delete", "deletecollection", "patch", "update"}
	readWrite = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

	core           = []string{""}
	apps           = []string{"apps"}
	authentication = []string{"authentication.k8s.io"}
	authorization  = []string{"authorization.k8s.io"}
	autoscaling    = []string{"autoscaling"}
	batch          = []string{"batch"}
	certificates   = []string{"certificates.k8s.io"}
	coordination   = []string{"coordination.k8s.io"}
	discovery      = []string{"discovery.k8s.io"}
	events         = []string{"", "events.k8s.io"}
	extensions     = []string{"extensions"}
	networking     = []string{"networking.k8s.io"}
	policy         = []string{"policy"}
	grants         = []string{rbacv1.GroupName}
	allocation     = []string{"resource.k8s.io"}
)

// systemRoles are the roles of the machinery and of what every caller may do.
func systemRoles() []*rbacv1.ClusterRole {
	return []*rbacv1.ClusterRole{
		clusterRole(rbac.ClusterAdmin, nil,
			resources([]string{"*"}, []string{"*"}, "*"),
			urls("*", "*")),

		clusterRole("system:discovery", nil, urls("get",
			"/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez",
			"/openapi", "/openapi/*", "/readyz", "/version", "/version/")),
		clusterRole("system:public-info-viewer", nil, urls("get",
			"/healthz", "/livez", "/readyz", "/version", "/version/")),
		clusterRole("system:basic-user", nil,
			resources(create, authorization, "selfsubjectaccessreviews", "selfsubjectrulesreviews"),
			resources(create, authentication, "selfsubjectreviews")),
		// The single checks can name what a server depends on, so they are
		// not public as the sums of them are.
		clusterRole("system:monitoring", nil,
			urls("get", "/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis", "/readyz", "/readyz/*"),
			resources([]string{"get"}, core, "nodes/metrics")),
		// With and without the final slash: clients generated from older API
		// descriptions ask with it.
		clusterRole("system:service-account-issuer-discovery", nil, urls("get",
			"/.well-known/openid-configuration", "/.well-known/openid-configuration/",
			"/openid/v1/jwks", "/openid/v1/jwks/")),
		clusterRole("system:auth-delegator", nil,
			resources(create, authentication, "tokenreviews"),
			resources(create, authorization, "subjectaccessreviews")),

		clusterRole("system:node", nil, nodeRules()...),
		clusterRole("system:node-bootstrapper", nil,
			resources([]string{"create", "get", "list", "watch"}, certificates, "certificatesigningrequests")),
		clusterRole("system:node-problem-detector", nil,
			resources([]string{"get"}, core, "nodes"),
			resources([]string{"patch"}, core, "nodes/status"),
			resources([]string{"create", "patch", "update"}, events, "events")),

		clusterRole("system:certificates.k8s.io:certificatesigningrequests:nodeclient", nil,
			resources(create, certificates, "certificatesigningrequests/nodeclient")),
		clusterRole("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", nil,
			resources(create, certificates, "certificatesigningrequests/selfnodeclient")),
		approver("system:certificates.k8s.io:kube-apiserver-client-approver", certificatesv1.KubeAPIServerClientSignerName),
		approver("system:certificates.k8s.io:kube-apiserver-client-kubelet-approver", certificatesv1.KubeAPIServerClientKubeletSignerName),
		approver("system:certificates.k8s.io:kubelet-serving-approver", certificatesv1.KubeletServingSignerName),
		approver("system:certificates.k8s.io:legacy-unknown-approver", "kubernetes.io/legacy-unknown"),
	}
}

func approver(name, signer string) *rbacv1.ClusterRole {
	rule := resources([]string{"approve"}, certificates, "signers")
	rule.ResourceNames = []string{signer}
	return clusterRole(name, nil, rule)
}

func nodeRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		resources(create, authentication, "tokenreviews"),
		resources(create, authorization, "localsubjectaccessreviews", "subjectaccessreviews"),
		resources([]string{"create", "get", "list", "watch"}, core, "nodes"),
		resources([]string{"patch", "update"}, core, "nodes", "nodes/status", "pods/status"),
		resources([]string{"create", "patch", "update"}, events, "events"),
		resources(read, core, "configmaps", "pods", "secrets"),
		resources([]string{"create", "delete"}, core, "pods"),
		resources(create, core, "serviceaccounts/token"),
		resources([]string{"get"}, core, "serviceaccounts"),
		resources([]string{"create", "get", "list", "watch"}, certificates, "certificatesigningrequests"),
		resources([]string{"create", "delete", "get", "patch", "update"}, coordination, "leases"),
	}
}

// userRoles are the roles that people bind: admin contains edit, edit contains
// view, and whoever adds a kind adds it by a role with the aggregation label.
func userRoles() []*rbacv1.ClusterRole {
	return []*rbacv1.ClusterRole{
		aggregated("admin", nil),
		aggregated("edit", aggregateTo("admin")),
		aggregated("view", aggregateTo("edit")),
		clusterRole("system:aggregate-to-admin", aggregateTo("admin"),
			resources(create, authorization, "localsubjectaccessreviews"),
			resources(readWrite, grants, "rolebindings", "roles")),
		clusterRole("system:aggregate-to-edit", aggregateTo("edit"), editRules()...),
		clusterRole("system:aggregate-to-view", aggregateTo("view"), viewRules()...),
	}
}

func aggregateTo(role string) map[string]string {
	return map[string]string{rbacv1.GroupName + "/aggregate-to-" + role: "true"}
}

func aggregated(name string, labels map[string]string) *rbacv1.ClusterRole {
	role := clusterRole(name, labels)
	role.AggregationRule = &rbacv1.AggregationRule{
		ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: aggregateTo(name)}},
	}
	return role
}

// viewRules leave out whatever gives more power when read: secrets, and the
// subresources through which a pod or a service can be entered.
func viewRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		resources(read, core, "configmaps", "endpoints", "persistentvolumeclaims", "persistentvolumeclaims/status", "pods",
			"replicationcontrollers", "replicationcontrollers/scale", "serviceaccounts", "services", "services/status"),
		// In a namespace this reads that namespace's own object, which is how
		// a client finds out where it has access.
		resources(read, core, "bindings", "limitranges", "namespaces", "namespaces/status", "pods/log", "pods/status",
			"replicationcontrollers/status", "resourcequotas", "resourcequotas/status"),
		resources(read, events, "events"),
		resources(read, discovery, "endpointslices"),
		resources(read, apps, "controllerrevisions", "daemonsets", "daemonsets/status",
			"deployments", "deployments/scale", "deployments/status", "replicasets", "replicasets/scale", "replicasets/status",
			"statefulsets", "statefulsets/scale", "statefulsets/status"),
		resources(read, autoscaling, "horizontalpodautoscalers", "horizontalpodautoscalers/status"),
		resources(read, batch, "cronjobs", "cronjobs/status", "jobs", "jobs/status"),
		resources(read, extensions, "daemonsets", "daemonsets/status", "deployments", "deployments/scale", "deployments/status",
			"ingresses", "ingresses/status", "networkpolicies", "replicasets", "replicasets/scale", "replicasets/status",
			"replicationcontrollers/scale"),
		resources(read, policy, "poddisruptionbudgets", "poddisruptionbudgets/status"),
		resources(read, networking, "ingresses", "ingresses/status", "networkpolicies"),
		resources(read, allocation, "resourceclaims", "resourceclaims/status", "resourceclaimtemplates"),
	}
}

// editRules grant neither status subresources nor quotas: those limit the
// editor.
func editRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		resources(read, core, "pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"),
		// Whoever may run a pod or read a token acts as the service account
		// anyway.
		resources([]string{"impersonate"}, core, "serviceaccounts"),
		resources(write, core, "pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"),
		resources(create, core, "pods/eviction", "serviceaccounts/token"),
		resources(write, core, "configmaps", "persistentvolumeclaims", "replicationcontrollers", "replicationcontrollers/scale",
			"secrets", "serviceaccounts", "services", "services/proxy"),
		resources(write, events, "events"),
		resources(write, apps, "daemonsets", "deployments", "deployments/rollback", "deployments/scale",
			"replicasets", "replicasets/scale", "statefulsets", "statefulsets/scale"),
		resources(write, autoscaling, "horizontalpodautoscalers"),
		resources(write, batch, "cronjobs", "jobs"),
		resources(write, extensions, "daemonsets", "deployments", "deployments/rollback", "deployments/scale", "ingresses",
			"networkpolicies", "replicasets", "replicasets/scale", "replicationcontrollers/scale"),
		resources(write, policy, "poddisruptionbudgets"),
		resources(write, networking, "ingresses", "networkpolicies"),
		resources(readWrite, coordination, "leases"),
		resources(write, allocation, "resourceclaims", "resourceclaimtemplates"),
	}
}
