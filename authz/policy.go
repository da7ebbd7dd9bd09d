package authz

// SubjectKind tells how the name of a [Subject] is compared with a caller. A
// kind other than the three below matches nobody.
type SubjectKind string

// The kinds of subject that RBAC knows.
const (
	User           SubjectKind = "User"
	Group          SubjectKind = "Group"
	ServiceAccount SubjectKind = "ServiceAccount"
)

// Subject is one receiver of a binding.
type Subject struct {
	Kind SubjectKind
	// Name is the user or group name, or the name of the service account
	// inside Namespace.
	Name string
	// Namespace belongs to service accounts only. Empty means the namespace
	// of the binding; in a cluster binding an empty one matches nobody.
	Namespace string
}

// Wildcard stands for every verb, API group or resource in a [Rule].
const Wildcard = "*"

// Rule is a set of permitted actions: every verb on every resource of every
// API group listed, or every verb on every URL listed. The two halves are
// independent; a rule may carry both.
type Rule struct {
	// Verbs are exact names or [Wildcard].
	Verbs []string
	// APIGroups are exact names ("" is the core group) or [Wildcard].
	APIGroups []string
	// Resources are "pods", "pods/log", "*/scale" or [Wildcard].
	Resources []string
	// ResourceNames limits the rule to objects of these names; empty means
	// every name. A limited rule does not match a request without a name.
	ResourceNames []string
	// NonResourceURLs are exact paths, or prefixes when they end in "*".
	NonResourceURLs []string
}

// The kinds of role a [Binding] may name. Any other kind grants nothing.
const (
	RoleKind        = "Role"
	ClusterRoleKind = "ClusterRole"
)

// Role is a named list of rules. Namespace "" makes it a cluster role.
type Role struct {
	Namespace, Name string
	Rules           []Rule
	// Bootstrap marks a role that the control plane made for itself. It never
	// answers a site's question. A name that begins with "system:" implies it.
	Bootstrap bool
}

// Binding gives a role to subjects. Namespace "" makes it a cluster binding,
// which grants everywhere; any other grants inside its namespace only.
//
// A binding may name a role that does not exist: it grants nothing until the
// role appears. A cluster binding can only use a cluster role.
type Binding struct {
	Namespace, Name    string
	RoleKind, RoleName string
	Subjects           []Subject
	// Bootstrap marks a binding that the control plane made for itself. It
	// never answers a site's question. A name that begins with "system:"
	// implies it.
	Bootstrap bool
}

// Site is what the engine must know of a connected platform to answer its
// questions.
type Site struct {
	Name string
	// SharedRBAC lets the control plane's roles and bindings, without the
	// bootstrap ones, answer the site's questions, read as if the site's
	// namespaces were the control plane's namespaces of the same names.
	SharedRBAC bool
}
