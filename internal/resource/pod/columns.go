package pod

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// nodeUnreachable is the status reason of pods whose node is lost.
const nodeUnreachable = "NodeLost"

var columns = []resource.Column[*corev1.Pod]{
	{
		Name: "Ready", Description: "How many containers are ready.",
		Value: func(p *corev1.Pod) any {
			s := summarize(p)
			return fmt.Sprintf("%d/%d", s.ready, s.total)
		},
	},
	{Name: "Status", Description: "What the containers are doing.", Value: func(p *corev1.Pod) any { return summarize(p).reason }},
	{
		Name: "Restarts", Description: "How often containers have been restarted, and when last.",
		Value: func(p *corev1.Pod) any {
			s := summarize(p)
			if s.restarts == 0 || s.lastRestart.IsZero() {
				return strconv.Itoa(s.restarts)
			}
			return fmt.Sprintf("%d (%s ago)", s.restarts, resource.Since(s.lastRestart))
		},
	},
	resource.Age[*corev1.Pod](),
	{Name: "IP", Priority: 1, Description: "The address of the pod.", Value: func(p *corev1.Pod) any { return orNone(p.Status.PodIP) }},
	{Name: "Node", Priority: 1, Description: "The node that runs the pod.", Value: func(p *corev1.Pod) any { return orNone(p.Spec.NodeName) }},
	{
		Name: "Nominated Node", Priority: 1, Description: "The node on which room is made for the pod.",
		Value: func(p *corev1.Pod) any { return orNone(p.Status.NominatedNodeName) },
	},
	{
		Name: "Readiness Gates", Priority: 1, Description: "How many further conditions of readiness hold.",
		Value: func(p *corev1.Pod) any { return readinessGates(p) },
	},
}

func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}

func readinessGates(p *corev1.Pod) string {
	if len(p.Spec.ReadinessGates) == 0 {
		return "<none>"
	}
	open := 0
	for _, gate := range p.Spec.ReadinessGates {
		if conditionTrue(p, gate.ConditionType) {
			open++
		}
	}
	return fmt.Sprintf("%d/%d", open, len(p.Spec.ReadinessGates))
}

func conditionTrue(p *corev1.Pod, kind corev1.PodConditionType) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// summary is a pod in one line of a table.
type summary struct {
	ready, total int
	reason       string
	restarts     int
	lastRestart  metav1.Time
}

// restarted counts the restarts of one container.
func (s *summary) restarted(c *corev1.ContainerStatus) {
	s.restarts += int(c.RestartCount)
	if t := c.LastTerminationState.Terminated; t != nil && s.lastRestart.Before(&t.FinishedAt) {
		s.lastRestart = t.FinishedAt
	}
}

// summarize follows the life of a pod: while its init containers run they
// tell the story, afterwards the containers do.
func summarize(p *corev1.Pod) summary {
	sidecars := map[string]bool{}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars[c.Name] = true
		}
	}
	s := summary{total: len(p.Spec.Containers) + len(sidecars), reason: string(p.Status.Phase)}
	if p.Status.Reason != "" {
		s.reason = p.Status.Reason
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			s.reason = corev1.PodReasonSchedulingGated
		}
	}

	initializing, lasting := s.summarizeInit(p, sidecars)
	if !initializing || conditionTrue(p, corev1.PodInitialized) {
		// Restarts from before the start no longer matter, except those of
		// containers that go on running.
		s.restarts, s.lastRestart = lasting.restarts, lasting.lastRestart
		s.summarizeContainers(p)
	}

	if p.DeletionTimestamp != nil {
		switch {
		case p.Status.Reason == nodeUnreachable:
			s.reason = "Unknown"
		case p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed:
			s.reason = "Terminating"
		}
	}
	return s
}

// summarizeInit reports whether the pod is still being initialized, and the
// restarts of its sidecars alone.
func (s *summary) summarizeInit(p *corev1.Pod, sidecars map[string]bool) (initializing bool, lasting summary) {
	for i := range p.Status.InitContainerStatuses {
		c := &p.Status.InitContainerStatuses[i]
		s.restarted(c)
		if sidecars[c.Name] {
			lasting.restarted(c)
		}
		switch terminated, waiting := c.State.Terminated, c.State.Waiting; {
		case terminated != nil && terminated.ExitCode == 0:
			continue
		case sidecars[c.Name] && c.Started != nil && *c.Started:
			if c.Ready {
				s.ready++
			}
			continue
		case terminated != nil:
			s.reason = "Init:" + ended(terminated)
		case waiting != nil && waiting.Reason != "" && waiting.Reason != "PodInitializing":
			s.reason = "Init:" + waiting.Reason
		default:
			s.reason = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		return true, lasting
	}
	return false, lasting
}

func (s *summary) summarizeContainers(p *corev1.Pod) {
	running, failure := false, ""
	// Backwards, so that the first container has the last word.
	for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := &p.Status.ContainerStatuses[i]
		s.restarted(c)
		switch terminated, waiting := c.State.Terminated, c.State.Waiting; {
		case waiting != nil && waiting.Reason != "":
			s.reason = waiting.Reason
		case terminated != nil:
			s.reason = ended(terminated)
			if terminated.ExitCode != 0 {
				failure = s.reason
			}
		case c.Ready && c.State.Running != nil:
			running = true
			s.ready++
		}
	}
	if s.reason != "Completed" {
		return
	}
	switch {
	case running && conditionTrue(p, corev1.PodReady):
		s.reason = "Running"
	case failure != "":
		s.reason = failure
	case running:
		s.reason = "NotReady"
	}
}

func ended(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}
