package e2e

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// What decided a request stands on its event: the reason also of a denial, the
// policy by name, what admission has to say, and that it was an emergency. What
// strangers try is counted when it is too much.
func TestContributions(t *testing.T) {
	t.Parallel()
	g := start(t)
	k := as(t, g)
	k.run("create", "namespace", "lab")
	for _, name := range []string{"robot", "rescuer"} {
		k.run("create", "serviceaccount", name, "-n", "lab")
	}
	k.run("create", "configmap", "plans", "-n", "lab")
	robot := withToken(t, g, strings.TrimSpace(k.run("create", "token", "robot", "-n", "lab")))
	rescuer := withToken(t, g, strings.TrimSpace(k.run("create", "token", "rescuer", "-n", "lab")))
	is := func(what string, key, value string, filters ...string) {
		t.Helper()
		eventually(t, commandWithin, what, func() bool {
			return record(t, g, filters...).has(func(e event) bool { return e.Stage == "ResponseComplete" && e.Annotations[key] == value })
		})
	}
	byRobot := []string{"--user", "system:serviceaccount:lab:robot"}
	byRescuer := []string{"--user", "system:serviceaccount:lab:rescuer"}

	robot.fails(1, []string{"Forbidden"}, "get", "configmaps", "-n", "lab")
	is("a denial says why", "authorization.k8s.io/reason", "no binding and no policy allows it", append(byRobot, "--decision", "forbid")...)

	policy := func(mark string) string {
		return `{apiVersion: access.gatehouse.dev/v1alpha1, kind: AccessPolicy, metadata: {name: fire, annotations: {gatehouse.dev/break-glass: ` + mark + `}}, spec: {
		  effect: Allow, sites: [gatehouse], subjects: [{kind: ServiceAccount, name: robot, namespace: lab}], rules: [{apiGroups: [""], resources: [configmaps], verbs: [get, list]}]}}`
	}
	k.feed(policy(`"false"`), "apply", "-f", "-")
	eventually(t, commandWithin, "the policy counts", func() bool { return robot.exec("", "get", "configmaps", "-n", "lab").Code == 0 })
	is("the policy is named", "audit.gatehouse.dev/policies", "AccessPolicy/fire", append(byRobot, "--decision", "allow")...)
	if record(t, g, byRobot...).has(func(e event) bool { return e.Annotations["audit.gatehouse.dev/break-glass"] != "" }) {
		t.Error("what is no emergency is marked as one")
	}
	k.feed(policy(`incident 4711`), "apply", "-f", "-")
	eventually(t, commandWithin, "the emergency is marked", func() bool {
		robot.run("get", "configmaps", "-n", "lab")
		return record(t, g, byRobot...).has(func(e event) bool { return e.Annotations["audit.gatehouse.dev/break-glass"] == "incident 4711" })
	})
	k.run("create", "rolebinding", "glass", "-n", "lab", "--clusterrole=edit", "--serviceaccount=lab:rescuer")
	k.run("annotate", "rolebinding", "glass", "-n", "lab", "gatehouse.dev/break-glass=true")
	eventually(t, commandWithin, "the binding's emergency is marked", func() bool {
		return rescuer.exec("", "get", "configmaps", "-n", "lab").Code == 0 && record(t, g, byRescuer...).has(func(e event) bool {
			return e.Annotations["audit.gatehouse.dev/break-glass"] == "RoleBinding glass" && strings.Contains(e.Annotations["authorization.k8s.io/reason"], "glass")
		})
	})
	k.feed(`{apiVersion: access.gatehouse.dev/v1alpha1, kind: AccessPolicy, metadata: {name: never}, spec: {
	  effect: Deny, sites: [gatehouse], message: not here, subjects: [{kind: ServiceAccount, name: rescuer, namespace: lab}], rules: [{apiGroups: [""], resources: [configmaps], verbs: [delete]}]}}`, "apply", "-f", "-")
	eventually(t, commandWithin, "the denying policy counts", func() bool { return rescuer.exec("", "delete", "configmap", "nothing", "-n", "lab").Code == 1 })
	is("the denying policy is named", "audit.gatehouse.dev/policies", "AccessPolicy/never", append(byRescuer, "--decision", "forbid")...)

	// Admission.
	k.feed(`apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: careful}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]}
  validations: [{expression: "object.metadata.name != 'odd'", message: "an odd name"}]
  auditAnnotations: [{key: seen, valueExpression: "'name ' + object.metadata.name"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: careful}
spec: {policyName: careful, validationActions: [Audit]}
`, "apply", "-f", "-")
	eventually(t, commandWithin, "admission annotates", func() bool {
		k.run("delete", "configmap", "odd", "-n", "lab", "--ignore-not-found")
		k.run("create", "configmap", "odd", "-n", "lab")
		return record(t, g, "--resource", "configmaps", "--name", "odd", "--verb", "create").has(func(e event) bool {
			return e.Annotations["careful/seen"] == "name odd" && strings.Contains(e.Annotations["validation.policy.admission.k8s.io/validation_failure"], "an odd name")
		})
	})

	// Strangers.
	c := bareClient(t, g)
	const tries = 200
	for range tries {
		if code, _ := c.send(http.MethodGet, "/api/v1/namespaces/lab/configmaps", nil, nil); code != http.StatusUnauthorized {
			t.Fatalf("a stranger gets %d", code)
		}
	}
	eventually(t, commandWithin, "the rest is counted", func() bool {
		counted, recorded := 0, 0
		for _, e := range record(t, g, "--verb", "gap") {
			n, err := strconv.Atoi(e.Annotations["audit.gatehouse.dev/gap-count"])
			if err == nil && strings.Contains(e.Annotations["audit.gatehouse.dev/gap"], "without a valid credential from 127.0.0.1") {
				counted += n
			}
		}
		for _, e := range record(t, g) {
			if e.ResponseStatus.Code == 401 && strings.HasSuffix(e.RequestURI, "/lab/configmaps") {
				recorded++
			}
		}
		// How many are counted depends on how fast they came.
		return counted > 0 && counted+recorded == tries
	})
	if err := drain(g); err != nil {
		t.Fatal(err)
	}
	auditCommand(t, 0, "verify", "--data-dir", g.DataDir)
}
