package pod

import (
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// jsonName is a field as clients write it.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// validateHooks checks probes and the hooks at start and stop.
func validateHooks(at *field.Path, c *corev1.Container, spec *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	grace := spec.TerminationGracePeriodSeconds
	if l := c.Lifecycle; l != nil {
		at := at.Child("lifecycle")
		if l.PostStart != nil {
			errs = append(errs, validateHandler(at.Child("postStart"), handlerOf(l.PostStart), grace)...)
		}
		if l.PreStop != nil {
			errs = append(errs, validateHandler(at.Child("preStop"), handlerOf(l.PreStop), grace)...)
		}
		if l.StopSignal != nil && spec.OS == nil {
			errs = append(errs, field.Forbidden(at.Child("stopSignal"), "needs spec.os.name"))
		}
	}
	errs = append(errs, validateProbe(at.Child("livenessProbe"), c.LivenessProbe)...)
	errs = append(errs, validateProbe(at.Child("startupProbe"), c.StartupProbe)...)
	errs = append(errs, validateProbe(at.Child("readinessProbe"), c.ReadinessProbe)...)
	for name, p := range map[string]*corev1.Probe{"livenessProbe": c.LivenessProbe, "startupProbe": c.StartupProbe} {
		if p != nil && p.SuccessThreshold != 1 {
			errs = append(errs, field.Invalid(at.Child(name, "successThreshold"), p.SuccessThreshold, "must be 1"))
		}
	}
	if p := c.ReadinessProbe; p != nil && p.TerminationGracePeriodSeconds != nil {
		errs = append(errs, field.Invalid(at.Child("readinessProbe", "terminationGracePeriodSeconds"), *p.TerminationGracePeriodSeconds,
			"cannot be set for a probe that ends nothing"))
	}
	return errs
}

// forbidHooks refuses them in init containers, which run to their end.
func forbidHooks(at *field.Path, c *corev1.Container) field.ErrorList {
	const msg = "cannot be set for an init container without restartPolicy Always"
	var errs field.ErrorList
	if c.Lifecycle != nil {
		errs = append(errs, field.Forbidden(at.Child("lifecycle"), msg))
	}
	if c.LivenessProbe != nil {
		errs = append(errs, field.Forbidden(at.Child("livenessProbe"), msg))
	}
	if c.ReadinessProbe != nil {
		errs = append(errs, field.Forbidden(at.Child("readinessProbe"), msg))
	}
	if c.StartupProbe != nil {
		errs = append(errs, field.Forbidden(at.Child("startupProbe"), msg))
	}
	for i, p := range c.ResizePolicy {
		if p.RestartPolicy == corev1.RestartContainer {
			errs = append(errs, field.Invalid(at.Child("resizePolicy").Index(i).Child("restartPolicy"), p.RestartPolicy, msg))
		}
	}
	return errs
}

func validateProbe(at *field.Path, p *corev1.Probe) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := validateHandler(at, handler{exec: p.Exec, httpGet: p.HTTPGet, tcpSocket: p.TCPSocket, grpc: p.GRPC}, nil)
	errs = append(errs, notNegative(at.Child("initialDelaySeconds"), int64(p.InitialDelaySeconds))...)
	errs = append(errs, notNegative(at.Child("timeoutSeconds"), int64(p.TimeoutSeconds))...)
	errs = append(errs, notNegative(at.Child("periodSeconds"), int64(p.PeriodSeconds))...)
	errs = append(errs, notNegative(at.Child("successThreshold"), int64(p.SuccessThreshold))...)
	errs = append(errs, notNegative(at.Child("failureThreshold"), int64(p.FailureThreshold))...)
	if s := p.TerminationGracePeriodSeconds; s != nil && *s <= 0 {
		errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), *s, "must be greater than 0"))
	}
	return errs
}

// handler is what probes and hooks have in common.
type handler struct {
	exec      *corev1.ExecAction
	httpGet   *corev1.HTTPGetAction
	tcpSocket *corev1.TCPSocketAction
	grpc      *corev1.GRPCAction
	sleep     *corev1.SleepAction
}

func handlerOf(l *corev1.LifecycleHandler) handler {
	return handler{exec: l.Exec, httpGet: l.HTTPGet, tcpSocket: l.TCPSocket, sleep: l.Sleep}
}

// validateHandler asks for exactly one way to act; grace bounds a sleep.
func validateHandler(at *field.Path, h handler, grace *int64) field.ErrorList {
	var errs field.ErrorList
	kinds := 0
	count := func(name string) *field.Path {
		if kinds++; kinds > 1 {
			errs = append(errs, field.Forbidden(at.Child(name), "only one handler can be set"))
		}
		return at.Child(name)
	}
	if h.exec != nil {
		if at := count("exec"); len(h.exec.Command) == 0 {
			errs = append(errs, field.Required(at.Child("command"), ""))
		}
	}
	if h.httpGet != nil {
		errs = append(errs, validateHTTPGet(count("httpGet"), h.httpGet)...)
	}
	if h.tcpSocket != nil {
		errs = append(errs, portNumberOrName(count("tcpSocket").Child("port"), h.tcpSocket.Port)...)
	}
	if h.grpc != nil {
		errs = append(errs, portNumberOrName(count("grpc").Child("port"), intstr.FromInt32(h.grpc.Port))...)
	}
	if h.sleep != nil {
		at := count("sleep")
		if s := h.sleep.Seconds; s < 0 || grace != nil && s > *grace {
			errs = append(errs, field.Invalid(at.Child("seconds"), s, "must be between 0 and terminationGracePeriodSeconds"))
		}
	}
	if kinds == 0 {
		errs = append(errs, field.Required(at, "must have a handler"))
	}
	return errs
}

func validateHTTPGet(at *field.Path, g *corev1.HTTPGetAction) field.ErrorList {
	errs := portNumberOrName(at.Child("port"), g.Port)
	if g.Path == "" {
		errs = append(errs, field.Required(at.Child("path"), ""))
	}
	errs = append(errs, oneOf(at.Child("scheme"), g.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)...)
	for i, h := range g.HTTPHeaders {
		errs = append(errs, messages(at.Child("httpHeaders").Index(i).Child("name"), h.Name, validation.IsHTTPHeaderName(h.Name))...)
	}
	return errs
}
