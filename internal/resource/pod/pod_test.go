package pod

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kind "github.com/gatehouse-dev/gatehouse/internal/resource"
)

func waiting(name, reason string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}
}

func running(name string, ready bool, restarts int32) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, Ready: ready, RestartCount: restarts, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
}

func terminated(name, reason string, code, signal int32) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: reason, ExitCode: code, Signal: signal}}}
}

func TestStatusColumns(t *testing.T) {
	t.Parallel()
	always := corev1.ContainerRestartPolicyAlways
	started := true
	sidecar := running("proxy", true, 4)
	sidecar.Started = &started
	ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}
	deleted := metav1.NewTime(time.Unix(1, 0))
	for name, c := range map[string]struct {
		init       []corev1.Container
		initStatus []corev1.ContainerStatus
		status     []corev1.ContainerStatus
		conditions []corev1.PodCondition
		phase      corev1.PodPhase
		reason     string
		deleted    *metav1.Time
		want       summary
	}{
		"nothing known":        {phase: corev1.PodPending, want: summary{total: 2, reason: "Pending"}},
		"evicted":              {phase: corev1.PodFailed, reason: "Evicted", want: summary{total: 2, reason: "Evicted"}},
		"running":              {phase: corev1.PodRunning, status: []corev1.ContainerStatus{running("a", true, 1), running("b", true, 2)}, want: summary{ready: 2, total: 2, reason: "Running", restarts: 3}},
		"first waits":          {phase: corev1.PodPending, status: []corev1.ContainerStatus{waiting("a", "ImagePullBackOff"), waiting("b", "ContainerCreating")}, want: summary{total: 2, reason: "ImagePullBackOff"}},
		"one crashes":          {phase: corev1.PodRunning, status: []corev1.ContainerStatus{waiting("a", "CrashLoopBackOff"), running("b", true, 0)}, want: summary{ready: 1, total: 2, reason: "CrashLoopBackOff"}},
		"exit code":            {phase: corev1.PodFailed, status: []corev1.ContainerStatus{terminated("a", "", 3, 0)}, want: summary{total: 2, reason: "ExitCode:3"}},
		"signal":               {phase: corev1.PodFailed, status: []corev1.ContainerStatus{terminated("a", "", 137, 9)}, want: summary{total: 2, reason: "Signal:9"}},
		"done and running":     {phase: corev1.PodRunning, conditions: []corev1.PodCondition{ready}, status: []corev1.ContainerStatus{terminated("a", "Completed", 0, 0), running("b", true, 0)}, want: summary{ready: 1, total: 2, reason: "Running"}},
		"done, running, unfit": {phase: corev1.PodRunning, status: []corev1.ContainerStatus{terminated("a", "Completed", 0, 0), running("b", true, 0)}, want: summary{ready: 1, total: 2, reason: "NotReady"}},
		"done and failed":      {phase: corev1.PodFailed, status: []corev1.ContainerStatus{terminated("a", "Completed", 0, 0), terminated("b", "Error", 1, 0)}, want: summary{total: 2, reason: "Error"}},
		"first of two inits":   {phase: corev1.PodPending, init: []corev1.Container{{Name: "i"}, {Name: "j"}}, initStatus: []corev1.ContainerStatus{waiting("i", "PodInitializing"), waiting("j", "PodInitializing")}, want: summary{total: 2, reason: "Init:0/2"}},
		"second of two inits":  {phase: corev1.PodPending, init: []corev1.Container{{Name: "i"}, {Name: "j"}}, initStatus: []corev1.ContainerStatus{terminated("i", "Completed", 0, 0), running("j", false, 2)}, want: summary{total: 2, reason: "Init:1/2", restarts: 2}},
		"init fails":           {phase: corev1.PodPending, init: []corev1.Container{{Name: "i"}}, initStatus: []corev1.ContainerStatus{terminated("i", "", 1, 0)}, want: summary{total: 2, reason: "Init:ExitCode:1"}},
		"init waits":           {phase: corev1.PodPending, init: []corev1.Container{{Name: "i"}}, initStatus: []corev1.ContainerStatus{waiting("i", "ErrImagePull")}, want: summary{total: 2, reason: "Init:ErrImagePull"}},
		"sidecar": {phase: corev1.PodRunning, init: []corev1.Container{{Name: "proxy", RestartPolicy: &always}, {Name: "i"}},
			initStatus: []corev1.ContainerStatus{sidecar, terminated("i", "Completed", 0, 0)}, status: []corev1.ContainerStatus{running("a", true, 1)},
			want: summary{ready: 2, total: 3, reason: "Running", restarts: 5}},
		"gated":            {phase: corev1.PodPending, conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated}}, want: summary{total: 2, reason: "SchedulingGated"}},
		"deleted":          {phase: corev1.PodRunning, deleted: &deleted, status: []corev1.ContainerStatus{running("a", true, 0)}, want: summary{ready: 1, total: 2, reason: "Terminating"}},
		"deleted and done": {phase: corev1.PodSucceeded, deleted: &deleted, want: summary{total: 2, reason: "Succeeded"}},
		"node lost":        {phase: corev1.PodRunning, reason: "NodeLost", deleted: &deleted, want: summary{total: 2, reason: "Unknown"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: c.deleted},
				Spec:       corev1.PodSpec{InitContainers: c.init, Containers: []corev1.Container{{Name: "a"}, {Name: "b"}}},
				Status: corev1.PodStatus{Phase: c.phase, Reason: c.reason, Conditions: c.conditions,
					InitContainerStatuses: c.initStatus, ContainerStatuses: c.status},
			}
			if got := summarize(p); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestQualityOfService(t *testing.T) {
	t.Parallel()
	list := func(cpu, memory string) corev1.ResourceList {
		l := corev1.ResourceList{}
		if cpu != "" {
			l[corev1.ResourceCPU] = resource.MustParse(cpu)
		}
		if memory != "" {
			l[corev1.ResourceMemory] = resource.MustParse(memory)
		}
		return l
	}
	full := corev1.ResourceRequirements{Requests: list("1", "1Gi"), Limits: list("1", "1Gi")}
	for name, c := range map[string]struct {
		containers, init []corev1.ResourceRequirements
		pod              *corev1.ResourceRequirements
		want             corev1.PodQOSClass
	}{
		"nothing":          {containers: []corev1.ResourceRequirements{{}}, want: corev1.PodQOSBestEffort},
		"zero is nothing":  {containers: []corev1.ResourceRequirements{{Requests: list("0", "0")}}, want: corev1.PodQOSBestEffort},
		"all of it":        {containers: []corev1.ResourceRequirements{full, full}, want: corev1.PodQOSGuaranteed},
		"one without":      {containers: []corev1.ResourceRequirements{full, {}}, want: corev1.PodQOSBurstable},
		"init without":     {containers: []corev1.ResourceRequirements{full}, init: []corev1.ResourceRequirements{{}}, want: corev1.PodQOSBurstable},
		"only cpu":         {containers: []corev1.ResourceRequirements{{Requests: list("1", ""), Limits: list("1", "")}}, want: corev1.PodQOSBurstable},
		"request below":    {containers: []corev1.ResourceRequirements{{Requests: list("1", "1Gi"), Limits: list("2", "1Gi")}}, want: corev1.PodQOSBurstable},
		"the pod as one":   {containers: []corev1.ResourceRequirements{{}}, pod: &full, want: corev1.PodQOSGuaranteed},
		"the pod, loosely": {containers: []corev1.ResourceRequirements{full}, pod: &corev1.ResourceRequirements{Requests: list("1", "")}, want: corev1.PodQOSBurstable},
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{Resources: c.pod}}
		for _, r := range c.containers {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Resources: r})
		}
		for _, r := range c.init {
			p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Resources: r})
		}
		if got := qualityOfService(p); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestTerminatedContainersStayDown(t *testing.T) {
	t.Parallel()
	never, onFailure := corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure
	rule := func(operator corev1.ContainerRestartRuleOnExitCodesOperator, codes ...int32) []corev1.ContainerRestartRule {
		return []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestart, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: operator, Values: codes}}}
	}
	all := []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestartAllContainers, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: "In", Values: []int32{9}}}}
	for name, c := range map[string]struct {
		pod       corev1.RestartPolicy
		container corev1.Container
		code      int32
		want      bool
	}{
		"always":                      {corev1.RestartPolicyAlways, corev1.Container{}, 0, true},
		"never":                       {corev1.RestartPolicyNever, corev1.Container{}, 1, false},
		"on failure, failed":          {corev1.RestartPolicyOnFailure, corev1.Container{}, 1, true},
		"on failure, succeeded":       {corev1.RestartPolicyOnFailure, corev1.Container{}, 0, false},
		"own policy wins":             {corev1.RestartPolicyAlways, corev1.Container{RestartPolicy: &never}, 1, false},
		"own policy, failed":          {corev1.RestartPolicyNever, corev1.Container{RestartPolicy: &onFailure}, 1, true},
		"rule matches":                {corev1.RestartPolicyNever, corev1.Container{RestartPolicy: &never, RestartPolicyRules: rule("In", 42)}, 42, true},
		"rule does not match":         {corev1.RestartPolicyNever, corev1.Container{RestartPolicy: &never, RestartPolicyRules: rule("In", 42)}, 1, false},
		"negative rule matches":       {corev1.RestartPolicyNever, corev1.Container{RestartPolicy: &never, RestartPolicyRules: rule("NotIn", 42)}, 1, true},
		"any may restart all of them": {corev1.RestartPolicyNever, corev1.Container{RestartPolicy: &never, RestartPolicyRules: all}, 1, true},
	} {
		c.container.Name = "a"
		old := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: c.pod, Containers: []corev1.Container{c.container}}}
		old.Status.ContainerStatuses = []corev1.ContainerStatus{terminated("a", "", c.code, 0)}
		p := old.DeepCopy()
		p.Status.ContainerStatuses = []corev1.ContainerStatus{running("a", true, 1)}
		if errs := validateStatus(p, old); c.want != (len(errs) == 0) {
			t.Errorf("%s: %v", name, errs)
		}
	}
}

func TestStatusUpdateKeepsTheRest(t *testing.T) {
	t.Parallel()
	old := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Generation: 3, OwnerReferences: []metav1.OwnerReference{{Name: "set"}}},
		Spec:       corev1.PodSpec{NodeName: "node-1"},
		Status:     corev1.PodStatus{QOSClass: corev1.PodQOSBurstable, ObservedGeneration: 2},
	}
	p := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "node-2"}}
	prepareStatus(kind.Caller{}, p, old)
	if p.Spec.NodeName != "node-1" || p.Generation != 3 || len(p.OwnerReferences) != 1 ||
		p.Status.QOSClass != corev1.PodQOSBurstable || p.Status.ObservedGeneration != 2 {
		t.Errorf("got %+v", p)
	}
}
