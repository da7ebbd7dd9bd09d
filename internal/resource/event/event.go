// Package event describes events of core/v1: what happened to an object, kept
// for an hour, and who said so. Start with [New].
package event

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/gatehouse-dev/gatehouse/internal/resource"
)

// ttl is how long upstream keeps events by default.
const ttl = time.Hour

// What the server says of an event, whatever its writer says there: events tell
// about others, and many may write them.
const (
	// Author is the annotation that holds who created an event.
	Author = "audit.gatehouse.dev/author"
	// UpdatedBy holds who changed it last, if that was somebody else.
	UpdatedBy = "audit.gatehouse.dev/updated-by"
)

func annotate(e *corev1.Event, key, value string) {
	if value == "" {
		delete(e.Annotations, key)
		return
	}
	if e.Annotations == nil {
		e.Annotations = map[string]string{}
	}
	e.Annotations[key] = value
}

// New describes events.
func New() resource.Kind {
	return resource.Definition[*corev1.Event]{
		Names: resource.Names{
			GroupVersion: corev1.SchemeGroupVersion,
			Kind:         "Event",
			Resource:     "events",
			Singular:     "event",
			ShortNames:   []string{"ev"},
			Namespaced:   true,
		},
		New:          func() *corev1.Event { return &corev1.Event{} },
		NewList:      func() runtime.Object { return &corev1.EventList{} },
		ValidateName: resource.PathSegment,
		PrepareCreate: func(caller resource.Caller, e *corev1.Event) {
			delete(e.Annotations, UpdatedBy)
			annotate(e, Author, caller.Name)
		},
		PrepareUpdate: func(caller resource.Caller, e, old *corev1.Event) {
			delete(e.Annotations, UpdatedBy)
			author := old.Annotations[Author]
			annotate(e, Author, author)
			if caller.Name != author {
				annotate(e, UpdatedBy, caller.Name)
			}
		},
		Validate:            validate,
		CreateOnUpdate:      true,
		UnconditionalUpdate: true,
		TTL:                 ttl,
		Fields:              selectors,
		NameLast:            true,
		Columns:             columns,
	}.Kind()
}

var selectors = []resource.Field[*corev1.Event]{
	{Path: "involvedObject.kind", Value: func(e *corev1.Event) string { return e.InvolvedObject.Kind }},
	{Path: "involvedObject.namespace", Value: func(e *corev1.Event) string { return e.InvolvedObject.Namespace }},
	{Path: "involvedObject.name", Value: func(e *corev1.Event) string { return e.InvolvedObject.Name }},
	{Path: "involvedObject.uid", Value: func(e *corev1.Event) string { return string(e.InvolvedObject.UID) }},
	{Path: "involvedObject.apiVersion", Value: func(e *corev1.Event) string { return e.InvolvedObject.APIVersion }},
	{Path: "involvedObject.resourceVersion", Value: func(e *corev1.Event) string { return e.InvolvedObject.ResourceVersion }},
	{Path: "involvedObject.fieldPath", Value: func(e *corev1.Event) string { return e.InvolvedObject.FieldPath }},
	{Path: "reason", Value: func(e *corev1.Event) string { return e.Reason }},
	{Path: "reportingComponent", Value: func(e *corev1.Event) string { return e.ReportingController }},
	{Path: "source", Value: func(e *corev1.Event) string {
		if e.Source.Component != "" {
			return e.Source.Component
		}
		return e.ReportingController
	}},
	{Path: "type", Value: func(e *corev1.Event) string { return e.Type }},
}

var columns = []resource.Column[*corev1.Event]{
	{Name: "Last Seen", Description: "Time since the event was last seen.", Value: func(e *corev1.Event) any { return lastSeen(e) }},
	{Name: "Type", Description: "Normal or Warning.", Value: func(e *corev1.Event) any { return e.Type }},
	{Name: "Reason", Description: "Why, in one CamelCase word.", Value: func(e *corev1.Event) any { return e.Reason }},
	{Name: "Object", Description: "The object that the event is about.", Value: func(e *corev1.Event) any { return object(e) }},
	{Name: "Subobject", Description: "The part of the object.", Priority: 1, Value: func(e *corev1.Event) any { return e.InvolvedObject.FieldPath }},
	{Name: "Source", Description: "Who reports the event.", Priority: 1, Value: func(e *corev1.Event) any { return source(e) }},
	{Name: "Message", Description: "What happened.", Value: func(e *corev1.Event) any { return strings.TrimSpace(e.Message) }},
	{Name: "First Seen", Description: "Time since the event was first seen.", Priority: 1, Value: func(e *corev1.Event) any { return firstSeen(e) }},
	{Name: "Count", Description: "How often the event was seen.", Priority: 1, Value: func(e *corev1.Event) any { return count(e) }},
}

func firstSeen(e *corev1.Event) string {
	if e.FirstTimestamp.IsZero() {
		return resource.Since(metav1.Time(e.EventTime))
	}
	return resource.Since(e.FirstTimestamp)
}

func lastSeen(e *corev1.Event) string {
	switch {
	case e.Series != nil:
		return resource.Since(metav1.Time(e.Series.LastObservedTime))
	case e.LastTimestamp.IsZero():
		return firstSeen(e)
	}
	return resource.Since(e.LastTimestamp)
}

// count is 1 for events that say nothing: their one sighting is the event.
func count(e *corev1.Event) int64 {
	switch {
	case e.Series != nil:
		return int64(e.Series.Count)
	case e.Count == 0:
		return 1
	}
	return int64(e.Count)
}

func object(e *corev1.Event) string {
	kind := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name == "" {
		return kind
	}
	return kind + "/" + e.InvolvedObject.Name
}

func source(e *corev1.Event) string {
	component, host := e.Source.Component, e.Source.Host
	if component == "" {
		component = e.ReportingController
	}
	if host == "" {
		host = e.ReportingInstance
	}
	if host == "" {
		return component
	}
	return fmt.Sprintf("%s, %s", component, host)
}
